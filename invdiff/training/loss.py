"""The loss of Algorithm 1 (Eq. 13), what a recipe adds to it, and the times it is taken at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..degradation import Degradation
from ..prior import PriorNet
from .settings import ImageLosses, NoiseLevels, TrainSettings
from .terms import charbonnier, consistency, fourier


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


def losses(
    prior: PriorNet,
    model: Callable[..., Any],
    degradation: Degradation,
    given: Lesson,
    settings: TrainSettings,
    *,
    told: bool = False,
    bfloat16: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Total, image and parameter loss of one batch (Eq. 13). ``model`` is the prior, compiled or joined to others.

    The image's is the sum of its terms with their weights.

    Where it is ``told``, it restores with the true parameters. Where it ``learns`` parameters alone, the image's is 0.
    """
    if settings.learns == "parameters":
        with torch.autocast(given.theta.device.type, torch.bfloat16, enabled=bfloat16):
            estimate = prior.estimate(given.condition)
        assert estimate is not None  # the trainer has refused priors that estimate none
        parameter = _parameter_error(estimate, given.theta)
        return settings.parameter_weight * parameter, parameter.new_zeros(()), parameter
    clean, eps, x_t, t, theta = given.clean, given.eps, given.x_t, given.t, given.theta
    # Only the network: a measurement blurred in bfloat16 would be off by more than its 8-bit rounding.
    with torch.autocast(x_t.device.type, torch.bfloat16, enabled=bfloat16):
        out = model(x_t, t, given.condition, *((theta,) if told else ()))
    target = prior.spec.schedule.target(prior.spec.prediction, clean, eps, t)
    error = out.raw.float() - target
    weight = given.weight.to(x_t)
    terms = settings.losses
    image = terms.squared * (weight * error.square().mean(dim=(1, 2, 3))).mean()
    if terms.charbonnier:
        weighted = weight.sqrt().view(-1, 1, 1, 1) * error
        image = image + terms.charbonnier * charbonnier(weighted, terms.softness).mean()
    if terms.fourier or terms.consistency:
        image = image + _of_the_picture(prior, degradation, out.raw.float(), given, terms)
    parameter = image.new_zeros(())
    if out.parameters is not None:
        parameter = _parameter_error(out.parameters, theta)
    total = image + settings.parameter_weight * parameter
    for estimate in out.earlier:
        total = total + settings.parameter_weight * _parameter_error(estimate, theta)
    if out.variance_fraction is not None:
        x0 = prior.spec.schedule.to_x0(prior.spec.prediction, out.raw.float().detach(), x_t, t)
        total = total + settings.variance_weight * len(prior.spec.schedule) * _bound(prior, clean, x0, out, t)
    return total, image, parameter


def _parameter_error(estimate: Tensor, theta: Tensor) -> Tensor:
    """The absolute error, summed over each one's parameters (a kernel's pixels), the batch's mean."""
    return (estimate.float() - theta).abs().flatten(1).sum(1).mean()


def _of_the_picture(
    prior: PriorNet, degradation: Degradation, raw: Tensor, given: Lesson, terms: ImageLosses
) -> Tensor:
    """The terms that look at the picture which the network's answer stands for, not at the answer."""
    schedule, kind = prior.spec.schedule, prior.spec.prediction
    x, truth = prior.to_unit(schedule.to_x0(kind, raw, given.x_t, given.t)), prior.to_unit(given.clean)
    found = raw.new_zeros(len(raw))
    if terms.fourier:
        found = found + terms.fourier * fourier(x, truth)
    if terms.consistency:
        found = found + terms.consistency * consistency(degradation, x, truth, given.theta)
    if kind == "eps":  # the picture follows by a division by sqrt(abar): near pure noise it would drown the rest
        found = found * schedule.abar(given.t, found)
    return found.mean()


def _bound(prior: PriorNet, clean: Tensor, x0: Tensor, out: Any, t: Tensor) -> Tensor:
    """KL of the true reverse step from the predicted one, with the mean held fixed (Nichol and Dhariwal 2021).

    At ``t = 0``, where the true step has no variance, the next one's takes its place.
    """
    pairs = [prior.spec.schedule.transition_variances(max(i, 1), max(i, 1) - 1) for i in t.tolist()]
    small, large = (torch.tensor(v).to(clean).view(-1, 1, 1, 1) for v in zip(*pairs, strict=True))
    log_ratio = out.variance_fraction.float() * (large / small).log()
    abar, before = prior.spec.schedule.abar(t, clean), prior.spec.schedule.abar(t - 1, clean)
    gap = before.sqrt() * (1 - abar / before) / (1 - abar) * (clean - x0)
    kl = 0.5 * (log_ratio - 1 + (1 + gap.square() / small) * (-log_ratio).exp())
    return kl.mean()
