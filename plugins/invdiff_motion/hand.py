"""Camera-shake kernels as a hand makes them: it drifts, trembles and rests, and light gathers where it lingers.

A drawn trajectory of :mod:`.trajectory` is lit evenly along its length. A measured one is not (Levin et al. 2009;
Koehler et al. 2012): its speed goes up and down, and dense knots stand beside faint stretches.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor

from invdiff.settings import Float, Settings, in_order

from .trajectory import light

_MOMENTS = 128  # at which the hand is followed while the shutter is open
_BETWEEN = 8  # points of light from one of them to the next
_ATTEMPTS = 100
_NODES = 3  # points across, that stand for one that is not sharp

Span = Annotated[Float, Field(gt=0)]
Share = Annotated[Float, Field(ge=0, le=1)]


class Hand(Settings):
    """A hand that drifts, trembles and rests, in a part of the drawn kernels."""

    share: Share = 0.5
    """Part of the kernels that is drawn so."""
    span: tuple[Span, Span] = (4.0, 26.0)
    """Range of the longer side of the path, in pixels; shorter where the kernel has less room."""
    spread: tuple[Share, Share] = (0.0, 0.8)
    """Range of the standard deviation of each point of light, in pixels: a lens is not perfect either."""

    @field_validator("span", "spread")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return in_order(value)


def hand_kernel(size: int, hand: Hand, generator: torch.Generator) -> Tensor:
    """A random kernel ``(size, size)`` of unit sum, float64, its centre of mass in the middle.

    The path is a Gaussian process of two parts, both with Matern covariance (nu = 3/2, a path whose speed is
    steady but not its acceleration): a drift over 0.3 to 1.5 exposures, stretched along a random direction, and a
    tremor of up to a quarter of its size over 0.05 to 0.2. In every other path the hand rests at one place for up
    to 0.4 of the time.
    """
    low, high = hand.span
    for _ in range(_ATTEMPTS):
        places, shares = hand_path(generator)
        u, v = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        span = low * (high / low) ** u
        spread = hand.spread[0] + (hand.spread[1] - hand.spread[0]) * v
        extent = float((places.amax(0) - places.amin(0)).max())
        kernel = light(*_widened(places * (span / extent), shares, spread), size)
        if kernel is not None:
            return kernel[0]
        high = max(low, 0.95 * high)
    while kernel is None:
        places = 0.8 * places
        kernel = light(places, shares, size)
    return kernel[0]


def hand_poses(size: int, turns: int, hand: Hand, generator: torch.Generator) -> Tensor:
    """Poses ``(turns, size, size)`` of one shake, float64: shifts as :func:`hand_kernel` draws them, and turns.

    The turn goes its own way through some or all of the ``turns``, the middle one on average.
    """
    low, high = hand.span
    u, v, w = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    spread = hand.spread[0] + (hand.spread[1] - hand.spread[0]) * v
    places, shares = hand_path(generator)
    places = places * (low * (high / low) ** u / float((places.amax(0) - places.amin(0)).max()))
    turn = hand_path(generator)[0][:, 0]
    turn = turn - shares @ turn
    turn = turns // 2 * (1 + w * turn / turn.abs().max())
    near = [(1 - (turn - level).abs()).clamp_min(0) for level in range(turns)]  # each lies between two of them
    while True:
        points, each = _widened(places, shares, spread)
        lit = [light(points, each * part.repeat_interleave(_NODES**2), size, shares @ places) for part in near]
        found = [one[0] for one in lit if one is not None]
        if len(found) == turns:
            return torch.stack(found)
        places, spread = 0.9 * places, 0.9 * spread  # both: a point that is not sharp fits no kernel of three pixels


def hand_path(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Places ``(N, 2)`` of no particular scale, and the part of the time ``(N,)`` spent at each."""

    def uniform(count: int) -> list[float]:
        found: list[float] = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
        return found

    slow, fast, ratio, tremor, turn, rests, rest, where = uniform(8)
    drift = _smooth(0.3 * 5**slow, generator)
    # A hand turns about the wrist more easily than across it: the drift has a direction.
    drift[:, 1] *= 0.15 + 0.85 * ratio
    moves = drift + 0.25 * tremor**2 * _smooth(0.05 * 4**fast, generator)
    sine, cosine = math.sin(2 * math.pi * turn), math.cos(2 * math.pi * turn)
    moves = moves @ torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
    along = torch.linspace(0, _MOMENTS - 1, _BETWEEN * (_MOMENTS - 1) + 1, dtype=torch.float64)
    before = along.floor().long().clamp_max(_MOMENTS - 2)
    part = (along - before)[:, None]
    places = moves[before] * (1 - part) + moves[before + 1] * part
    shares = torch.full((len(places),), 1.0 / len(places), dtype=torch.float64)
    if rests < 0.5:
        shares *= 1 - 0.4 * rest
        shares[int(where * len(shares))] += 0.4 * rest
    return places, shares


def _smooth(length: float, generator: torch.Generator) -> Tensor:
    """A Gaussian process ``(N, 2)`` of unit variance over one exposure, its two coordinates independent."""
    time = torch.linspace(0, 1, _MOMENTS, dtype=torch.float64)
    lag = math.sqrt(3) * (time[:, None] - time).abs() / length
    covariance = (1 + lag) * (-lag).exp() + 1e-8 * torch.eye(_MOMENTS, dtype=torch.float64)
    return torch.linalg.cholesky(covariance) @ torch.randn(_MOMENTS, 2, generator=generator, dtype=torch.float64)


def _widened(places: Tensor, shares: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    """Each point as nine, with the mean and the variance of a round Gaussian (three nodes of Gauss and Hermite)."""
    nodes = math.sqrt(3) * spread * torch.linspace(-1, 1, _NODES, dtype=torch.float64)
    weights = torch.tensor([1.0, 4.0, 1.0], dtype=torch.float64) / 6
    offsets = torch.cartesian_prod(nodes, nodes)
    around = (weights[:, None] * weights).flatten()
    return (places[:, None] + offsets).flatten(0, 1), (shares[:, None] * around).flatten()
