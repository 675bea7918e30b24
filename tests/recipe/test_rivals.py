"""The rivals' recipes: each restores out of the box, and all of them stand in one table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from invdiff.assembly import read

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "rivals"
RECIPES = sorted(FOLDER.glob("*.yaml"))
NATURAL = sorted((FOLDER / "natural").glob("*.yaml"))
BLIND = sorted((FOLDER / "blind").glob("*.yaml"))

pytestmark = pytest.mark.skipif(not RECIPES, reason="no recipes beside these tests: not in a checkout")


@pytest.mark.parametrize("path", [*RECIPES, *NATURAL], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_it_restores(path, cli, report, tmp_path):
    """The sample, without weights or with those that come along: better than bicubic by half a decibel and more."""
    found = read(path)
    assert found.name == path.stem == found.guidance[0].component.kind
    result = cli("run", path, "-o", tmp_path / "out", "--set", "input.crop=96", "--quiet")
    assert (result.code, result.err) == (0, "")
    metrics = report(tmp_path / "out")["coffee"]["metrics"]
    assert metrics["psnr_y"] > metrics["psnr_y_baseline"] + 0.5


@pytest.mark.parametrize(
    ("recipes", "short"),
    [(RECIPES, "sampler.steps=2"), (NATURAL, "sampler={sigmas: [0.2, 0.05], steps: 2, start: measurement}")],
    ids=["tv", "natural"],
)
def test_one_table(cli, picture, tmp_path, recipes, short):
    """They share operator, prior and seed: the same measurements for all."""
    resolved = [read(path).resolved() for path in recipes]
    for key in ("degradation", "prior", "seed", "input"):
        assert all(one[key] == resolved[0][key] for one in resolved)
    folder = picture("a.png", 48, 48).parent
    options = ["--set", short, "--set", "input.crop=48", "--quiet"]
    result = cli("eval", recipes[0].parent, folder, "-o", tmp_path / "out", *options)
    assert (result.code, result.err) == (0, "")
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        assert {row["method"] for row in csv.DictReader(file)} == {path.stem for path in recipes}


@pytest.mark.parametrize("path", BLIND, ids=lambda path: path.stem)
def test_a_blind_one_finds_a_kernel(path, cli, report, tmp_path):
    """Two steps, for what it writes: they are measured in docs/benchmarks.md."""
    assert read(path).name == path.stem
    options = ["--set", "input.crop=64", "--set", "sampler.steps=2", "--quiet"]
    result = cli("run", path, "-o", tmp_path / "out", *options)
    assert (result.code, result.err) == (0, "")
    (entry,) = report(tmp_path / "out").values()
    assert entry["metrics"]["kernel_l1"] < 2
