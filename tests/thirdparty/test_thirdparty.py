"""A foreign plugin that really installs: our wheel and its package in a virtual environment away from the checkout.

The environment is new and holds our wheel and the foreign packages alone; libraries such as torch come
from the environment that runs the tests, which is last on its path.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import jsonschema
import pytest
import skimage.data
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
HAZE = Path(__file__).parent / "invdiff-haze"

pytestmark = [
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in a checkout"),
    pytest.mark.skipif(
        not all(importlib.util.find_spec(m) for m in ("build", "hatchling", "pip")),
        reason="build, hatchling and pip are needed",
    ),
]

BROKEN = {
    "import_error": "import module_that_nobody_has\n",
    "misspelt_hook": "@hookimpl\ndef register_degradation(register): ...\n",
    "wrong_argument": "@hookimpl\ndef register_degradations(registrar): ...\n",
    "raises": "@hookimpl\ndef register_degradations(register):\n    raise RuntimeError('lost\\nthe way')\n",
    "duplicate": "from invdiff.testing.subjects import ToyBlur\n@hookimpl\n"
    "def register_degradations(register):\n    register('motion', ToyBlur)\n",
}

SHORT = {
    "train": "--set train.steps=2 --set train.batch=1",
    "run": "--set sampler.steps=1",
    "eval": "--set input.crop=64 --limit 1",
}
"""What the page's commands are run with in addition."""


