"""Recipes: what is accepted, and that every mistake is named with its file, line and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from invdiff.components.discovery import registry
from invdiff.recipe.recipe import load_recipe

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))


def test_valid(recipe):
    found = load_recipe(recipe(), registry())
    assert (found.name, found.seed, found.train) == ("tiny", 3, None)
    assert [part.component.kind for part in (found.degradation, found.prior, *found.guidance)] == [
        "blindsr",
        "mcformer",
        "kernel_aware",
    ]
    assert found.degradation.settings.kernels.sigma == (0.2, 4.0)
    assert (found.sampler.steps, found.sampler.eta) == (2, 1.0)
    assert found.input.crop == 64
    assert found.resolved()["sampler"]["spacing"] == "uniform"  # a default, filled in


@pytest.mark.parametrize("path", RECIPES or [None], ids=lambda path: path.stem if path else "none")
def test_shipped_recipes(path):
    if path is None:
        pytest.skip("no recipes beside these tests: not in a checkout")
    found = load_recipe(path, registry())
    assert found.resolved()["degradation"]["kind"]


def test_shipped_training_recipe_has_a_train_section():
    if not RECIPES:
        pytest.skip("no recipes beside these tests: not in a checkout")
    trained = [found for found in (load_recipe(path, registry()) for path in RECIPES) if found.train]
    assert trained
    assert all(found.train.steps >= 1 for found in trained)


MISTAKES = {
    "unknown key": ("steps: 2", "stepz: 2", "15: sampler.stepz: unknown key (did you mean 'steps'?)"),
    "unknown section": ("sampler:", "samplr:", "14: samplr: unknown key (did you mean 'sampler'?)"),
    "unknown key in a list": ("strength:", "strenth:", "13: guidance.0.strenth: unknown key (did you mean 'stre"),
    "unknown kernel key": ("sigma:", "sigmas:", "9: degradation.kernels.sigmas: unknown key (did you mean 'sigma'?)"),
    "kernel value": ("[0.2, 4.0]", "[4.0, 0.2]", "9: degradation.kernels.sigma: sigma must be [low, high]"),
    "kernel value type": ("[0.2, 4.0]", "[0.2, wide]", "9: degradation.kernels.sigma.1: "),
    "wrong type": ("steps: 2", "steps: many", "15: sampler.steps: input should be a valid integer"),
    "fraction for a count": ("steps: 2", "steps: 2.5", "15: sampler.steps: input should be a valid integer"),
    "truth for a count": ("steps: 2", "steps: true", "15: sampler.steps: input should be a valid integer"),
    "too low": ("steps: 2", "steps: 0", "15: sampler.steps: input should be greater than or equal to 1, got 0"),
    "too high": ("eta: 1.0", "eta: 1.5", "16: sampler.eta: input should be less than or equal to 1, got 1.5"),
    "not a number": ("eta: 1.0", "eta: .nan", "16: sampler.eta: input should be a finite number"),
    "component's rule": ("_size: 21", "_size: 8", "6: degradation.kernel_size: kernel_size must be odd, got 8"),
    "component's choice": ("scale: 4", "scale: 5", "5: degradation.scale: input should be 2, 3 or 4, got 5"),
    "unknown kind": ("kind: blindsr", "kind: blindrs", "4: degradation.kind: no degradation is called 'blindrs' (did"),
    "missing kind": ("  kind: blindsr\n", "", "3: degradation.kind: missing (known: "),
    "missing name": ("name: tiny\n", "", "1: name: missing"),
    "bad name": ("name: tiny", "name: a/b", "1: name: string should match pattern"),
    "twice": ("steps: 2", "steps: 2\n  steps: 3", "16: sampler.steps: given twice"),
    "twice at the top": ("seed: 3", "seed: 3\nname: other", "3: name: given twice"),
    "section is no mapping": ("{kind: mcformer, weights: WEIGHTS}", "mcformer", "10: prior: input should"),
    "tab": ("  steps: 2", "\tsteps: 2", "15: not valid YAML: found character '\\t'"),
    "broken": ("steps: 2", "steps: [2", "16: not valid YAML: "),
    "python object": ("eta: 1.0", "eta: !!python/object/apply:os.getcwd []", "16: not valid YAML: could not determine"),
    "negative seed": ("seed: 3", "seed: -1", "2: seed: input should be greater than or equal to 0, got -1"),
    "key in train": ("seed: 3", "train: {stepz: 3}", "2: train.stepz: unknown key (did you mean 'steps'?)"),
    "key deep in train": ("seed: 3", "train:\n  noise: {medain: 3}", "3: train.noise.medain: unknown key (did you"),
}


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake(recipe, refused, old, new, expected):
    path = recipe((old, new))
    assert refused("run", path).startswith(f"{path}:{expected}")


FAMILIES = """\
  kernels:
    - family: isotropic
    - family: anisotropic
      noise: NOISE
