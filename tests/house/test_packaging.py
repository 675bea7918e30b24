"""What others build from the checkout: a container's image and a conda package. Neither is built here; both are held
to what the project says of itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import invdiff

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "Dockerfile").exists(), reason="not in a checkout")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions(text):
    """Pairs of an instruction and its words; lines that go on are joined."""
    text = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in lines]


def copied(found):
    """What comes from the checkout."""
    return [name for word, rest in found if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]]


def ignored(name):
    """Whether .dockerignore keeps a name from the build: the last line that fits decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and fnmatch(name, line.lstrip("!")):
            kept = line.startswith("!")
    return not kept


def complaints(text):
    """What is wrong with a Dockerfile, in words."""
    found = instructions(text)
    wrong = []
    for image in [rest.split()[0] for word, rest in found if word == "FROM"]:
        version = re.fullmatch(r"python:(\d+\.\d+)-slim", image)
        if not version or version[1] not in SpecifierSet(project()["requires-python"]):
            wrong.append(f"FROM {image}")
    last = dict(found)
    if last.get("USER") in (None, "root", "0"):
        wrong.append("runs as root")
    order = [word for word, _ in found]
    if "USER" in order and "RUN" in order[order.index("USER") :]:
        wrong.append("RUN after USER")
    try:
        if json.loads(last["ENTRYPOINT"])[0] not in project()["scripts"]:
            wrong.append("ENTRYPOINT is no command of ours")
    except (KeyError, ValueError):
        wrong.append("ENTRYPOINT is no list")
    wrong += [f"{word}: not needed" for word in order if word in ("ADD", "EXPOSE", "VOLUME")]
    for run in [rest for word, rest in found if word == "RUN"]:
        wrong += [f"RUN {word}" for word in ("curl", "wget", "sudo", "git") if re.search(rf"\b{word}\b", run)]
        if "pip install" in run and not ("--no-cache-dir" in run and "-c constraints.txt" in run):
            wrong.append("pip keeps a cache, or takes any version")
    wrong += [f"COPY {name}: not there" for name in copied(found) if not (ROOT / name).exists()]
    wrong += [f"COPY {name}: left out by .dockerignore" for name in copied(found) if ignored(name)]
    return wrong


def test_the_image():
    assert complaints((ROOT / "Dockerfile").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("FROM python:3.11-slim\n", "FROM python:latest\n", "FROM python:latest"),
        ("FROM python:3.11-slim\n", "FROM python:3.9-slim\n", "FROM python:3.9-slim"),
        ("USER 1000", "USER root", "runs as root"),
        ("USER 1000", "USER 1000\nRUN true", "RUN after USER"),
        ('["invdiff"]', "invdiff", "ENTRYPOINT is no list"),
        ('["invdiff"]', '["bash"]', "ENTRYPOINT is no command of ours"),
        ("--no-cache-dir ", "", "pip keeps a cache, or takes any version"),
        ("-c constraints.txt", "", "pip keeps a cache, or takes any version"),
        ("COPY recipes", "COPY recipe", "COPY recipe: not there"),
        ("COPY recipes", "COPY tests", "COPY tests: left out by .dockerignore"),
        ("COPY recipes", "ADD recipes", "ADD: not needed"),
    ],
)
def test_faults_of_an_image_are_seen(old, new, complaint):
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert old in text
    assert complaint in complaints(text.replace(old, new))


def test_hadolint_is_content():
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}") or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [program, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_what_the_image_is_built_from_suffices(tmp_path):
    """The wheel from the copied files alone has every file of the wheel from the checkout."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    import zipfile

    source = tmp_path / "source"
    source.mkdir()
    for name in copied(instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    names = []
    for place in (source, ROOT):
        out = tmp_path / f"wheel_{len(names)}"
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), str(place)]
        subprocess.run(command, check=True, capture_output=True)
        with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
            names.append(set(wheel.namelist()))
    assert names[0] == names[1]
    assert any(name.endswith("blindsr_x4.yaml") for name in names[0])


CONDA = {"torch": "pytorch"}  # as conda-forge calls it


def conda():
    """The recipe of docs/conda-forge.md, with its Jinja filled in."""
    page = (ROOT / "docs" / "conda-forge.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    names = dict(re.findall(r'^{% set (\w+) = "(.*?)" %}$', text, re.M))
    text = re.sub(r"^{%.*%}\n", "", text, flags=re.M)
    return yaml.safe_load(re.sub(r"{{ (\w+) }}", lambda m: names.get(m[1], m[1]), text))


def wanted(requirements):
    """Names, as conda-forge has them, and ranges."""
    found = [Requirement(text) for text in requirements]
    return {CONDA.get(r.name, r.name): str(r.specifier) for r in found}


def test_the_recipe_of_conda_forge_is_that_of_pyproject():
    recipe = conda()
    run = dict([*text.split(None, 1), ""][:2] for text in recipe["requirements"]["run"])
    python = run.pop("python")
    assert python == project()["requires-python"]
    assert run == wanted(project()["dependencies"])
    assert recipe["package"] == {"name": "invdiff", "version": invdiff.__version__}
    assert recipe["build"]["noarch"] == "python"
    assert recipe["build"]["entry_points"] == [f"{name} = {value}" for name, value in project()["scripts"].items()]
    assert recipe["about"]["license"] == project()["license"]
    assert (ROOT / recipe["about"]["license_file"]).exists()
    hosts = {text.split()[0] for text in recipe["requirements"]["host"]}
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert {Requirement(text).name for text in build} <= hosts
    plugins = set(project()["entry-points"]["invdiff"].values())
    assert plugins <= set(recipe["test"]["imports"])


def test_the_checklist_names_what_holds_the_version():
    page = (ROOT / "docs" / "release.md").read_text(encoding="utf-8")
    holders = ("CHANGELOG.md", "CITATION.cff", "invdiff/__init__.py", "docs/conda-forge.md")
    for name in holders:
        assert invdiff.__version__ in (ROOT / name).read_text(encoding="utf-8")
        assert f"`{name}`" in page