class Place:
    """The environment, and a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        venv.create(folder / "venv", with_pip=True)
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        found = self.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        self.site = Path(found.stdout.strip())
        (self.site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *command: object, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "INVDIFF_PLUGINS")}
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        # No network: what is needed is there. (pip reads the last variable the other way round.)
        pip = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_IGNORE_INSTALLED": "1"}
        environment = {
            **kept,
            **pip,
            "PATH": path,
            "OMP_NUM_THREADS": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **more,
        }
        first = self.bin / str(command[0])
        words = [str(first if first.exists() else command[0]), *map(str, command[1:])]
        done = subprocess.run(words, cwd=self.work, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thirdparty")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    here = Place(folder)
    shutil.copytree(HAZE, folder / "haze")
    here.run("pip", "install", *(folder / "dist").glob("*.whl"), folder / "haze")
    (here.work / "photos").mkdir()
    for name in ("astronaut", "chelsea"):
        Image.fromarray(getattr(skimage.data, name)()).save(here.work / "photos" / f"{name}.png")
    shutil.copy(here.work / "photos" / "chelsea.png", here.work / "photo.png")
    shutil.copy(HAZE / "recipes" / "haze.yaml", here.work)
    return here


def test_ours_is_the_wheel(place):
    found = place.run("python", "-c", "import invdiff, invdiff_haze; print(invdiff.__file__, invdiff_haze.__file__)")
    assert [Path(p).parent.parent for p in found.stdout.split()] == [place.site, place.site]


def test_is_listed_with_its_owner(place):
    listing = json.loads(place.run("invdiff", "plugins", "--json").stdout)
    (haze,) = [c for c in listing["components"] if c["kind"] == "haze"]
    assert (haze["role"], haze["owner"], haze["conflict"]) == ("degradation", "invdiff-haze 2.3", False)
    assert listing["failures"] == []


def test_conforms(place):
    assert "passed" in place.run("invdiff", "check", "haze").stdout
    assert " FAILED " not in place.run("invdiff", "check", "haze", "--set", "thickest=0.5").stdout
    place.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", place.work.parent / "haze" / "tests")


def test_trains_and_restores(place):
    """A few dozen steps, and the haze is thinner: through the loop that knows of no haze."""
    place.run("invdiff", "train", "haze.yaml", "--data", "photos", "-o", "prior", "--seed", "1")
    place.run("invdiff", "run", "haze.yaml", "-o", "out", "--set", "prior.weights=prior/weights.safetensors")
    (entry,) = json.loads((place.work / "out" / "report.json").read_text())["images"]
    assert entry["metrics"]["psnr_y"] > entry["metrics"]["psnr_y_baseline"] + 1
    assert entry["metrics"]["lr_psnr"] > 15
    assert set(entry["parameters"]) == set(entry["true_parameters"]) == {"transmission", "airlight"}
    assert 0.29 < entry["parameters"]["transmission"] <= 1
    assert not list((place.work / "out").glob("*kernel*"))
    weights = ["--set", "prior.weights=prior/weights.safetensors"]
    place.run("invdiff", "run", "haze.yaml", "-i", "photo.png", "-o", "mine", *weights)
    with Image.open(place.work / "mine" / "photo.png") as restored, Image.open(place.work / "photo.png") as photo:
        assert restored.size == photo.size


def test_its_settings_are_checked_like_ours(place):
    text = (place.work / "haze.yaml").read_text()
    number = text.splitlines().index("  thickest: 0.3") + 1
    (place.work / "bad.yaml").write_text(text.replace("  thickest: 0.3", "  thikest: 0.3"))
    done = place.run("invdiff", "run", "bad.yaml", check=False)
    said = f"error: bad.yaml:{number}: degradation.thikest: unknown key (did you mean 'thickest'?)\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_the_schema_has_its_keys(place):
    schema = json.loads(place.run("invdiff", "schema").stdout)
    recipe = yaml.safe_load((place.work / "haze.yaml").read_text().replace("3e-3", "0.003"))
    jsonschema.validate(recipe, schema)
    recipe["degradation"]["thikest"] = recipe["degradation"].pop("thickest")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(recipe, schema)


def test_can_be_left_out(place):
    done = place.run("invdiff", "run", "haze.yaml", check=False, INVDIFF_PLUGINS="motion,mcformer")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no degradation is called 'haze'" in done.stderr


def test_broken_packages_harm_nobody(place):
    package = place.work / "broken"
    package.mkdir()
    for name, code in BROKEN.items():
        (package / f"broken_{name}.py").write_text(f"from invdiff.hookspecs import hookimpl\n{code}")
    entries = "".join(f'{name} = "broken_{name}"\n' for name in BROKEN)
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "broken"\nversion = "0.1"\n[project.entry-points.invdiff]\n{entries}'
        '[tool.hatch.build.targets.wheel]\ninclude = ["*.py"]\n'
    )
    place.run("pip", "install", package)
    try:
        lines = place.run("invdiff", "plugins").stdout.splitlines()
        for name, reason in (
            ("import_error", "ModuleNotFoundError: No module named 'module_that_nobody_has'"),
            ("misspelt_hook", "register_degradation"),
            ("wrong_argument", "registrar"),
            ("raises", "RuntimeError: lost the way"),
        ):
            (line,) = [line for line in lines if f" {name} " in line]
            assert "broken 0.1" in line
            assert "FAILED: " in line.split("broken 0.1")[1]
            assert reason in line
        assert any(line.split()[:2] == ["degradation", "haze"] for line in lines)
        assert sum("FAILED: registered twice" in line for line in lines) == 2
        done = place.run("invdiff", "check", "motion", check=False)
        assert done.returncode == 2
        assert "motion' is registered twice, by duplicate (broken 0.1) and motion (invdiff" in done.stderr
    finally:
        place.run("pip", "uninstall", "-y", "broken")


def test_a_first_party_plugin_stands_alone(place):
    """A folder of ``plugins/`` copied out, under another name and with a pyproject.toml of its own, works."""
    package = place.work / "shaken"
    shutil.copytree(ROOT / "plugins" / "invdiff_motion", package / "invdiff_shaken")
    haze = (HAZE / "pyproject.toml").read_text()
    (package / "pyproject.toml").write_text(haze.replace("invdiff_haze", "invdiff_shaken").replace("haze", "shaken"))
    place.run("pip", "install", package)
    try:
        only = {"INVDIFF_PLUGINS": "shaken,mcformer,kernel_guidance"}
        assert re.search(r"motion +invdiff-shaken 2\.3", place.run("invdiff", "plugins", **only).stdout)
        place.run("invdiff", "check", "motion", **only)
    finally:
        place.run("pip", "uninstall", "-y", "invdiff-shaken")


def test_the_page_from_an_empty_folder_to_a_restored_picture(place, tmp_path):
    """Every block of the page, in order: shell lines are run, code goes into the file that its first line names."""
    page = (ROOT / "docs" / "write-a-plugin.md").read_text()
    place.work, before = tmp_path, place.work
    try:
        shutil.copytree(before / "photos", tmp_path / "photos")
        shutil.copy(before / "photo.png", tmp_path / "photo.png")
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```", page, flags=re.M | re.S):
            if language in ("python", "yaml") and block.startswith("# "):
                file = tmp_path / block.splitlines()[0].removeprefix("# ")
                assert file.parent.is_dir(), file  # in what new-plugin wrote
                file.write_text(block)
            for line in block.splitlines() if language == "sh" else ():
                short = next((more for name, more in SHORT.items() if f"invdiff {name} " in line), "")
                place.run(*shlex.split(f"{line} {short}", comments=True))
        (line,) = [
            row for row in place.run("invdiff", "plugins").stdout.splitlines() if row.startswith("degradation  gamma")
        ]
        assert "gamma" in line.split("invdiff-gamma 0.1.0")[1]  # what it is now, not what it began as
        with Image.open(tmp_path / "out" / "photo.png") as restored:
            assert restored.size == (451, 300)
        with (tmp_path / "runs" / "measured" / "results.csv").open(newline="") as table:
            rows = {row["method"]: float(row["psnr_rgb"]) for row in csv.DictReader(table)}
        assert list(rows) == ["unrestored", "undo", "gamma"]
        assert rows["undo"] > rows["unrestored"]
    finally:
        place.work = before
        place.run("pip", "uninstall", "-y", "invdiff-gamma")