"""


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ("7", "degradation.kernels.1.noise: input should be less than 1, got 7"),
        ("loud", "degradation.kernels.1.noise: input should be a valid number"),
        ("0.1\n      nois: 0.1", "degradation.kernels.1.nois: unknown key"),
    ],
)
def test_mistake_in_a_list_of_kernel_families(recipe, refused, noise, expected):
    families = FAMILIES.replace("NOISE", noise)
    path = recipe(("  kernels:\n    family: isotropic\n    sigma: [0.2, 4.0]\n", families))
    line = 10 if "\n" not in noise else 11
    assert refused("run", path).startswith(f"{path}:{line}: {expected}")


def test_unknown_kernel_family_lists_the_known(recipe, refused):
    path = recipe(("family: isotropic", "family: isotropc"))
    message = refused("run", path)
    assert message.startswith(f"{path}:")
    assert "'isotropc'" in message
    assert "'isotropic'" in message


@pytest.mark.parametrize(("text", "place"), [("", ":1"), ("- a\n", ":1"), ("text\n", ":1"), ("3\n", ":1")])
def test_not_a_mapping(recipe, refused, text, place):
    path = recipe(text=text)
    assert refused("run", path).startswith(f"{path}{place}: a recipe is a mapping")


def test_missing_file(tmp_path, refused):
    message = f"{tmp_path / 'x.yaml'}: no such recipe; 'invdiff recipes' lists those that come along"
    assert refused("run", tmp_path / "x.yaml") == message


def test_folder_and_binary(tmp_path, refused):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "binary.yaml"):
        assert refused("run", path).startswith(f"{path}: cannot be read as a recipe")


def test_alias_to_itself_is_one_line(recipe, refused):
    path = recipe(("sampler:\n  steps: 2\n  eta: 1.0\n", "sampler: &again {steps: *again}\n"))
    assert refused("run", path).startswith(f"{path}:14: ")


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("1.0e-3", 0.001), ("2E+1", 20.0), ("3", 3.0)])
def test_number_in_scientific_notation(recipe, text, value):
    found = load_recipe(recipe(("strength: 1.0", f"strength: {text}")), registry())
    assert found.guidance[0].settings.strength == value
    found = load_recipe(recipe(), registry(), [f"guidance.0.strength={text}"])
    assert found.guidance[0].settings.strength == value


def test_python_tag_runs_nothing(recipe, refused, tmp_path):
    made = tmp_path / "made"
    path = recipe(("eta: 1.0", f"eta: !!python/object/apply:os.mkdir ['{made}']"))
    refused("run", path)
    refused("run", recipe(), "--set", f"sampler.eta=!!python/object/apply:os.mkdir ['{made}']")
    assert not made.exists()


def test_set(recipe):
    overrides = [
        "sampler.steps=7",
        "name=other",
        "guidance.0.strength=2",
        "degradation.kernels.sigma=[1, 2]",
        "train.noise.median=0.5",
        "input.crop=null",
    ]
    found = load_recipe(recipe(), registry(), overrides)
    assert (found.sampler.steps, found.name, found.guidance[0].settings.strength) == (7, "other", 2.0)
    assert found.degradation.settings.kernels.sigma == (1.0, 2.0)
    assert found.train.noise.median == 0.5
    assert found.input.crop is None


def test_set_last_wins(recipe):
    assert load_recipe(recipe(), registry(), ["sampler.steps=7", "sampler.steps=8"]).sampler.steps == 8


ASSIGNMENTS = {
    "sampler.stepz=3": "sampler.stepz: unknown key (did you mean 'steps'?)",
    "samplr.steps=3": "samplr: unknown key (did you mean 'sampler'?)",
    "sampler.steps=0": "sampler.steps: input should be greater than or equal to 1, got 0",
    "sampler.steps.x=3": "sampler.steps: input should be a valid integer",
    "guidance.0.strenth=2": "guidance.0.strenth: unknown key (did you mean 'strength'?)",
    "guidance.1.strength=2": "the recipe has no 'guidance.1'",
    "guidance.x=2": "the recipe has no 'guidance.x'",
    "degradation.kernels.sigma=[5, 1]": "degradation.kernels.sigma: sigma must be",
    "degradation.kernels={family: isotropic, sigma: [5, 1]}": "degradation.kernels",
    "degradation.kind=blindrs": "degradation.kind: no degradation is called 'blindrs' (did you mean 'blindsr'?)",
    "sampler.steps": "write it as key=value, such as sampler.steps=50",
    "=3": "write it as key=value, such as sampler.steps=50",
    "sampler.steps=[": "the value is not valid YAML",
}


@pytest.mark.parametrize(("assignment", "expected"), ASSIGNMENTS.items(), ids=ASSIGNMENTS.keys())
def test_mistake_in_set(recipe, refused, assignment, expected):
    assert refused("run", recipe(), "--set", assignment).startswith(f"--set {assignment}: {expected}")


def test_more_steps_than_the_prior_has(recipe, refused):
    path = recipe(("steps: 2", "steps: 1001"))
    message = refused("run", path)
    assert message.startswith(f"{path}:15: sampler.steps: ")
    assert "1000" in message
