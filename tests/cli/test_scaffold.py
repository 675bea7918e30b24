"""``invdiff new-plugin``: a package that is whole, conforms, and never overwrites. tests/thirdparty installs one."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml


@pytest.mark.parametrize(("name", "cls"), [("haze", "Haze"), ("two_blurs", "TwoBlurs"), ("x2", "X2"), ("no", "No")])
def test_writes_a_package_that_passes_its_tests(cli, tmp_path, name, cls):
    folder = tmp_path / "package"
    result = cli("new-plugin", name, "-o", folder)
    assert (result.code, result.err) == (0, "")
    assert f"invdiff check {name}" in result.out
    assert not [p for p in folder.rglob("*") if "$" in p.name or (p.is_file() and "$" in p.read_text())]
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["invdiff"] == {name: f"invdiff_{name}"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"invdiff_{name}"]
    assert f"class {cls}(Degradation[{cls}Settings])" in (folder / f"invdiff_{name}" / "operator.py").read_text()
    assert yaml.safe_load((folder / "recipes" / f"{name}.yaml").read_text())["degradation"]["kind"] == name
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    # It is found where it lies, also where the suite around this runs with a safe path.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_default_folder(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("new-plugin", "fog").code == 0
    assert Path("invdiff-fog", "pyproject.toml").exists()


@pytest.mark.parametrize("name", ["Haze", "2haze", "my-haze", "class", "none", "", "../haze", "ha ze"])
def test_names_that_are_no_words_are_refused(refused, tmp_path, name):
    assert "a name is a Python word in small letters" in refused("new-plugin", name, "-o", tmp_path / "package")
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("motion", "invdiff_motion is installed already"),
        ("box_space", "BoxSpace would hide"),
        ("x" * 300, "cannot write"),
    ],
)
def test_packages_that_could_not_work_are_refused(refused, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("new-plugin", name)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(refused, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "already there and not empty" in refused("new-plugin", "haze", "-o", tmp_path)
    assert "already there and not empty" in refused("new-plugin", "haze", "-o", tmp_path / "notes.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert "cannot write" in refused("new-plugin", "haze", "-o", tmp_path / "notes.txt" / "below")
