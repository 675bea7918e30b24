"""Noise told from texture by the photo's colours, and the limits beyond which a photo asks for another prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

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
