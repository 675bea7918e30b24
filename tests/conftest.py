"""What the tests share: a tiny prior, a recipe that points to it, small pictures, and the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from invdiff.cli import main as command_line
from invdiff.components.discovery import registry
from invdiff.components.weights import save_prior
from invdiff_mcformer.prior import MCFormerPrior
from invdiff_mcformer.settings import MCFormerSettings

collect_ignore = ["thirdparty/invdiff-haze"]  # a package with tests of its own, run where it is installed
torch.set_num_threads(1)  # as in the processes that tests start, so that sums come out the same

LONG = ("test_thirdparty.py", "test_docs.py", "test_training.py", "test_going_on.py", "test_team.py")
"""Files that take longest, or come last: first, so that no process waits for another at the end (``-n 2``)."""

RECIPE = """\
name: tiny
seed: 3
degradation:
  kind: blindsr
  scale: 4
  kernel_size: 21
  kernels:
    family: isotropic
    sigma: [0.2, 4.0]
prior: {kind: mcformer, weights: WEIGHTS}
guidance:
  - kind: kernel_aware
    strength: 1.0
sampler:
  steps: 2
  eta: 1.0
input: {sample: astronaut, crop: 64, synthesize: true}
"""


TRAINING = """\
name: tiny_training
degradation: {kind: blindsr, scale: 4, kernel_size: 5, kernels: {family: isotropic, sigma: [0.2, 2.0]}}
prior:
  kind: mcformer
  network:
    kernel_size: 5
    channels: [8, 8, 8, 8]
    heads: [1, 1, 1, 1]
    blocks: [1, 1, 1, 1]
    refinement: 0
    unshuffle: 2
    learn_variance: false
    estimator: {channels: 8, strides: [1, 2]}
  preconditioning: residual
  value_range: [-1, 1]
sampler: {steps: 2}
train:
  steps: 6
  batch: 2
  crop: 32
  learning_rate: 2e-3
  decay: none
  precision: float32
  log_every: 1
  checkpoint_every: 100
"""


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # which begins with the files of most tests, not the longest


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@dataclass
class Result:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def tiny_prior():
    """Builds an MCFormer of 40,000 weights; keywords change its settings."""

    def build(kernel_size=21, seed=0, **settings):
        network = {
            "kernel_size": kernel_size,
            "channels": (8, 8, 8, 8),
            "heads": (1, 1, 1, 1),
            "blocks": (1, 1, 1, 1),
            "refinement": 0,
            "unshuffle": 2,
            "learn_variance": False,
            "estimator": {"channels": 8, "strides": (1, 2)},
        }
        settings = {"preconditioning": "residual", "value_range": (-1, 1), **settings}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            prior = MCFormerPrior(MCFormerSettings(network=network, **settings))
            torch.nn.init.normal_(prior.network.head.weight, std=0.02)  # zero at first, which would hide faults
        return prior

    return build


@pytest.fixture(scope="session")
def weights(tiny_prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_prior(tiny_prior(), "mcformer", path)
    return path


@pytest.fixture
def recipe(weights, tmp_path):
    """Writes the recipe above; arguments are (old, new) pieces of its text."""

    def write(*changes, text=RECIPE, name="tiny.yaml", weights=weights):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / name
        path.write_text(text.replace("WEIGHTS", json.dumps(str(weights))), encoding="utf-8")
        return path

    return write


@pytest.fixture
def cli():
    """Runs a command in this process."""

    def run(*arguments):
        result = CliRunner().invoke(command_line, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def refused(cli):
    """Runs a command that the user must change: exit code 2 and one line, which is returned without ``error: ``."""

    def run(*arguments):
        result = cli(*arguments)
        assert result.code == 2
        assert result.err.startswith("error: "), result.err
        assert result.err.count("\n") == 1, result.err
        assert result.out == ""
        return result.err.removeprefix("error: ").rstrip("\n")

    return run


@pytest.fixture(scope="session")
def arguments():
    """The command line of a fresh process, and its environment."""

    def build(*given):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        return [sys.executable, "-m", "invdiff", *map(str, given)], environment

    return build


@pytest.fixture
def process(arguments):
    """Runs a command in a process of its own."""

    def run(*given):
        command, env = arguments(*given)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def picture(tmp_path):
    """Saves a picture of soft colours, mode RGB unless told, and returns its path."""

    def save(name, height=16, width=16, mode="RGB", seed=0, folder=tmp_path / "in"):
        rng = np.random.default_rng(seed)
        rows, cols = np.mgrid[0:height, 0:width]
        planes = [127 + 80 * np.sin(rows / rng.uniform(2, 9) + cols / rng.uniform(2, 9) + k) for k in range(4)]
        planes = np.stack(planes, -1) + rng.uniform(-20, 20, (height, width, 4))
        pixels = planes.clip(0, 255).astype(np.uint8)[..., : len(Image.new(mode, (1, 1)).getbands())]
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(path)
        return path

    return save


@pytest.fixture
def report():
    """The entries of a folder's report by stem; with ``whole``, the report itself."""

    def read(folder, whole=False):
        found = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
        return found if whole else {entry["stem"]: entry for entry in found["images"]}

    return read


@pytest.fixture
def photos(picture, tmp_path):
    """A folder to train on."""
    for i in range(3):
        picture(f"{i}.png", 40 + i, 48, seed=i, folder=tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def training(recipe):
    """A recipe to train with."""
    return recipe(text=TRAINING)


@pytest.fixture
def train(cli, training, photos, tmp_path):
    """Trains into a folder below tmp_path with changed settings of the train section."""

    def run(folder, *options, **settings):
        changes = [x for name, value in settings.items() for x in ("--set", f"train.{name}={value}")]
        return cli("train", training, "-o", tmp_path / folder, "--data", photos, "--quiet", *changes, *options)

    return run


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path, forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    registry.cache_clear()
    yield folder
    registry.cache_clear()
    for name in [name for name in set(sys.modules) - before if name.startswith("planted_")]:
        del sys.modules[name]


@pytest.fixture
def plant(site):
    """Installs a plugin, module and metadata, as a package manager would."""

    def install(name, code, version="1.2"):
        (site / f"planted_{name}.py").write_text(code, encoding="utf-8")
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[invdiff]\n{name} = planted_{name}\n")

    return install


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def browser():
    """A Chromium: the one that is there, or Debian's, where this machine is Debian and may be added to."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None and os.environ.get("INVDIFF_NO_INSTALL"):
        pytest.skip("no Chromium, and INVDIFF_NO_INSTALL is set")
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, capture_output=True, timeout=240, check=False)
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium, and none could be installed (Debian: apt-get install chromium)")
    return found
