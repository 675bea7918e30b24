"""The loss of Algorithm 1 (Eq. 13), and what a recipe adds to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..degradation import Degradation
from ..metrics.lpips import LPIPS
from ..prior import PriorNet
from .lesson import Lesson
from .settings import ImageLosses, TrainSettings
from .teacher import Teacher
from .terms import charbonnier, consistency, fourier


def losses(
    prior: PriorNet,
    model: Callable[..., Any],
    degradation: Degradation,
    given: Lesson,
    settings: TrainSettings,
    *,
    told: bool = False,
    bfloat16: bool = False,
    teacher: Teacher | None = None,
    lpips: LPIPS | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Total, image and parameter loss of one batch (Eq. 13). ``model`` is the prior, compiled or joined to others.

    The image's is the sum of its terms with their weights; ``lpips`` measures the perceptual one. What the ``teacher``
    says takes the truth's place in part, in the error of what the network says and nowhere else.

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
    if teacher is not None:
        clean = teacher.mixed(prior, given, bfloat16=bfloat16)
        eps = prior.spec.schedule.to_eps(clean, x_t, t)
    target = prior.spec.schedule.target(prior.spec.prediction, clean, eps, t)
    error = out.raw.float() - target
    weight = given.weight.to(x_t)
    terms = settings.losses
    image = terms.squared * (weight * error.square().mean(dim=(1, 2, 3))).mean()
    if terms.charbonnier:
        weighted = weight.sqrt().view(-1, 1, 1, 1) * error
        image = image + terms.charbonnier * charbonnier(weighted, terms.softness).mean()
    if terms.fourier or terms.consistency or lpips is not None:
        image = image + _of_the_picture(prior, degradation, out.raw.float(), given, terms, lpips)
    parameter = image.new_zeros(())
    if out.parameters is not None:
        parameter = _parameter_error(out.parameters, theta)
    total = image + settings.parameter_weight * parameter
    for estimate in out.earlier:
        total = total + settings.parameter_weight * _parameter_error(estimate, theta)
    if out.variance_fraction is not None:
        x0 = prior.spec.schedule.to_x0(prior.spec.prediction, out.raw.float().detach(), x_t, t)
        total = total + settings.variance_weight * len(prior.spec.schedule) * _bound(prior, given.clean, x0, out, t)
    return total, image, parameter


def _parameter_error(estimate: Tensor, theta: Tensor) -> Tensor:
    """The absolute error, summed over each one's parameters (a kernel's pixels), the batch's mean."""
    return (estimate.float() - theta).abs().flatten(1).sum(1).mean()


def _of_the_picture(
    prior: PriorNet, degradation: Degradation, raw: Tensor, given: Lesson, terms: ImageLosses, lpips: LPIPS | None
) -> Tensor:
    """The terms that look at the picture which the network's answer stands for, not at the answer."""
    schedule, kind = prior.spec.schedule, prior.spec.prediction
    x, truth = prior.to_unit(schedule.to_x0(kind, raw, given.x_t, given.t)), prior.to_unit(given.clean)
    found = raw.new_zeros(len(raw))
    if terms.fourier:
        found = found + terms.fourier * fourier(x, truth)
    if terms.consistency:
        found = found + terms.consistency * consistency(degradation, x, truth, given.theta)
    if lpips is not None:
        found = found + terms.perceptual * lpips.distances(x, truth)
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
