"""What is published works: the wheel holds everything, and the suite passes on it, away from the checkout."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in a checkout"),
    pytest.mark.skipif(
        not all(importlib.util.find_spec(m) for m in ("build", "hatchling")), reason="build and hatchling are needed"
    ),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built and unpacked: a folder that can stand first on the path, metadata included."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def run(arguments, site, cwd):
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_holds_every_package_and_the_weights(installed):
    for folder in (ROOT / "plugins").iterdir():
        if folder.is_dir() and folder.name.startswith("invdiff_"):
            missing = [
                p
                for p in folder.rglob("*")
                if p.suffix in (".py", ".safetensors", ".md")
                and not (installed / p.relative_to(ROOT / "plugins")).exists()
            ]
            assert not missing
    assert (installed / "invdiff" / "py.typed").exists()


def test_is_what_is_imported(installed, tmp_path):
    done = run(
        ["-c", "import invdiff, invdiff_mcformer as m; print(invdiff.__file__, m.__file__)"], installed, tmp_path
    )
    assert done.stdout.split() == [str(installed / name / "__init__.py") for name in ("invdiff", "invdiff_mcformer")]


def test_main_job_away_from_the_checkout(installed, tmp_path):
    """By its name: the recipe is in the wheel, with the same bytes as in the checkout."""
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert (installed / "invdiff" / "recipe" / "bundled" / path.name).read_bytes() == path.read_bytes()
    options = ["--set", "input.crop=64", "--set", "sampler.steps=2"]
    done = run(["-m", "invdiff", "run", "blindsr_x4", *options], installed, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "blindsr_x4" / "coffee.png").exists()


@pytest.mark.slow
def test_the_suite_passes_on_it(installed, tmp_path):
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "tests")], installed, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
