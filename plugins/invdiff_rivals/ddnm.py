"""DDNM: Y. Wang et al., *Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model*, 2023."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Guidance, Step, without_adjoint
from invdiff.settings import Float, Int

from .linear import SolverSettings


class DDNMSettings(SolverSettings):
    floor: Annotated[Float, Field(ge=0)] = 0.03
    """Singular values of the operator below this count for nothing, softly; 0 takes all that iterations reach."""
    iterations: Annotated[Int, Field(ge=1)] = 30
    """Steps of conjugate gradients."""


class DDNM(Guidance[DDNMSettings]):
    """Replaces x0 by ``x0 - A^+ (A(x0) - y)`` (Eq. 13): the measurement's where A sees, the prior's where it does not.

    The authors invert by the operator's singular values; here ``A^+ = (A^T A + floor^2)^-1 A^T``, by conjugate
    gradients, for any linear operator. The measurement is taken as it is, its noise too: DDNM+, which makes room for
    it in the noise that the step draws, is not here. ``eta`` of the authors is the root of ``sampler.renewal``.
    """

    Settings = DDNMSettings

    def unfit(self, degradation: Degradation) -> str | None:
        return without_adjoint(degradation)

    def refine(self, step: Step) -> Estimate:
        theta = step.parameters(self.settings.kernel, "ddnm")
        shift = step.correction(theta, self.settings.floor**2, self.settings.iterations)
        return Estimate(step.x0 + shift, step.theta)
