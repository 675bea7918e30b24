"""What a training step asks the prior: images, degraded and noised at times of their own, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..degradation import Degradation
from ..prior import PriorNet
from .settings import NoiseLevels


@dataclass(frozen=True)
class Lesson:
    """Images ``(B, 3, H, W)`` in the prior's range, made into what it is asked, and the answers.

    ``y (B, 3, h, w)`` are the measurements themselves, in [0, 1]; each sample's squared error counts ``weight (B,)``.
    """

    clean: Tensor
    condition: Tensor
    eps: Tensor
    x_t: Tensor
    t: Tensor
    theta: Tensor
    y: Tensor
    weight: Tensor

    def __add__(self, other: Lesson) -> Lesson:
        """Both lessons as one, this one's samples first."""
        names = [field.name for field in fields(self)]
        return Lesson(**{name: torch.cat([getattr(self, name), getattr(other, name)]) for name in names})


def draw_times(prior: PriorNet, levels: NoiseLevels, batch: int, generator: torch.Generator) -> Tensor:
    """Times ``(batch,)`` of a training step."""
    schedule = prior.spec.schedule
    uniform = torch.randint(len(schedule), (batch,), generator=generator)
    sigma = levels.median * (levels.spread * torch.randn(batch, generator=generator)).exp()
    table = schedule.noise_to_signal(torch.arange(len(schedule)), torch.empty(len(schedule)))
    focused = torch.searchsorted(table, sigma).clamp_max(len(schedule) - 1)
    return torch.where(torch.rand(batch, generator=generator) < levels.lognormal_share, focused, uniform)


@torch.no_grad()
def lesson(
    prior: PriorNet,
    degradation: Degradation,
    x: Tensor,
    levels: NoiseLevels,
    generators: Sequence[torch.Generator],
) -> Lesson:
    """Degrade and noise clean images ``x (B, 3, H, W)`` in [0, 1], each by a generator of its own.

    What an image becomes does not depend on its neighbours, nor on the process that it lands in.
    """
    schedule, parts = prior.spec.schedule, []
    for one, generator in zip(x.split(1), generators, strict=True):
        t = draw_times(prior, levels, 1, generator).to(x.device)
        y, theta = degradation.degrade(one, generator)
        clean, condition = prior.from_unit(one), prior.from_unit(degradation.lift(y))
        eps = torch.randn(one.shape, generator=generator).to(one)
        weight = prior.loss_weight(t.cpu()).to(x.device)
        parts.append((clean, condition, eps, schedule.add_noise(clean, eps, t), t, theta, y, weight))
    return Lesson(*(torch.cat(part) for part in zip(*parts, strict=True)))
