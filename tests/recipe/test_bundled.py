"""Recipes by name: what is listed runs, shows and extends; a path still is a path."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

import invdiff
from invdiff.assembly import read
from invdiff.recipe.bundled import about, bundled, folder

SMALL = ["--set", "input.crop=32", "--set", "sampler.steps=1", "--quiet"]


def test_the_list_says_a_line_of_each(cli):
    result = cli("recipes")
    assert (result.code, result.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert {"blindsr_x4", "deblur_ffhq"} <= set(lines)
    assert lines["blindsr_x4"].startswith("Blind super-resolution x4")
    assert list(lines) == sorted(lines) == list(bundled())
    assert all(about(path) for path in bundled().values())


@pytest.mark.parametrize("name", sorted(bundled()))
def test_show_prints_the_file(cli, name):
    shown = cli("recipes", "show", name)
    assert shown.code == 0
    assert shown.out == (folder() / f"{name}.yaml").read_text(encoding="utf-8")
    assert read(name).name == name


def test_a_recipe_by_name_is_the_one_by_path(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copy.yaml").write_text((folder() / "blindsr_x4.yaml").read_text())
    assert cli("run", "blindsr_x4", *SMALL).code == 0
    assert cli("run", "copy.yaml", "-o", "by_path", *SMALL).code == 0
    assert Path("runs/blindsr_x4/coffee.png").read_bytes() == Path("by_path/coffee.png").read_bytes()


def test_a_name_in_python_and_in_eval(cli, picture, tmp_path):
    assert invdiff.load("blindsr_x4").identity["name"] == "blindsr_x4"
    folder = picture("a.png", 32, 32).parent
    assert cli("eval", "blindsr_x4", folder, "-o", tmp_path / "out", *SMALL).code == 0
    assert cli("info", "blindsr_x4", "--size", "64").code == 0


def test_a_path_comes_first(recipe, tmp_path, monkeypatch):
    """A file of that name in the current folder is what is meant."""
    monkeypatch.chdir(tmp_path)
    recipe(("name: tiny", "name: mine"), name="blindsr_x4")
    assert read("blindsr_x4").name == "mine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blindsr_x5", "blindsr_x5: no such recipe (did you mean 'blindsr_x4'?)"),
        ("nothing_like_it", "nothing_like_it: no such recipe (known: blindsr_x4, "),
        ("recipes/none.yaml", "recipes/none.yaml: no such recipe"),
        ("x" * 300, "no such recipe"),
    ],
)
def test_what_is_neither(refused, name, words):
    for command in (["run"], ["info"], ["recipes", "show"]):
        assert words in refused(*command, name)


def test_a_recipe_can_be_pickled(recipe):
    """Worker processes get it whole, with the places of its keys."""
    path = recipe()
    found = read(path, ["sampler.steps=7"])
    again = pickle.loads(pickle.dumps(found))
    assert again.resolved() == found.resolved()
    assert again.where("degradation.scale") == found.where("degradation.scale") == f"{path}:5: degradation.scale"
    assert again.where("sampler.steps") == "--set sampler.steps=7: sampler.steps"


def test_a_pipeline_can_be_pickled(recipe):
    pipe = invdiff.load(recipe(), device="cpu")
    y = torch.rand(3, 16, 16)
    assert torch.equal(pickle.loads(pickle.dumps(pipe)).restore(y).image, pipe.restore(y).image)


def test_a_folder_of_that_name_does_not_hide_it(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blindsr_x4").mkdir()
    assert read("blindsr_x4").name == "blindsr_x4"
    from invdiff.evaluation.contenders import recipes_of

    assert recipes_of(Path("blindsr_x4")) == [folder() / "blindsr_x4.yaml"]
