"""Samples from the loop itself: what a prior is shown while a recipe restores with it, and what was the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..blur.deconvolution import shifted
from ..degradation import Degradation, KernelSpace
from ..guidance import Guidance, Problem
from ..prior import Output, PriorNet
from ..sampler import SamplerSettings, sample
from .lesson import Lesson

_LEFT = 0.05  # on [0, 1]: what is wrong with the loop's pictures beside the noise that it names

_REACH = 3  # pixels: a wrong kernel hardly moves a picture further
_CLEARLY = 0.9  # of the squared error: a picture that says little lies nowhere


@dataclass(frozen=True)
class Loop:
    """How a recipe restores: the walk that its prior is shown."""

    guidance: Sequence[Guidance[Any]]
    sampler: SamplerSettings


class _Shown(PriorNet):
    """A prior that keeps what it was shown."""

    def __init__(self, inner: PriorNet, bfloat16: bool) -> None:
        super().__init__()
        self.inner, self.reduced, self.shown = inner, bfloat16, list[tuple[Tensor, Tensor]]()
        self.settings, self.spec = inner.settings, inner.spec

    def estimate(self, condition: Tensor) -> Tensor | None:
        return self.inner.estimate(condition)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Output:
        self.shown.append((x_t.detach(), t))
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=self.reduced):
            out = self.inner(x_t, t, condition)
        return replace(out, raw=out.raw.float())


@torch.no_grad()
def walk(
    prior: PriorNet,
    degradation: Degradation,
    loop: Loop,
    given: Lesson,
    generators: Sequence[torch.Generator],
    *,
    bfloat16: bool = False,
) -> Lesson:
    """The measurements of a lesson of ``B`` images, restored: ``steps * B`` samples, the first step's first.

    A kernel moved one way and a picture moved the other give the same measurement: where the parameters are kernels,
    the truth lies where the loop's last picture has it, to a pixel.

    A sample counts by the error that the loop leaves in a picture beside the noise, or else the last steps, where
    hardly any noise is named, would count for all.
    """
    watched = _Shown(prior, bfloat16)
    problem = Problem(given.y, degradation, watched, loop.guidance, given.theta)
    last = sample(problem, loop.sampler, generators).x0
    truth = given.clean
    if isinstance(degradation.parameters, KernelSpace):
        pairs = zip(truth, prior.from_unit(last), strict=True)
        truth = torch.stack([_where(x, seen, degradation.wraps) for x, seen in pairs])
    steps = len(watched.shown)
    x_t, t = (torch.cat(part) for part in zip(*watched.shown, strict=True))
    clean, condition, theta, y = (
        part.repeat(steps, *(1 for _ in part.shape[1:])) for part in (truth, given.condition, given.theta, given.y)
    )
    eps = prior.spec.schedule.to_eps(clean, x_t, t)
    return Lesson(clean, condition, eps, x_t, t, theta, y, _weight(prior, x_t, t))


def _where(truth: Tensor, seen: Tensor, wraps: bool) -> Tensor:
    """``truth (3, H, W)``, moved by a few whole pixels where that brings it clearly nearer to a picture of the same."""

    def moved(place: tuple[int, int]) -> Tensor:
        return shifted(truth, *place, replicate=True, wraps=wraps)

    places = [(rows, cols) for rows in range(-_REACH, _REACH + 1) for cols in range(-_REACH, _REACH + 1)]
    inner = (..., slice(_REACH, -_REACH), slice(_REACH, -_REACH))

    def error(place: tuple[int, int]) -> float:
        return float((moved(place) - seen)[inner].square().mean())

    best = min(places, key=error)
    return moved(best) if error(best) < _CLEARLY * error((0, 0)) else truth


def _weight(prior: PriorNet, x_t: Tensor, t: Tensor) -> Tensor:
    """``1 / (1 / w + _LEFT^2)`` for the weight ``w`` that the prior gives to errors of a picture with noise alone."""
    schedule, kind = prior.spec.schedule, prior.spec.prediction
    low, high = prior.spec.value_range
    zeros, ones = torch.zeros_like(x_t[:, :1, :1, :1]), torch.ones_like(x_t[:, :1, :1, :1])
    slope = schedule.to_x0(kind, ones, zeros, t) - schedule.to_x0(kind, zeros, zeros, t)
    own = prior.loss_weight(t.cpu()).to(x_t)
    of_picture = own / slope.flatten().square()
    return own / (1 + of_picture * (_LEFT * (high - low)) ** 2)
