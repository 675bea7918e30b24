"""The U-Net as a prior of photos: its preconditioning against closed forms, and the bundled weights as a denoiser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.restoration import denoise_tv_chambolle

import invdiff
from invdiff.testing import check_prior
from invdiff_rivals.diffpir import DiffPIR, DiffPIRSettings
from invdiff_unet.network import UNet, waves
from invdiff_unet.prior import UNetPrior, UNetSettings

SMALL = UNetSettings(channels=(8, 12), blocks=1, unshuffle=2)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def awake(prior):
    """With a network that says something: as it begins, it says nothing."""
    for i, parameter in enumerate(prior.network.parameters()):
        parameter.data = 0.2 * rand(*parameter.shape, seed=i)
    return prior


def test_conformance():
    check_prior(awake(UNetPrior(SMALL)))


@pytest.mark.parametrize(
    ("channels", "blocks", "unshuffle", "multiple"), [((8, 12), 1, 2, 4), ((8,), 2, 1, 1), ((4, 8, 4), 2, 3, 12)]
)
def test_sizes(channels, blocks, unshuffle, multiple):
    network = UNet(channels, blocks, unshuffle)
    assert network.multiple == multiple
    for rows, cols in ((1, 1), (3, 2)):
        image = rand(2, 3, rows * multiple, cols * multiple)
        assert network(image, torch.zeros(2)).shape == image.shape


def test_it_looks_at_the_noisy_image_alone():
    """No operator, no measurement: any condition gives the same picture, and no parameters."""
    prior, x, t = awake(UNetPrior(SMALL)), rand(2, 3, 8, 12), torch.tensor([20, 800])
    with torch.no_grad():
        one, other = (prior.predict(x, t, rand(2, 3, 8, 12, seed=seed)) for seed in (1, 2))
    assert torch.equal(one.x0, other.x0)
    assert one.parameters is None
    assert prior.spec.scale is None


def test_it_begins_as_the_best_linear_denoiser():
    """Of pixels of spread 0.5 about grey: Wiener's ``s^2 / (s^2 + sigma^2)`` times the noisy image."""
    prior, clean, t = UNetPrior(SMALL), rand(4, 3, 8, 8), torch.tensor([0, 100, 400, 999])
    noise = rand(4, 3, 8, 8, seed=1)
    abar = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().add(1).cumprod(0)[t].view(-1, 1, 1, 1).float()
    x_t = abar.sqrt() * clean + (1 - abar).sqrt() * noise
    sigma = ((1 - abar) / abar).sqrt()
    with torch.no_grad():
        found = prior.predict(x_t, t, x_t).x0
    torch.testing.assert_close(found, 0.25 / (0.25 + sigma**2) * (clean + sigma * noise), rtol=1e-4, atol=1e-5)


def test_every_level_weighs_the_same():
    """Of images of the spread it is made for, what it begins with has a weighted error of one at any noise."""
    prior, clean = UNetPrior(SMALL), 0.5 * rand(64, 3, 16, 16)
    for time in (0, 50, 400, 999):
        t = torch.full((64,), time)
        x_t = prior.spec.schedule.add_noise(clean, rand(64, 3, 16, 16, seed=1), t)
        with torch.no_grad():
            error = (prior.predict(x_t, t, x_t).x0 - clean).square().mean((1, 2, 3))
        assert float((prior.loss_weight(t) * error).mean()) == pytest.approx(1, abs=0.05)


def test_noise_levels_are_told_apart_and_neighbours_are_alike():
    """A tenth of the noise more changes the code a little, a hundred times as much a lot: levels are log(sigma) / 4."""
    sigma = torch.tensor([0.1, 0.11, 10.0])
    codes = waves(sigma.log() / 4)
    near, far = (codes[1:] - codes[0]).norm(dim=1)
    assert 0.1 < near < 1
    assert far > 4 * near


@pytest.mark.parametrize("wrong", [{"channels": []}, {"channels": [6]}, {"blocks": 0}, {"image_std": 0}])
def test_settings_out_of_range(refused, tmp_path, wrong):
    path = tmp_path / "wrong.yaml"
    prior = {"kind": "unet", **wrong}
    path.write_text(
        f"name: wrong\ndegradation: {{kind: motion}}\nprior: {prior}\ninput: {{sample: face}}\n".replace("'", "")
    )
    assert f"prior.{next(iter(wrong))}" in refused("run", path, "-o", tmp_path / "out")


