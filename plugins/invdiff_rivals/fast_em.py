"""Fast Diffusion EM: C. Laroche et al., *Fast Diffusion EM: a Diffusion Model for Blind Inverse Problems*, 2024."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from invdiff.blur import conjugate_gradients
from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Guidance, Step
from invdiff.settings import Float, Int, Settings

from .linear import without_kernel


class FastEMSettings(Settings):
    noise: Annotated[Float, Field(gt=0)] = 0.02
    """Standard deviation on [0, 1] of what the image cannot explain: noise, 5 / 255 in the paper, and its errors."""
    coupling: Annotated[Float, Field(gt=0)] = 1e5
    """Pull of the data's kernel towards the denoised one, beta, against pixels of variance ``noise**2``."""
    threshold: Annotated[Float, Field(ge=0, lt=1)] = 0.02
    """The kernel's denoiser: numbers below this part of the largest are none."""
    rounds: Annotated[Int, Field(ge=1)] = 3
    """Rounds of the splitting, a data step and a denoised kernel each."""
    iterations: Annotated[Int, Field(ge=1)] = 30
    """Steps of conjugate gradients in each round."""


class FastEM(Guidance[FastEMSettings]):
    """The M step: ``argmin_k ||y - A_k(x0)||^2 + noise^2 beta ||k - z||^2``, z a denoised k, in turn.

    The E step is whatever restores the picture with that kernel: the paper's PiGDM, DPS, or another guidance after
    this one. It goes on from the estimate that there is, and from no blur at all where there is none, so that a
    prior that knows nothing of the operator restores blind. The paper's denoiser of kernels is a network; here it is
    the threshold of Cho and Lee (2009). For any operator that is linear in a kernel.
    """

    Settings = FastEMSettings
    estimates_parameters = True

    def unfit(self, degradation: Degradation) -> str | None:
        return without_kernel(degradation)

    def refine(self, step: Step) -> Estimate:
        x0, operator = step.x0.detach(), step.degradation
        kernel = operator.parameters.neutral(step.y) if step.theta is None else step.theta.detach()
        ratio = self.settings.coupling * (step.gain * self.settings.noise) ** 2
        bound = operator.of(x0)
        seen = bound.adjoint(step.y)

        def product(k: Tensor) -> Tensor:
            return bound.adjoint(bound.apply(k)) + ratio * k

        for _ in range(self.settings.rounds):
            # Solved for the change, so that few iterations stay near where they began.
            change = conjugate_gradients(product, seen + ratio * kernel - product(kernel), self.settings.iterations)
            kernel = denoised(operator.parameters.project(kernel + change), self.settings.threshold)
        return Estimate(step.x0, kernel if step.theta is None else step.theta + (kernel - step.theta).detach())


def denoised(kernel: Tensor, threshold: float) -> Tensor:
    """Kernels ``(B, K, K)`` of unit sum without what is below a part of their largest number."""
    kept = kernel.where(kernel > threshold * kernel.amax((-2, -1), keepdim=True), kernel.new_zeros(()))
    return kept / kept.sum((-2, -1), keepdim=True)
