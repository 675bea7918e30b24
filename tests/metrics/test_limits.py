"""Noise told from texture by the photo's colours, and the limits beyond which a photo asks for another prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from invdiff.io.jpeg import Jpeg, filled
from invdiff.metrics.limits import Limits
from invdiff.metrics.noise import colour_noise, noise_level


@pytest.fixture
def fur():
    """A grey scene of nothing but fine texture, in three tints ``(3, 96, 96)``."""
    texture = 0.05 * torch.randn(96, 96, generator=torch.Generator().manual_seed(0))
    return 0.5 + texture + torch.tensor([0.1, 0.0, -0.1])[:, None, None]


@pytest.mark.parametrize("sigma", [0.005, 0.02])
def test_noise_is_told_from_texture(fur, sigma):
    noise = sigma * torch.randn(fur.shape, generator=torch.Generator().manual_seed(1))
    assert colour_noise(fur) < 1e-4
    assert colour_noise(fur + noise) == pytest.approx(sigma, rel=0.05)
    assert float(noise_level((fur + noise)[None])) > 0.045  # takes all of it for noise


def test_a_grey_photo_has_no_colours(fur):
    grey = fur[:1].expand(3, -1, -1)
    assert colour_noise(grey) == pytest.approx(float(noise_level(grey[None])))


def small_print(paper: float, ink: float) -> torch.Tensor:
    """A page ``(3, 180, 200)`` of lettering of ten pixels."""
    page, font = Image.new("L", (200, 180), 0), ImageFont.load_default(10)
    for row in range(2, 170, 12):
        ImageDraw.Draw(page).text((2, row), "how many lines of such a print are noise?", 255, font)
    drawn = torch.from_numpy(np.array(page)).expand(3, -1, -1) / 255
    return paper + (ink - paper) * drawn


def hatching() -> torch.Tensor:
    """Slanting lines of black and white ``(3, 90, 120)``."""
    row, column = torch.meshgrid(torch.arange(90), torch.arange(120), indexing="ij")
    return ((row + column) % 4 < 2).float().expand(3, -1, -1)


@pytest.mark.parametrize("drawn", [small_print(1, 0), small_print(0.9, 0.2), hatching()])
def test_what_is_drawn_is_not_noise(drawn):
    assert float(noise_level(drawn[None])) <= 0.0101
    assert colour_noise(drawn) <= 0.0101


@pytest.mark.parametrize("sigma", [0.02, 0.05])
def test_noise_between_the_lines_is_found(sigma):
    page = small_print(0.9, 0.2)
    noisy = page + sigma * torch.randn(page.shape, generator=torch.Generator().manual_seed(1))
    assert sigma < float(noise_level(noisy[None])) < 2.5 * sigma


@pytest.mark.parametrize("side", [(3, 3), (17, 40), (18, 18), (90, 61)])
@pytest.mark.parametrize("sigma", [0.004, 0.03, 0.2])
def test_white_noise_of_any_size_of_photo_is_all_noise(side, sigma):
    noise = sigma * torch.randn(2, 3, *side, generator=torch.Generator().manual_seed(4))
    fine = noise.diff(n=2, dim=-2).diff(n=2, dim=-1)
    expected = fine.abs().flatten(2).median(-1).values.mean(1) / (6 * 0.6745)  # Immerkaer's, without any bound
    assert torch.allclose(noise_level(0.5 + noise), expected, rtol=1e-3, atol=1e-6)


def test_limits():
    flat = torch.full((3, 32, 32), 0.5)
    grain = flat + 0.02 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(2))
    coarse = Jpeg(filled(np.array([6, *[0] * 63])))
    limits = Limits(0.01, 80)
    assert limits.passed_by(flat) == ""
    assert limits.passed_by(grain) == "colour noise of 2.0 %"
    assert limits.passed_by(flat, coarse) == "JPEG quality of 80"
    assert limits.passed_by(flat, replace(coarse, former=True)) == "former JPEG quality of 80"
    assert Limits(0.01, 79).passed_by(flat, coarse) == ""
    assert limits.passed_by(grain, coarse) == "colour noise of 2.0 % and JPEG quality of 80"
    film = 0.03 * torch.randn(200, 200, generator=torch.Generator().manual_seed(3))
    grey = 0.5 + film + torch.tensor([0.0, 0.1, 0.2])[:, None, None]
    assert limits.passed_by(grey) == ""  # grain is not asked about unless it says so
    assert Limits(0.01, 80, grain=0.02).passed_by(grey) == "grain of 3.0 %"
    assert Limits(0.01, 80, grain=0.04).passed_by(grey) == ""
    assert Limits(0.01, 80, grain=0.02).passed_by(grain) == "colour noise of 2.0 %"  # said once
