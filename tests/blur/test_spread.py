"""How a kernel spreads a point: lines of known length and direction, and Gaussians of known width."""

from __future__ import annotations

import math

import pytest
import torch

from invdiff import KernelSpace
from invdiff.blur.spread import Spread
from invdiff_blindsr.operator import BlindSR
from invdiff_motion.operator import Motion


def line(length, side=31):
    kernel = torch.zeros(side, side)
    kernel[side // 2, side // 2 - length // 2 : side // 2 + length // 2 + 1] = 1 / length
    return kernel


def gaussian(along, across, degrees=0.0, side=41):
    grid = torch.arange(side) - side // 2.0
    right, up = grid.expand(side, side), -grid[:, None].expand(side, side)
    turn = math.radians(degrees)
    a, b = right * math.cos(turn) + up * math.sin(turn), -right * math.sin(turn) + up * math.cos(turn)
    kernel = (-(a**2) / 2 / along**2 - b**2 / 2 / across**2).exp()
    return kernel / kernel.sum()


@pytest.mark.parametrize("length", [5, 9, 15, 21])
def test_a_line(length):
    flat = line(length)
    assert Spread.of(flat).length == pytest.approx(length)
    assert Spread.of(flat).direction == "horizontal"
    assert Spread.of(flat.T).direction == "vertical"
    falling = torch.diag(flat[15])
    assert Spread.of(falling).direction == "diagonal, falling to the right"
    assert Spread.of(falling.flip(0)).direction == "diagonal, rising to the right"
    assert Spread.of(falling).length == pytest.approx(1 + (length - 1) * 2**0.5)


@pytest.mark.parametrize("degrees", [-80, -60, -30, 0, 30, 60])
def test_an_ellipse(degrees):
    found = Spread.of(gaussian(4, 2, degrees))
    half_height = 2 * math.sqrt(2 * math.log(2))
    assert found.angle == pytest.approx(degrees, abs=1)
    assert [found.long, found.short] == pytest.approx([4 * half_height, 2 * half_height], rel=0.06)
    assert not found.round


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0, 3.5])
def test_a_round_one_and_what_an_estimate_leaves_far_out(sigma):
    clean = gaussian(sigma, sigma)
    littered = clean + 0.005 * clean.max() * torch.rand(clean.shape, generator=torch.Generator().manual_seed(0))
    for kernel in (clean, littered / littered.sum()):
        found = Spread.of(kernel)
        assert found.round
        assert found.long == pytest.approx(2.355 * sigma, rel=0.1)


def test_operators_say_it():
    sr, motion = BlindSR(), Motion()
    assert sr.described(gaussian(2, 2, side=21)) == "a soft blur, about 4.6 pixels of the result wide, round"
    assert sr.described(gaussian(3, 1, side=21)).endswith("pixels of the result wide, mostly horizontal")
    assert sr.described(gaussian(0.4, 0.4, side=21)) == "hardly any blur"
    assert motion.described(line(15)) == "a shake about 15 pixels long, mostly horizontal"
    assert motion.described(line(15).T) == "a shake about 15 pixels long, mostly vertical"
    assert motion.described(line(1)) == "hardly any shake: the photo itself may be nearer to the truth"
    rested = 0.6 * line(1) + 0.4 * line(21)
    assert motion.described(rested) == "a shake about 21 pixels long, mostly horizontal"
    assert motion.described(gaussian(3, 3, side=31)).endswith("in no one direction")
    for nothing in (torch.zeros(21, 21), KernelSpace(21).project(torch.zeros(1, 21, 21))[0]):
        assert sr.described(nothing)
