"""``invdiff new-plugin``: a package that is whole, conforms, and never overwrites. tests/thirdparty installs one."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

BASES = {"operator": "Degradation[{}Settings]", "prior": "DenoiserPrior", "guidance": "Guidance[{}Settings]"}
KEYS = {"operator": "degradation", "prior": "prior", "guidance": "guidance"}


@pytest.mark.parametrize(
    ("role", "name", "cls"),
    [
        ("operator", "haze", "Haze"),
        ("operator", "two_blurs", "TwoBlurs"),
        ("operator", "x2", "X2"),
        ("prior", "no", "No"),
        ("guidance", "steep", "Steep"),
    ],
)
def test_writes_a_package_that_is_whole(cli, tmp_path, role, name, cls):
    folder = tmp_path / "package"
    result = cli("new-plugin", name, "-o", folder, *([] if role == "operator" else [f"--{role}"]))
    assert (result.code, result.err) == (0, "")
    assert f"invdiff check {name}" in result.out
    assert not [p for p in folder.rglob("*") if "$" in p.name or (p.is_file() and "$" in p.read_text())]
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["invdiff"] == {name: f"invdiff_{name}"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"invdiff_{name}"]
    assert f"class {cls}({BASES[role].format(cls)})" in (folder / f"invdiff_{name}" / f"{role}.py").read_text()
    used = yaml.safe_load((folder / "recipes" / f"{name}.yaml").read_text())[KEYS[role]]
    assert (used[0] if role == "guidance" else used)["kind"] == name


@pytest.mark.parametrize("role", BASES)
def test_its_own_tests_pass(cli, tmp_path, role):
    folder = tmp_path / "package"
    assert cli("new-plugin", "two_words", "-o", folder, *([] if role == "operator" else [f"--{role}"])).code == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    # It is found where it lies, also where the suite around this runs with a safe path.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("role", ["prior", "guidance"])
def test_its_recipe_restores(cli, site, report, tmp_path, role):
    """As it is written, found as installed packages are; and ``plugins`` says what its class says."""
    folder = tmp_path / "package"
    assert cli("new-plugin", "thing", f"--{role}", "-o", folder).code == 0
    (folder / "invdiff_thing").rename(site / "planted_thing")
    for file in (site / "planted_thing").glob("*.py"):
        file.write_text(file.read_text().replace("invdiff_thing", "planted_thing"))
    info = site / "thing-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[invdiff]\nthing = planted_thing\n")
    (line,) = [line for line in cli("plugins").out.splitlines() if " thing " in line]
    assert (
        line.split("0.1", 1)[1].strip()
        == {
            "prior": "A local Wiener filter: a denoiser without weights",
            "guidance": "A step of steepest descent on the residual, for linear operators",
        }[role]
    )
    done = cli("run", folder / "recipes" / "thing.yaml", "-o", tmp_path / "out", "--set", "input.crop=64", "--quiet")
    assert done.code == 0, done.err
    (metrics,) = [entry["metrics"] for entry in report(tmp_path / "out").values()]
    assert metrics["psnr_rgb"] > metrics["psnr_rgb_baseline"] + 0.5


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
