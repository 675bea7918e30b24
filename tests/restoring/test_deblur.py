"""Motion deblurring through the command line: the recipe, real photos, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import invdiff
from invdiff import metrics
from invdiff.components.weights import save_prior
from invdiff.io import decoding as images

ROOT = Path(__file__).resolve().parents[2]

DEBLUR = """\
name: tiny_deblur
degradation: {kind: motion, kernel_size: 9, intensity: 0.5, noise_sigma: 0.01}
prior: {kind: mcformer, weights: WEIGHTS}
guidance:
  - {kind: kernel_update, iterations: 5}
  - {kind: proximal, iterations: 5}
sampler: {steps: 3}
input: {sample: face, crop: 64, synthesize: true}
"""


@pytest.fixture(scope="module")
def motion_weights(tiny_prior, tmp_path_factory):
    network = {"preset": "small", "kernel_size": 9, "channels": (8, 8, 8, 8), "heads": (1, 1, 1, 1)}
    network |= {"blocks": (1, 1, 1, 1), "estimator": {"kind": "spectral", "channels": 8, "maps": 2}}
    from invdiff_mcformer.prior import MCFormerPrior
    from invdiff_mcformer.settings import MCFormerSettings

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = MCFormerPrior(
            MCFormerSettings(network=network, scale=1, preconditioning="residual", value_range=(-1, 1))
        )
    path = tmp_path_factory.mktemp("weights") / "motion.safetensors"
    save_prior(prior, "mcformer", path)
    return path


@pytest.fixture
def deblur(recipe, motion_weights):
    return lambda *changes: recipe(*changes, text=DEBLUR, name="deblur.yaml", weights=motion_weights)


def photo(path, height, width):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def test_the_table_measures_beside_the_input(deblur, cli, tmp_path):
    result = cli("run", deblur(), "-o", tmp_path / "out")
    assert result.code == 0, result.err
    for title in ("PSNR-RGB", "PSNR-Y", "SSIM-Y", "kernel L1,", "MNC", "restored / input"):
        assert title in result.out
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())["images"]
    found = entry["metrics"]
    for name in ("psnr_rgb", "psnr_y", "ssim_y", "kernel_l1_shifted", "kernel_mnc"):
        assert {name, f"{name}_baseline"} <= set(found)
    kernel = np.load(tmp_path / "out" / "face.kernel.npy")
    assert kernel.shape == (9, 9)
    assert kernel.dtype == np.float32
    assert kernel.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("padding", ["reflect", "replicate", "circular", "valid"])
@pytest.mark.parametrize("size", [(9, 9), (31, 50), (37, 64)])
def test_a_photo_keeps_its_size(deblur, cli, tmp_path, padding, size):
    source = photo(tmp_path / "p.png", *size)
    result = cli("run", deblur(("noise_sigma: 0.01", f"padding: {padding}")), "-i", source, "-o", tmp_path / "out")
    assert result.code == 0, result.err
    with Image.open(tmp_path / "out" / "p.png") as restored:
        assert restored.size == size[::-1]


def test_valid_is_measured_on_what_the_photo_shows(deblur, cli, tmp_path):
    photo(tmp_path / "p.png", 64, 64)
    recipe = deblur(("noise_sigma: 0.01", "padding: valid"))
    result = cli("run", recipe, "-i", tmp_path / "p.png", "--synthesize", "-o", tmp_path / "out")
    assert result.code == 0, result.err
    with Image.open(tmp_path / "out" / "p.png") as restored:
        assert restored.size == (56, 56)
    clean = images.load(tmp_path / "p.png").pixels[:, 4:-4, 4:-4]
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())["images"]
    ours = metrics.psnr_rgb(images.load(tmp_path / "out" / "p.png").pixels, clean)
    assert entry["metrics"]["psnr_rgb"] == pytest.approx(ours, abs=1e-3)


def test_the_same_bytes_alone_and_in_a_folder(deblur, cli, tmp_path):
    (tmp_path / "in").mkdir()
    for i, name in enumerate(("a.png", "b.png")):
        photo(tmp_path / "in" / name, 24 + i, 31)
    assert cli("run", deblur(), "-i", tmp_path / "in", "-o", tmp_path / "all").code == 0
    assert cli("run", deblur(), "-i", tmp_path / "in" / "b.png", "-o", tmp_path / "one").code == 0
    for name in ("b.png", "b.kernel.npy"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_photo_smaller_than_the_kernel_fails_alone(deblur, cli, tmp_path):
    (tmp_path / "in").mkdir()
    photo(tmp_path / "in" / "a.png", 7, 40)
    photo(tmp_path / "in" / "b.png", 24, 24)
    result = cli("run", deblur(), "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert result.code == 1
    assert "40x7 pixels are too small for a kernel of 9x9" in result.err
    assert [line.partition(":")[0] for line in result.err.splitlines()] == ["failed", "b"]
    assert (tmp_path / "out" / "b.png").exists()


def test_a_crop_smaller_than_the_kernel_is_refused(refused, tmp_path):
    path = tmp_path / "train.yaml"
    shutil.copy(ROOT / "recipes" / "train_deblur_small.yaml", path)
    photo(tmp_path / "p.png", 64, 64)
    message = refused("train", path, "--data", tmp_path, "-o", tmp_path / "run", "--set", "train.crop=16")
    assert "train.crop" in message
    assert "31x31" in message


def test_weights_for_another_kernel_size_are_refused(deblur, refused, tmp_path):
    message = refused("run", deblur(("kernel_size: 9", "kernel_size: 11")), "-o", tmp_path / "out")
    assert "9x9" in message
    assert "11x11" in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kernel_size: 9", "kernel_size: 10", "kernel_size must be odd, got 10"),
        ("kernel_size: 9", "kernel_size: 1", "greater than or equal to 3"),
        ("intensity: 0.5", "intensity: 1.5", "intensity"),
        ("intensity: 0.5", "intensity: [0.8, 0.2]", "[0.8, 0.2]"),
        ("intensity: 0.5", "kernels: zero.npy", "zero.npy: the kernel is all zero"),
        ("intensity: 0.5", "kernels: even.npy", "even.npy: a kernel has an odd side, got 4"),
        ("intensity: 0.5", "kernels: large.npy", "11x11 does not fit kernel_size 9"),
        ("intensity: 0.5", "kernels: nowhere.npy", "nowhere.npy: no such file"),
    ],
)
def test_bad_settings_are_one_line(deblur, refused, tmp_path, monkeypatch, old, new, expected):
    monkeypatch.chdir(tmp_path)
    np.save("zero.npy", np.zeros((5, 5)))
    np.save("even.npy", np.ones((4, 4)))
    np.save("large.npy", np.ones((11, 11)))
    message = refused("run", deblur((old, new)), "-o", tmp_path / "out")
    assert expected in message
    assert "deblur.yaml:2" in message


def test_measured_kernels_blur_the_sample(deblur, cli, tmp_path):
    kernel = np.zeros((5, 5))
    kernel[2, 1:4] = [0.5, 0.25, 0.25]
    np.save(tmp_path / "k.npy", kernel)
    recipe = deblur(("intensity: 0.5", f"kernels: {json.dumps(str(tmp_path / 'k.npy'))}"))
    pipe = invdiff.load(recipe)
    _, theta = pipe.synthesize(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)))
    expected = np.zeros((9, 9), dtype=np.float32)
    expected[4, 3:6] = [0.5, 0.25, 0.25]  # its centre of mass is a quarter of a pixel off: not a whole one
    assert np.allclose(theta.numpy(), expected)


@pytest.mark.parametrize(("recipe", "gain"), [("deblur_ffhq", 7.0), ("deblur_mcformer", 4.5), ("deblur_tv", 3.5)])
def test_the_recipe_sharpens_its_sample(recipe, gain, cli, tmp_path):
    """Blind, on its own face: 8.5 dB with the prior of photos, 5.7 with MCFormer, 4.7 with total variation."""
    result = cli("run", ROOT / "recipes" / f"{recipe}.yaml", "-o", tmp_path / "out")
    assert result.code == 0, result.err
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())["images"]
    found = entry["metrics"]
    assert found["psnr_rgb"] > found["psnr_rgb_baseline"] + gain
    assert found["ssim_y"] > found["ssim_y_baseline"]
    assert found["kernel_mnc"] > found["kernel_mnc_baseline"]
    assert found["kernel_l1_shifted"] < found["kernel_l1_shifted_baseline"]


def test_a_white_page_keeps_its_letters(monkeypatch):
    """Told that there was no shake: what a pixel as bright as can be says is believed as far as it goes."""
    from invdiff_rivals import diffpir

    page = Image.new("L", (96, 64), 255)
    draw = ImageDraw.Draw(page)
    for row in range(2):
        draw.text((6, 30 * row + 6), "A page.", fill=0)
    y = (torch.from_numpy(np.asarray(page).copy()) / 255).expand(3, -1, -1)
    point = torch.zeros(31, 31)
    point[15, 15] = 1
    pipe = invdiff.load("deblur_ffhq")
    off = []
    for weight in (diffpir._SHORT, 0):
        monkeypatch.setattr(diffpir, "_SHORT", weight)
        off.append(float((pipe.restore(y, kernel=point).image - y).square().mean().sqrt()))
    assert off[0] < 0.5 * off[1]
