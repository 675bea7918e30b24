"""The dependencies: their lower bounds, as they are tried, and what SECURITY.md says of each."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {"docs", "test", "notebooks"}  # extras for whoever works on the project

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in a checkout")


def wanted():
    """The requirements of whoever uses the project: those of every installation, and those of extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {r for name, found in project["optional-dependencies"].items() if name not in TOOLS for r in found}
    return project["dependencies"], extras


def lines(name):
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def test_the_lower_bounds_are_those_that_are_tried():
    """A bound that is raised is tried, and nothing stands there that nobody asks for."""
    always, extras = wanted()
    assert lines("constraints-min.txt") == sorted(r.replace(">=", "==") for r in [*always, *extras])


def test_the_versions_that_are_tested_are_within_the_bounds():
    def number(version):
        return [int(part) for part in version.split(".")]

    tested = {name.lower(): version for name, _, version in (line.partition("==") for line in lines("constraints.txt"))}
    for line in lines("constraints-min.txt"):
        name, _, least = line.partition("==")
        if name in tested:
            assert number(tested[name]) >= number(least), name
    assert {r.partition(">=")[0] for r in wanted()[0]} <= set(tested)


def accounted():
    """Package and licence of each line of the tables in SECURITY.md."""
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", page, flags=re.M))


def test_every_dependency_is_accounted_for():
    """In SECURITY.md: its licence, why it is there, and what it reads of files that come from outside."""
    always, extras = wanted()
    assert sorted(accounted()) == sorted(re.split(r"[<>=\[]", r)[0] for r in [*always, *extras])


WORDS = {"MIT-CMU": "MIT", "BSD-3-Clause": "BSD", "Apache-2.0": "Apache", "PSF-2.0": "Python Software Foundation"}


@pytest.mark.parametrize("package", accounted() if (ROOT / "SECURITY.md").exists() else [])
def test_its_licence_is_what_it_says_itself(package):
    """And one that lets the project be used under its own."""
    try:
        found = metadata(package)
    except PackageNotFoundError:
        pytest.skip("not installed")
    classifiers = [line for line in found.get_all("Classifier") or [] if line.startswith("License ::")]
    said = " ".join([found.get("License-Expression") or "", (found.get("License") or "")[:40], *classifiers])
    licence = accounted()[package]
    assert licence in ("MIT", *WORDS)
    assert WORDS.get(licence, licence) in said
