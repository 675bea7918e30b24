"""Noise and JPEG after the optics: against Pillow, and by their statistics."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from invdiff.camera import Camera, through_jpeg
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_motion.operator import Motion, MotionSettings


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def soft(size=(40, 56)):
    rows, cols = torch.meshgrid(torch.arange(size[0]) / 9, torch.arange(size[1]) / 7, indexing="ij")
    return torch.stack([0.5 + 0.3 * torch.sin(rows + k) * torch.cos(cols - k) for k in range(3)])


@pytest.mark.parametrize("quality", [10, 60, 95])
@pytest.mark.parametrize("halved", [False, True])
def test_it_is_pillows_jpeg(quality, halved):
    pixels = (soft() * 255).round().to(torch.uint8)
    file = io.BytesIO()
    array = pixels.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(file, "JPEG", quality=quality, subsampling="4:2:0" if halved else "4:4:4")
    want = np.asarray(Image.open(file))
    assert np.array_equal(through_jpeg(pixels, quality, halved=halved).permute(1, 2, 0).numpy(), want)


def test_the_share_is_what_it_says():
    """Of many measurements of nothing but grey, that part is not what rounding alone would leave."""
    camera = Camera(share=0.4, noise=(0.02, 0.02), quality=(50, 50))
    y, g = torch.full((3, 8, 8), 0.5), gen()
    plain = (y * 255).round() / 255
    changed = sum(not torch.equal(camera.photographed(y, g), plain) for _ in range(600))
    # One in three of them is compressed only, and JPEG leaves grey as it is.
    assert changed / 600 == pytest.approx(0.4 * 2 / 3, abs=0.05)


def test_noise_has_the_spread_that_is_drawn():
    camera = Camera(share=1, noise=(0.03, 0.03), quality=(100, 100))
    y, g = torch.full((3, 64, 64), 0.5), gen()
    spreads = [float((camera.photographed(y, g) - y).std()) for _ in range(12)]
    assert max(spreads) == pytest.approx(0.03, rel=0.03)
    assert min(spreads) < 0.003  # compressed only


@pytest.mark.parametrize("width", [0.0, 0.4, 1.5])
def test_soft_noise_keeps_its_spread_and_is_a_gaussians(width):
    """Neighbours are as alike as those of white noise under a Gaussian, known in closed form where it is wide."""
    camera = Camera(share=1, noise=(0.05, 0.05), softness=(width, width), quality=(100, 100))
    y, g = torch.full((3, 300, 300), 0.5), gen()
    noise = next(n for n in (camera.photographed(y, g) - y for _ in range(20)) if n.std() > 0.01)
    assert float(noise.std()) == pytest.approx(0.05, rel=0.03)
    alike = float((noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var())
    if width != 0.4:
        assert alike == pytest.approx(np.exp(-1 / (4 * width**2)) if width else 0, abs=0.03)
    channels = float((noise[0] * noise[1]).mean() / noise.var())
    assert channels == pytest.approx(0, abs=0.03)


def test_grey_noise_is_the_same_in_all_channels_and_as_often_as_asked():
    camera = Camera(share=1, noise=(0.05, 0.05), grey=0.5, quality=(100, 100))
    y, g = torch.full((3, 24, 24), 0.5), gen()
    noises = [camera.photographed(y, g) - y for _ in range(400)]
    noises = [n for n in noises if n.std() > 0.01]
    grey = sum(float((n[0] - n[1]).abs().max()) < 0.02 for n in noises) / len(noises)
    assert grey == pytest.approx(0.5, abs=0.09)


OPERATORS = [(BlindSR, BlindSRSettings), (Motion, MotionSettings)]


@pytest.mark.parametrize(("kind", "settings"), OPERATORS)
def test_without_it_nothing_changes_and_with_it_everything_is_seeded(kind, settings):
    x = torch.rand(2, 3, 32, 32, generator=gen())
    plain = kind(settings(quantize=True))
    quiet = kind(settings(camera=Camera(share=0)))
    loud = kind(settings(camera={"share": 1}))
    assert torch.equal(quiet.degrade(x, gen(1))[0], plain.degrade(x, gen(1))[0])
    assert torch.equal(loud.degrade(x, gen(1))[0], loud.degrade(x, gen(1))[0])
    assert not torch.equal(loud.degrade(x, gen(1))[0], loud.degrade(x, gen(2))[0])
    y = loud.degrade(x.double(), gen(1))[0]
    assert y.dtype == torch.float64
    assert torch.equal((y * 255).round(), y * 255)


@pytest.mark.parametrize("wrong", [{"share": 2}, {"noise": [0.1, 0.0]}, {"quality": [0, 50]}, {"quality": [90, 40]}])
def test_ranges_that_are_none(wrong):
    with pytest.raises(ValidationError):
        Camera(**wrong)


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        (BlindSRSettings, {"noise_sigma": 0.01}),
        (MotionSettings, {"noise_sigma": 0.01}),
        (BlindSRSettings, {"quantize": False}),
    ],
)
def test_noise_is_said_in_one_place(settings, other):
    with pytest.raises(ValidationError, match="camera brings noise and rounding of its own"):
        settings(camera={}, **other)
    assert settings(**settings(camera={}).model_dump(mode="json")).camera is not None  # as it is saved, and read again


def test_noise_that_differs_from_photo_to_photo_is_measured():
    """An evaluation says how much noise there was, where the settings cannot."""
    from invdiff.evaluation.plan import Plan

    camera = BlindSR(BlindSRSettings(camera=Camera(share=1, noise=(0.03, 0.03), quality=(95, 95))))
    assert camera.noise_level is None
    assert BlindSR().noise_level == pytest.approx(1 / 255 / 12**0.5)
    plan = Plan.__new__(Plan)
    plan.operator, plan.seed = camera, 0
    levels = []
    for i in range(12):
        clean = soft((96, 96 + 4 * i))
        case = plan.measurement(clean, camera.sample_parameters(1, gen(i))[0])
        levels.append(case.noise)
    assert 0.027 < max(levels) < 0.04, "the noise drawn, and a little of JPEG on top"
    assert min(levels) < 0.02
