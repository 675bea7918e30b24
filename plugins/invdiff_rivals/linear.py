"""What the solvers share: settings, the measurement's noise, and what operators they are for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation, KernelSpace
from invdiff.guidance import Step
from invdiff.metrics import noise_level
from invdiff.settings import Float, Settings

_LEAST_NOISE = 0.001  # no data term is certain: the floor that DiffPIR has


class SolverSettings(Settings):
    """What every solver that is told the operator has."""

    kernel: Literal["estimated", "given"] = "estimated"
    """``given``: the true parameters, where they are known."""


class NoiseSettings(Settings):
    """What every solver that weighs the measurement has."""

    noise: Annotated[Float, Field(gt=0, le=1)] | Literal["measured"] | None = None
    """Standard deviation of the measurement's noise on [0, 1]; null: what the operator says; ``measured``: that of the
    photo itself where it is more, and beside it what compression did to a JPEG. Noise is read from the finest detail,
    of which a blurred photo has little of its own, and a JPEG hardly any: there its tables tell."""

    def sigma(self, step: Step) -> float | Tensor:
        """It, or the operator's own, never quite zero; a number, or where it is measured ``(B, 1, 1, 1)``."""
        told = step.gain * (step.degradation.noise_level or 0.0)
        if self.noise == "measured":
            noise = noise_level(step.y).clamp_min(max(told, _LEAST_NOISE))
            return (noise.square() + step.compression**2).sqrt().view(-1, 1, 1, 1)
        return max(step.gain * (self.noise or 0.0) or told, _LEAST_NOISE)

    def unfit(self, degradation: Degradation) -> str | None:
        """Why the noise is not known; None where it is."""
        known = self.noise is not None or degradation.noise_level is not None
        return None if known else "this operator does not say how noisy its measurements are: set noise"


def without_kernel(degradation: Degradation) -> str | None:
    """Why an operator has no kernel to find; None where it has one."""
    return None if isinstance(degradation.parameters, KernelSpace) else "this operator's parameters are no kernel"
