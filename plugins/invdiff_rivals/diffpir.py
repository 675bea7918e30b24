"""DiffPIR: Y. Zhu et al., *Denoising Diffusion Models for Plug-and-Play Image Restoration*, 2023."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Guidance, Step, without_adjoint
from invdiff.settings import Float, Int

from .linear import NoiseSettings, SolverSettings

_CLIPPED = 0.995  # of a photo's range: no pixel above it but those at its end
_SHORT = 0.02
"""Weight of a clipped pixel that the picture falls short of. A white page is lost without it, and a lamp's rings come
back with all of it: chosen on drawn pages, and on three faces with lamps and whites beyond the range."""


class DiffPIRSettings(SolverSettings, NoiseSettings):
    strength: Annotated[Float, Field(gt=0)] = 1.75
    """Trust in the prior, lambda; the authors' 7, which mixes images on [0, 1] with noise on [-1, 1], is 1.75."""
    spread: Annotated[Float, Field(gt=0)] | None = None
    """Standard deviation on [0, 1] of the prior's estimate where the noisy image tells it nothing, as PiGDM has it: at
    much noise the measurement is believed no further than this warrants. null: without bound, as in the paper."""
    clipped: Literal["believed", "left_out"] = "believed"
    """``left_out``: a pixel as bright as a photo can hold says that there was at least so much light, little where the
    picture has less and nothing where it has that: a lamp that was shaken leaves rings else. ``believed``: it is a
    measurement like others, as in the paper."""
    iterations: Annotated[Int, Field(ge=1)] = 15
    """Steps of conjugate gradients, for operators with any border; the authors' border is circular, for FFTs."""


class DiffPIR(Guidance[DiffPIRSettings]):
    """Replaces x0 by ``argmin ||y - A(x)||^2 + rho ||x - x0||^2``, ``rho = lambda noise^2 / sigma_t^2`` (Eq. 13).

    At much noise that is the plain inverse, which blows up a noisy photo's noise: ``spread`` bounds it.
    The last estimate is left as the prior made it, as in the authors' code. Their zeta is
    ``sampler.renewal``, their spacing ``quadratic``. For linear operators.
    """

    Settings = DiffPIRSettings

    def unfit(self, degradation: Degradation) -> str | None:
        return without_adjoint(degradation) or self.settings.unfit(degradation)

    def refine(self, step: Step) -> Estimate:
        if step.t_next < 0:
            return Estimate(step.x0, step.theta)
        theta = step.parameters(self.settings.kernel, "diffpir")
        ratio = self.settings.strength * self.settings.sigma(step) ** 2 * step.precision(self.settings.spread)
        believed = self._believed(step, theta) if self.settings.clipped == "left_out" else None
        return Estimate(step.x0 + step.correction(theta, ratio, self.settings.iterations, believed), step.theta)

    def _believed(self, step: Step, theta: Tensor) -> Tensor:
        """How much each pixel of the photo counts, as large as ``y``."""
        short = step.degradation.apply(step.x0.detach(), theta) < step.y
        return torch.where(step.y < step.gain * _CLIPPED, 1.0, _SHORT * short).to(step.y)
