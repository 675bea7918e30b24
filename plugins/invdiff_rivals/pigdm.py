"""PiGDM: J. Song et al., *Pseudoinverse-Guided Diffusion Models for Inverse Problems*, 2023."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Guidance, Step, without_adjoint
from invdiff.settings import Float, Int

from .linear import NoiseSettings, SolverSettings


class PiGDMSettings(SolverSettings, NoiseSettings):
    spread: Annotated[Float, Field(gt=0)] = 0.5
    """Standard deviation of clean images on [0, 1]; the paper's 1, on [-1, 1]."""
    iterations: Annotated[Int, Field(ge=1)] = 15
    """Steps of conjugate gradients, where the authors have the operator's singular values."""


class PiGDM(Guidance[PiGDMSettings]):
    """Takes the prior's ``E[x0 | x_t]`` to ``E[x0 | x_t, y]`` by the score of ``N(y; A x0, r^2 A A^T + noise^2)``.

    That likelihood is the paper's, with ``1 / r^2 = 1 / sigma_t^2 + 1 / spread^2``. Its gradient in ``x_t`` runs
    through the prior; Tweedie's formula makes of it a move of ``x0`` by ``(1 - abar) / sqrt(abar)`` times it. Exact for
    white Gaussian images, with any sampler; the paper's Algorithm 1 adds the gradient after a DDIM step instead, with
    a weight of its own. For linear operators.
    """

    Settings = PiGDMSettings
    needs_gradient = True

    def unfit(self, degradation: Degradation) -> str | None:
        return without_adjoint(degradation) or self.settings.unfit(degradation)

    def refine(self, step: Step) -> Estimate:
        theta, noise = step.parameters(self.settings.kernel, "pigdm"), self.settings.sigma(step)
        variance = 1 / step.precision(self.settings.spread)
        pull = step.correction(theta, noise**2 / variance, self.settings.iterations) / variance
        (score,) = torch.autograd.grad((pull * step.x0).sum(), step.x_t, retain_graph=True)
        schedule, (low, high) = step.prior.spec.schedule, step.prior.spec.value_range
        abar = float(schedule.alphas_cumprod[step.t])
        height, width = step.x0.shape[-2:]
        shift = (1 - abar) / abar**0.5 * score[..., :height, :width] / (high - low)
        # A constant to other guidances' gradients, which pass through x0 as if nothing had been added.
        return Estimate(step.x0 + shift, step.theta)
