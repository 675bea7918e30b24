"""What a recipe says of less patience and of more: read with it, over itself, and nothing without."""

from __future__ import annotations

import pytest

import invdiff
from invdiff.components.discovery import registry
from invdiff.errors import RecipeError
from invdiff.recipe.recipe import load_recipe

PACES = """\
fast: {sampler: {steps: 1, temperature: 0}, guidance: []}
best:
  sampler:
    orientations: 4
input:"""


@pytest.fixture
def paced(recipe):
    return recipe(("input:", PACES))


def read(path, pace=None, changes=()):
    return load_recipe(path, registry(), changes, pace)


def test_without_one_it_is_as_it_was(paced, recipe):
    plain = read(recipe(name="plain.yaml")).resolved()
    found = read(paced).resolved()
    assert {name for name in found if found[name] != plain[name]} == {"fast", "best"}


def test_fast_and_best(paced):
    plain, fast, best = (read(paced, pace) for pace in (None, "fast", "best"))
    assert fast.sampler == plain.sampler.model_copy(update={"steps": 1, "temperature": 0})
    assert fast.guidance == ()
    assert best.sampler == plain.sampler.model_copy(update={"orientations": 4})
    assert best.guidance == plain.guidance
    assert (plain.pace, fast.pace, best.pace) == (None, "fast", "best")


def test_a_change_has_the_last_word(paced):
    assert read(paced, "fast", ["sampler.steps=3"]).sampler.steps == 3


def test_so_has_a_change_of_the_pace_itself(paced):
    assert read(paced, "fast", ["sampler.steps=3", "fast.sampler.steps=2"]).sampler.steps == 3
    assert read(paced, "fast", ["fast.sampler.steps=2"]).sampler.steps == 2
    assert read(paced, None, ["fast.sampler.steps=4"]).sampler.steps == read(paced).sampler.steps


def test_from_the_command_line(cli, paced, picture, tmp_path, report):
    photo, steps = picture("a.png"), {}
    for option in ([], ["--fast"], ["--best"]):
        out = tmp_path / f"out{''.join(option)}"
        assert cli("run", paced, photo, "-o", out, *option).code == 0
        entry = report(out)["a"]
        steps[tuple(option)] = entry["steps"], entry["evaluations"]
    assert steps == {(): (2, 2), ("--fast",): (1, 1), ("--best",): (8, 8)}
    assert cli("run", paced, photo, "-o", tmp_path / "out", "--fast").code == 0  # is done again, not taken for the same
    assert report(tmp_path / "out")["a"]["steps"] == 1


def test_both_at_once_and_none_said(refused, recipe, paced):
    assert "give one of them" in refused("run", paced, "--fast", "--best")
    assert "leave --fast and --best out" in refused("run", paced, "--fast", "--samples", "2")
    assert "says nothing of 'best': leave --best out" in refused("run", recipe(name="plain.yaml"), "--best")


def test_a_saved_recipe_has_both(paced, tmp_path):
    folder = invdiff.save_pretrained(paced, tmp_path / "saved")
    (saved,) = folder.glob("*.yaml")
    for pace in ("fast", "best"):
        assert read(saved, pace).sampler == read(paced, pace).sampler
        assert invdiff.from_pretrained(folder, pace=pace).sampler == read(paced, pace).sampler
        assert len(read(saved, pace).guidance) == len(read(paced, pace).guidance)


@pytest.mark.parametrize("pace", [None, "fast"])
@pytest.mark.parametrize(
    ("fast", "words"),
    [
        ("{steps: 1}", r"tiny.yaml:\d+: fast.steps: unknown key"),
        ("{sampler: 3}", r"tiny.yaml:\d+: fast.sampler: "),
        ("{guidance: 3}", r"tiny.yaml:\d+: fast.guidance: "),
        ("3", r"tiny.yaml:\d+: fast: "),
        ("[]", r"tiny.yaml:\d+: fast: "),
    ],
)
def test_mistakes_are_found_asked_for_or_not(recipe, pace, fast, words):
    with pytest.raises(RecipeError, match=words):
        read(recipe(("input:", f"fast: {fast}\ninput:")), pace)


def test_mistakes_within_are_said_where_they_stand(recipe):
    path = recipe(("input:", "fast:\n  sampler:\n    steps: 0\ninput:"))
    line = path.read_text().splitlines().index("    steps: 0") + 1
    with pytest.raises(RecipeError, match=rf"tiny.yaml:{line}: sampler.steps: "):
        read(path, "fast")


def test_a_recipe_above_does_not_take_it_over(paced, tmp_path):
    (tmp_path / "above.yaml").write_text(f"extends: {paced.name}\nname: above\n", encoding="utf-8")
    assert read(tmp_path / "above.yaml").fast is None


def test_the_recipe_for_other_photos_goes_at_its_own(recipe):
    """At that pace where it says what it is, and as ever where it does not; error bars hold for no pace."""
    instead = "draws: {floor: 0.1}\ninstead: {recipe: other.yaml, noise: 0.02, quality: 80}\n" + PACES
    path = recipe(("input:", instead))
    recipe(("input:", "fast: {sampler: {steps: 3}}\ninput:"), ("name: tiny", "name: other"), name="other.yaml")
    fast, best = (invdiff.load(path, pace=pace) for pace in ("fast", "best"))
    assert fast.instead.pipeline.sampler.steps == 3
    assert best.instead.pipeline.sampler.orientations == 1
    assert fast.draws.floor == best.draws.floor == 0
    assert invdiff.load(path).draws.floor == 0.1
