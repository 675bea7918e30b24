"""Recipes that extend others: what is merged, where mistakes are said to be, and the ablations that rest on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from invdiff.components.discovery import registry
from invdiff.errors import RecipeError
from invdiff.recipe.recipe import load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def overlay(recipe, tmp_path):
    """Writes a recipe that extends the tiny one, which lies in a folder beside it."""
    base = recipe(name="base.yaml")
    (tmp_path / "over").mkdir()

    def write(text, extends="../base.yaml", name="over.yaml"):
        path = tmp_path / "over" / name
        path.write_text(f"extends: {extends}\n{text}", encoding="utf-8")
        return path

    write.base = base
    return write


def resolved(path, *overrides):
    return load_recipe(path, registry(), overrides).resolved()


def test_an_empty_overlay_is_its_base(overlay):
    assert resolved(overlay("")) == resolved(overlay.base)


def test_keys_are_merged_one_by_one(overlay):
    found = resolved(overlay("name: other\nsampler: {steps: 7}\n"))
    want = resolved(overlay.base)
    want["name"], want["sampler"]["steps"] = "other", 7
    assert found == want


def test_lists_are_replaced_as_a_whole(overlay):
    overlay.base.write_text(overlay.base.read_text().replace("strength: 1.0", "strength: 2.0"))
    assert resolved(overlay.base)["guidance"][0]["strength"] == 2.0
    assert resolved(overlay("guidance: []\n"))["guidance"] == []
    found = resolved(overlay("guidance: [{kind: kernel_aware, squared: true}]\n"))["guidance"]
    assert len(found) == 1
    assert found[0]["squared"]
    assert found[0]["strength"] == 1.0  # the default


def test_a_component_of_another_kind_brings_none_of_the_old_settings(overlay):
    found = resolved(overlay("degradation: {kind: motion, kernel_size: 31}\n"))["degradation"]
    assert found["kind"] == "motion"
    assert "scale" not in found


def test_null_takes_away(overlay):
    assert resolved(overlay("sampler: {tile: null}\n"))["sampler"]["tile"] is None


def test_overlays_of_overlays(overlay):
    overlay("sampler: {steps: 7, eta: 0.5}\n", name="middle.yaml")
    found = resolved(overlay("sampler: {steps: 9}\n", extends="middle.yaml"))["sampler"]
    assert (found["steps"], found["eta"]) == (9, 0.5)


def test_set_comes_last(overlay):
    assert resolved(overlay("sampler: {steps: 7}\n"), "sampler.steps=3")["sampler"]["steps"] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sampler:\n  stepz: 7\n", "over.yaml:3: sampler.stepz: unknown key (did you mean 'steps'?)"),
        ("guidance:\n  - kind: kernel_aware\n    strength: -1\n", "over.yaml:4: guidance.0.strength: "),
        ("degradation: {scale: 5}\n", "over.yaml:2: degradation.scale: "),
        ("degradation: {kind: blurr}\n", "over.yaml:2: degradation.kind: "),
        ("extnds: x\n", "over.yaml:2: extnds: unknown key"),
    ],
)
def test_a_mistake_is_where_it_was_written(overlay, refused, text, said):
    assert said in refused("run", overlay(text))


def test_a_mistake_of_the_base_is_in_the_base(overlay, refused):
    overlay.base.write_text(overlay.base.read_text().replace("steps: 2", "stepz: 2"))
    message = refused("run", overlay("name: other\n"))
    assert f"base.yaml:{line(overlay.base, 'stepz')}: sampler.stepz: unknown key" in message


def line(path, word):
    return next(i for i, text in enumerate(path.read_text().splitlines(), 1) if word in text)


def test_lines_of_what_was_replaced_are_forgotten(overlay, refused):
    """``strength`` stood in the base's list; the overlay's has none, so its own line is named."""
    found = load_recipe(overlay("guidance:\n  - kind: kernel_aware\n"), registry())
    assert found.where("guidance.0.strength").endswith("over.yaml:3: guidance.0.strength")


def test_another_family_brings_none_of_the_old_settings(overlay):
    found = resolved(overlay("degradation: {kernels: {family: gaussian8}}\n"))["degradation"]["kernels"]
    assert found["sigma"] == [1.8, 3.2]


def test_names_that_no_file_can_have(overlay, refused):
    for name in ("x" * 300, '"a\\0b"'):
        assert "over.yaml:1: extends: no such recipe" in refused("run", overlay("", extends=name))


@pytest.mark.parametrize("value", ["3", "[a]", "null", "{a: b}", "''"])
def test_extends_is_a_path(overlay, refused, value):
    assert "over.yaml:1: extends: is the path of another recipe" in refused("run", overlay("", extends=value))


def test_a_base_that_is_not_there(overlay, refused):
    assert "over.yaml:1: extends: no such recipe: " in refused("run", overlay("", extends="../bsae.yaml"))
    assert "over.yaml:1: extends: no such recipe: " in refused("run", overlay("", extends=".."))


def test_circles(overlay, refused):
    assert "extends itself in a circle" in refused("run", overlay("", extends="over.yaml"))
    overlay("", extends="two.yaml", name="one.yaml")
    assert "two.yaml extends itself in a circle" in refused("run", overlay("", extends="one.yaml", name="two.yaml"))


def test_extends_cannot_be_set(overlay, refused):
    assert "--set extends=x.yaml: extends: unknown key" in refused("run", overlay(""), "--set", "extends=x.yaml")


def test_whose_line_a_setting_has(overlay):
    found = load_recipe(overlay("sampler:\n  steps: 7\n"), registry())
    assert found.where("sampler.steps").endswith("over.yaml:3: sampler.steps")
    eta = line(overlay.base, "eta")
    assert found.where("sampler.eta").endswith(f"base.yaml:{eta}: sampler.eta")


# --- the ablations: Table 3's check marks, and Table 4's lambdas

TABLE_3 = {  # kernel constraint, modulation, gradient
    "baseline": (False, False, None),
    "a": (True, False, "bicubic"),
    "b": (True, False, "estimated"),
    "c": (True, True, None),
    "d": (True, True, "estimated"),
    "e": (True, True, "bicubic"),
    "f": (False, False, "bicubic"),
}
NETWORKS = {(True, True): "full", (True, False): "constrained", (False, False): "plain"}


@pytest.mark.parametrize("model", TABLE_3)
def test_table_3_as_printed(model):
    constraint, modulation, gradient = TABLE_3[model]
    found = resolved(RECIPES / "ablations" / f"table3_{model}.yaml")
    network = NETWORKS[constraint, modulation]
    assert found["prior"]["weights"] == f"runs/ablations/{network}/weights.safetensors"
    assert [g["kernel"] for g in found["guidance"]] == ([gradient] if gradient else [])
    assert all(g["kind"] == "kernel_aware" and g["strength"] == 1 for g in found["guidance"])
    trained = resolved(RECIPES / "ablations" / "train" / f"{network}.yaml")
    assert (trained["train"]["parameter_weight"] > 0) == constraint
    assert (trained["prior"]["network"]["modulation"] == "kernel") == modulation


def test_table_4s_lambdas():
    found = {p.stem: resolved(p) for p in sorted((RECIPES / "ablations").glob("table4_*.yaml"))}
    strengths = {name: recipe["guidance"][0]["strength"] for name, recipe in found.items()}
    assert strengths == {f"table4_lambda_{x}": float(x) for x in ("0.1", "5", "10")}


def test_ablations_differ_in_nothing_else():
    """Same inputs, same sampler; trainings of one budget."""
    found = [resolved(p) for p in sorted((RECIPES / "ablations").glob("*.yaml"))]
    assert len(found) == 10
    for key in ("degradation", "sampler", "input", "seed"):
        assert all(recipe[key] == found[0][key] for recipe in found), key
    trained = [resolved(p) for p in sorted((RECIPES / "ablations" / "train").glob("*.yaml"))]
    for recipe in trained:
        recipe["train"].pop("parameter_weight")
        recipe["prior"]["network"].pop("modulation")
        recipe.pop("name")
    assert trained[0] == trained[1] == trained[2]


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError):
        load_recipe(tmp_path, registry())
