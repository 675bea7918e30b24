"""The kernel-aware gradient (Algorithm 2, line 6)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation
from invdiff.guidance import Guidance, Step
from invdiff.schedule import NoiseSchedule
from invdiff.settings import Float, Settings

AUTHORS_STEPS = 500
"""Sampling steps of the authors' code, for which lambda = 1 was chosen (the paper's Table 4)."""


class KernelAwareSettings(Settings):
    strength: Annotated[Float, Field(ge=0)] = 1.0
    """The paper's lambda."""
    squared: bool = False
    """Descend on the squared norm, as Eq. 12 is printed; the authors' code and Table 4 use the norm."""
    kernel: Literal["estimated", "bicubic", "given"] = "estimated"
    """``bicubic``: no blur, just the downsampling (Table 3's models D to F); ``given``: the true kernel."""
    detach_kernel: bool = False
    """Take no gradient through the kernel estimate."""


class KernelAware(Guidance[KernelAwareSettings]):
    """Moves each sample against the gradient of ``||y - A_k(x0(x_t))||`` with respect to ``x_t``.

    The gradient runs through the whole prior, the kernel estimate included. The norm is each image's
    own. ``strength = 1`` means what it means at the authors' 500 steps: a longer step moves as far as
    theirs would have moved in that stretch of time, see :func:`authors_steps`. Lengths are measured
    on [0, 1] images whatever the prior's range.
    """

    Settings = KernelAwareSettings
    needs_gradient = True

    def __init__(self, settings: KernelAwareSettings | None = None) -> None:
        super().__init__(settings)
        self.needs_gradient = self.settings.strength > 0

    def unfit(self, degradation: Degradation) -> str | None:
        blurs = self.settings.kernel != "bicubic" or degradation.parameters.of_blur
        return None if blurs else "kernel: bicubic is for operators that blur"

    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        if not self.needs_gradient:
            return x_next
        low, high = step.prior.spec.value_range
        # One range for the gradient and one for the move: both in units of [0, 1].
        length = self.settings.strength * (high - low) ** 2
        return x_next - length * authors_steps(step.prior.spec.schedule, step.t, step.t_next) * self.gradient(step)

    def gradient(self, step: Step) -> Tensor:
        """The gradient at ``x_t``, ``(B, 3, H, W)`` padded, in units of the prior's range."""
        residual = (step.y - step.degradation.apply(step.x0, self._kernel(step))).flatten(1)
        distance = residual.square().sum(1)
        if not self.settings.squared:
            distance = distance.clamp_min(1e-24).sqrt()
        # Samples do not see each other, so the sum's gradient is each one's own. The loop frees the
        # graph; until then another guidance may want it too.
        return torch.autograd.grad(distance.sum(), step.x_t, retain_graph=True)[0]

    def _kernel(self, step: Step) -> Tensor:
        if self.settings.kernel == "bicubic":
            return step.degradation.parameters.neutral(step.y)
        kernel = step.parameters(self.settings.kernel, "kernel_aware")
        return kernel.detach() if self.settings.detach_kernel else kernel


def authors_steps(schedule: NoiseSchedule, t: int, t_next: int) -> float:
    """How many moves of the authors' 500-step sampler one move after the step from ``t`` to ``t_next`` stands for.

    Theirs, made at times ``s`` all along the stretch, are shrunk by the transitions that follow: of a
    shift at ``s``, DDPM's posterior passes on ``h(t_next) / h(s)`` with ``h = (1 - abar) / sqrt(abar)``.
    The sum of these is close to the stretch's length where the noise level changes little over it, and
    less where it falls steeply: there a proportional step would put onto a nearly clean image what
    was meant for a noisy one. A step as long as one of theirs counts 1.
    """
    if t_next < 0:
        return 1.0
    stride = len(schedule) / AUTHORS_STEPS
    moves = (t - t_next) / stride
    total = 0.0
    for i in range(math.ceil(moves)):
        place = min(round(t_next + i * stride), t)
        total += min(1.0, moves - i) * schedule.kept_shift(place, t_next)
    return total
