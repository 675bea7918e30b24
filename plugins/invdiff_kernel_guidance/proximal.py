"""The image's half of alternate minimisation: a data step between the prior's estimate and the measurement."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Guidance, Step, without_adjoint
from invdiff.settings import Float, Int, Settings


class ProximalSettings(Settings):
    noise: Annotated[Float, Field(gt=0)] = 0.03
    """Standard deviation on [0, 1] of what the operator cannot explain: noise, and errors of the kernel."""
    spread: Annotated[Float, Field(gt=0)] = 0.05
    """Standard deviation on [0, 1] of the prior's estimate where the noisy image tells it nothing."""
    iterations: Annotated[Int, Field(ge=1)] = 15
    """Steps of conjugate gradients; none where a blur's borders are circular: the solution has a closed form there."""
    kernel: Literal["estimated", "given"] = "estimated"
    """``given``: the true parameters, where they are known."""


class Proximal(Guidance[ProximalSettings]):
    """Replaces x0 by ``argmin ||y - A(x)||^2 / noise^2 + ||x - x0||^2 / r^2``, see :meth:`Step.correction`.

    This is the posterior mean where the prior's error is white with standard deviation ``r``, for which
    ``1 / r^2 = 1 / sigma_t^2 + 1 / spread^2``: as in DiffPIR (Zhu et al. 2023, Eq. 13) at little noise, and
    bounded, as in PiGDM (Song et al. 2023), at much. For linear operators.
    """

    Settings = ProximalSettings

    def unfit(self, degradation: Degradation) -> str | None:
        return without_adjoint(degradation)

    def refine(self, step: Step) -> Estimate:
        theta = step.parameters(self.settings.kernel, "proximal")
        # A constant to other guidances' gradients, which pass through x0 as if nothing had been added.
        return Estimate(step.x0 + step.correction(theta, self.ratio(step), self.settings.iterations), step.theta)

    def ratio(self, step: Step) -> float:
        """``noise^2 / r^2`` at this step."""
        return (step.gain * self.settings.noise) ** 2 * step.precision(self.settings.spread)
