"""Total variation as a prior: against scikit-image's, and through every command without weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_chambolle

from invdiff.prior import DenoiserPrior
from invdiff.testing import parametrize_with_checks
from invdiff_tv.prior import TV, TVSettings, total_variation

RECIPE = """\
name: flat
degradation: {kind: motion, kernel_size: 15, noise_sigma: 0.01}
prior: {kind: tv, iterations: 5}
guidance:
  - {kind: proximal, kernel: given, noise: 0.01, spread: 0.1}
sampler: {steps: 4, temperature: 0}
input: {sample: coffee, crop: 64, synthesize: true}
"""


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@parametrize_with_checks([TV(), TV(TVSettings(strength=1.0, sigma_max=0.05))])
def test_conformance(component, check):
    check(component)


@pytest.mark.parametrize("iterations", [1, 20])
def test_it_is_scikit_images(iterations):
    """Plane by plane, each with its own weight. Theirs shows the image as it was before its last projection."""
    x, weights = rand(2, 3, 17, 12), torch.tensor([0.05, 0.4]).double().view(-1, 1, 1, 1)
    found = total_variation(x, weights, iterations)
    for image, weight, got in zip(x.numpy(), weights.flatten().tolist(), found.numpy(), strict=True):
        want = denoise_tv_chambolle(image, weight, eps=0, max_num_iter=iterations + 1, channel_axis=0)
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_the_derivative_in_the_image():
    """Of a smooth image's neighbourhood and of a flat one's, where the root has no derivative."""
    weight = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    x = rand(1, 1, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda image: total_variation(image, weight, 6), x, atol=1e-6)
    flat = torch.full((1, 1, 5, 4), 0.5, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(total_variation(flat, weight, 6).sum(), flat)
    assert bool(slope.isfinite().all())


def test_the_weight_follows_the_noise():
    prior, x = TV(TVSettings(strength=0.5, iterations=7)), rand(2, 3, 9, 9)
    found = prior.denoise(x, torch.tensor([0.02, 0.2]).double())
    want = total_variation(x, torch.tensor([0.01, 0.1]).double().view(-1, 1, 1, 1), 7)
    torch.testing.assert_close(found, want)


def test_what_it_says_of_itself():
    """It starts from the measurement at the largest noise, and has neither weights nor parameters."""
    prior = TV(TVSettings(sigma_max=0.1))
    assert isinstance(prior, DenoiserPrior)
    assert (prior.spec.start, prior.spec.parameter_shape, prior.spec.scale) == ("measurement", None, None)
    last = torch.tensor([len(prior.spec.schedule) - 1])
    assert 0.09 < float(prior.spec.schedule.noise_to_signal(last, torch.empty(1))) <= 0.1
    assert prior.state_dict() == {}


@pytest.fixture
def flat(tmp_path):
    path = tmp_path / "flat.yaml"
    path.write_text(RECIPE)
    return path


def test_run(cli, flat, report, tmp_path):
    """No weights, no estimate: a picture, no kernel, and settings that make it again."""
    result = cli("run", flat, "-o", tmp_path / "out", "--quiet")
    assert (result.code, result.err) == (0, "")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"coffee.png", "coffee.compare.png", "report.json"} <= names
    assert not any("kernel" in name for name in names)
    found = report(tmp_path / "out", whole=True)
    prior = {"kind": "tv", "strength": 0.3, "iterations": 5, "sigma_max": 0.2}
    assert found["settings"]["prior"] == prior
    metrics = found["images"][0]["metrics"]
    assert metrics["psnr_rgb"] > metrics["psnr_rgb_baseline"] + 1


def test_blind_without_an_estimate(cli, flat, report, tmp_path):
    """A prior that knows nothing of the operator and no guidance: a denoised picture."""
    result = cli("run", flat, "-o", tmp_path / "out", "--quiet", "--set", "guidance=[]")
    assert (result.code, result.err) == (0, "")
    assert report(tmp_path / "out")["coffee"]["residual"] is None


def test_a_kernel_that_is_told(cli, flat, picture, report, tmp_path):
    """On a photo that is already degraded; the residual is that of the told kernel."""
    kernel = np.zeros((9, 9))
    kernel[4, 3:6] = 1 / 3
    np.save(tmp_path / "kernel.npy", kernel)
    command = ["run", flat, picture("a.png", 24, 30), "-o", tmp_path / "out", "--quiet"]
    result = cli(*command, "--kernel", tmp_path / "kernel.npy")
    assert (result.code, result.err) == (0, "")
    assert 0 < report(tmp_path / "out")["a"]["residual"] < 0.1
    again = cli(*command, "--force")
    assert again.code == 1  # kernel: given, and none was
    assert "needs a known kernel" in again.err


def test_eval_check_and_info(cli, flat, picture, tmp_path):
    folder = picture("a.png", 32, 32).parent
    result = cli(
        "eval", flat, folder, "-o", tmp_path / "out", "--method", "unrestored", "--method", "oracle", "--quiet"
    )
    assert (result.code, result.err) == (0, "")
    identity = json.loads((tmp_path / "out" / "evaluation.json").read_text())["methods"]["flat"]
    assert identity["prior"]["kind"] == "tv"
    assert cli("check", "tv").code == 0
    assert "parameters      0.00 M" in cli("info", flat).out


def test_no_weights_to_name_and_none_to_train(refused, flat, tmp_path):
    words = refused("run", flat, "--set", "prior.weights=mine.safetensors")
    assert (
        words
        == "--set prior.weights=mine.safetensors: prior.weights: unknown key (known: iterations, sigma_max, strength)"
    )
    flat.write_text(RECIPE + "train: {steps: 1}\n")
    words = refused("train", flat, "-o", tmp_path / "out")
    assert words == f"{flat}:3: prior: 'tv' has no weights: nothing to train"
    assert "sampler.steps: the prior has" in refused("run", flat, "--set", "sampler.steps=500")


def test_two_colours_of_noise_are_not_mixed():
    """Each colour is a plane of its own, as in scikit-image."""
    x = rand(1, 3, 8, 8)
    weight = torch.full((1, 1, 1, 1), 0.2, dtype=torch.float64)
    together = total_variation(x, weight, 9)
    for c in range(3):
        torch.testing.assert_close(together[:, c : c + 1], total_variation(x[:, c : c + 1], weight, 9))
