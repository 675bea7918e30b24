"""DPS: H. Chung et al., *Diffusion Posterior Sampling for General Noisy Inverse Problems*, 2023."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from invdiff.guidance import Guidance, Step
from invdiff.settings import Float

from .linear import SolverSettings


class DPSSettings(SolverSettings):
    strength: Annotated[Float, Field(ge=0)] = 0.3
    """The step's length, zeta of the authors' code for blur and x4 at 1000 steps; fewer steps want more."""


class DPS(Guidance[DPSSettings]):
    """Moves each sample by ``-zeta grad ||y - A(x0(x_t))||`` in ``x_t`` (Algorithm 1, line 7).

    The norm is each image's own. The gradient of the norm is that of the square with the paper's step, which is
    divided by the norm, but for a factor of 2; the authors' code has no such factor, and is followed. Lengths are
    measured on [-1, 1], as theirs are, whatever the prior's range. The parameters are taken as they are: no
    gradient runs through them. For any differentiable operator.
    """

    Settings = DPSSettings
    needs_gradient = True

    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        theta = step.parameters(self.settings.kernel, "dps").detach()
        residual = (step.y - step.degradation.apply(step.x0, theta)).flatten(1)
        distance = residual.square().sum(1).clamp_min(1e-24).sqrt()
        # Samples do not see each other, so the sum's gradient is each one's own.
        (gradient,) = torch.autograd.grad(distance.sum(), step.x_t, retain_graph=True)
        low, high = step.prior.spec.value_range
        # From [0, 1] to [-1, 1]: 2 for the residual, and half the range's width for each of x_t and the move.
        return x_next - self.settings.strength * 2 * ((high - low) / 2) ** 2 * gradient