# --- the bundled weights


@pytest.fixture(scope="module")
def natural():
    return invdiff.load_prior("natural_s")


@pytest.mark.parametrize("sigma", [10 / 255, 25 / 255, 60 / 255])
def test_it_denoises_better_than_total_variation(natural, sigma):
    """A photo outside the training, noise of three strengths; total variation with the best of five weights."""
    clean = data.astronaut()[100:228, 150:278] / 255
    noisy = clean + sigma * rand(128, 128, 3).numpy()
    flat = [
        denoise_tv_chambolle(noisy, weight=strength * sigma, channel_axis=2) for strength in (0.5, 0.75, 1.0, 1.4, 2.0)
    ]
    image = torch.from_numpy(noisy).permute(2, 0, 1)[None].float()
    t = torch.tensor(natural.spec.schedule.nearest([2 * sigma]))
    x = natural.spec.schedule.abar(t, image).sqrt() * natural.from_unit(image)
    with torch.no_grad():
        found = natural.to_unit(natural.predict(x, t, x).x0)[0].permute(1, 2, 0).numpy()
    assert psnr(found, clean) > max(psnr(one, clean) for one in flat) + 1.0


def psnr(found, clean):
    return -10 * np.log10(np.square(np.clip(found, 0, 1) - clean).mean())


def test_any_operator_gets_a_picture(natural):
    """A blur that no network of ours was trained on, told to a solver: nearer the truth than the photo by 2.5 dB."""
    recipe = invdiff.load("deblur_ffhq", device="cpu")
    pipe = invdiff.Pipeline(
        recipe.degradation,
        natural,
        [DiffPIR(DiffPIRSettings(kernel="given", noise=0.01, strength=0.5))],
        invdiff.SamplerSettings(sigmas=(0.3, 0.1, 0.03), start="measurement", temperature=0, renewal=1),
        device="cpu",
    )
    clean = torch.from_numpy(data.cat()[100:228, 150:278] / 255).permute(2, 0, 1).float()
    kernel = torch.zeros(31, 31)
    kernel[10:21, 10:21] = 1 / 121
    y = recipe.degradation.apply(clean[None], kernel[None])[0]
    y = (y + 0.01 * rand(*y.shape)).clamp(0, 1)
    found = pipe.restore(y, kernel=kernel).image
    before, after = (float(-10 * (image - clean).square().mean().log10()) for image in (y, found))
    assert after > before + 2.5


def test_a_run_from_pure_noise_cannot_begin_low(natural):
    """The prior itself starts from pure noise: levels that begin low want ``start: measurement``."""
    recipe = invdiff.load("deblur_ffhq", device="cpu")
    low = invdiff.SamplerSettings(sigmas=(0.3, 0.1))
    with pytest.raises(invdiff.InvdiffError, match=r"sampler\.sigmas"):
        invdiff.Pipeline(recipe.degradation, natural, [], low, device="cpu")


# --- beside the measurement


def test_weights_that_saw_no_measurement_go_on_as_they_were():
    """What the second image adds begins as nothing; once it has learned, the picture depends on it."""
    blind = awake(UNetPrior(SMALL))
    seeing = UNetPrior(SMALL.model_copy(update={"sees_measurement": True}))
    left = seeing.load_state_dict(blind.state_dict(), strict=False)
    assert left.missing_keys == ["network.beside.weight", "network.beside.bias"]
    x, t = rand(2, 3, 8, 12), torch.tensor([20, 800])
    with torch.no_grad():
        expected, found = (prior.predict(x, t, rand(2, 3, 8, 12, seed=1)).x0 for prior in (blind, seeing))
        assert torch.equal(found, expected)
        awake(seeing)
        one, other = (seeing.predict(x, t, rand(2, 3, 8, 12, seed=seed)).x0 for seed in (1, 2))
    assert not torch.allclose(one, other)


def test_conformance_beside_the_measurement():
    check_prior(awake(UNetPrior(SMALL.model_copy(update={"sees_measurement": True}))))
