"""DAPS: B. Zhang et al., *Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing*, 2024."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Guidance, Problem, Step, without_adjoint
from invdiff.schedule import NoiseSchedule
from invdiff.settings import Float, Int

from .linear import NoiseSettings, SolverSettings


class DAPSSettings(SolverSettings, NoiseSettings):
    ode_steps: Annotated[Int, Field(ge=1)] = 5
    """Evaluations of the prior in each step, along the flow from the noisy image to a clean one; 1: its estimate."""
    spread: Annotated[Float, Field(gt=0)] | None = None
    """Standard deviation of clean images on [0, 1], which bounds that of the clean image given much noise, as PiGDM has
    it; null: the noise's own, as in the paper, which many short steps forgive and few long ones do not."""
    iterations: Annotated[Int, Field(ge=1)] = 15
    """Steps of conjugate gradients, where the authors walk 100 steps of Langevin's dynamics."""


class DAPS(Guidance[DAPSSettings]):
    """Replaces x0 by a draw from ``N(x; x0, r^2) N(y; A x, noise^2)``, normalised (Algorithm 1, Eq. 7).

    ``x0`` is where the probability flow leads from x_t, ``1 / r^2 = 1 / sigma_t^2 + 1 / spread^2``. With
    ``sampler.renewal: 1`` the loop then noises the draw afresh, which is the paper's decoupling: no step remembers the
    noise of the one before. For linear operators that density is a Gaussian, and the draw is exact: the minimiser for
    a perturbed image and a perturbed measurement. The paper goes there by Langevin's dynamics, at a tenth of the noise.
    """

    Settings = DAPSSettings

    def __init__(self, settings: DAPSSettings | None = None) -> None:
        super().__init__(settings)
        self.evaluations_each = self.settings.ode_steps - 1

    def unfit(self, degradation: Degradation) -> str | None:
        return without_adjoint(degradation) or self.settings.unfit(degradation)

    def refine(self, step: Step) -> Estimate:
        theta, noise = step.parameters(self.settings.kernel, "daps"), self.settings.sigma(step)
        precision = step.precision(self.settings.spread)
        x0 = arrived(step, self.settings.ode_steps)
        x0 = x0 + precision**-0.5 * step.draw(x0)
        perturbed = replace(step, x0=x0, y=step.y + noise * step.draw(step.y))
        x0 = x0 + perturbed.correction(theta, noise**2 * precision, self.settings.iterations)
        return Estimate(step.x0 + (x0 - step.x0).detach(), step.theta)


@torch.no_grad()
def arrived(step: Step, count: int) -> Tensor:
    """The end of the probability flow from ``step.x_t``, on [0, 1] and cropped, by ``count`` steps of first order.

    They are those of DDIM, which are Euler's in sigma; their noise levels are EDM's. The first is the loop's own.
    """
    x0, prior = step.x0.detach(), step.prior
    problem = Problem(step.y, step.degradation, prior)
    times = NoiseSchedule(prior.spec.schedule.betas[: step.t + 1]).spaced(min(count, step.t + 1), "karras")
    x = step.x_t.detach()
    for now, after in pairwise(times):
        below, right = x.shape[-2] - x0.shape[-2], x.shape[-1] - x0.shape[-1]
        clean = F.pad(prior.from_unit(x0), (0, right, 0, below), mode="replicate")
        x = prior.spec.schedule.transition(x, clean, now, after, 0.0, torch.zeros_like(x))
        found = prior.predict(x, torch.full((len(x),), after, device=x.device), problem.condition)
        x0 = problem.crop(prior.to_unit(found.x0))
    return x0
