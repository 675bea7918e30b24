"""Drawn camera shake, to test with."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from invdiff.degradation import Degradation
from invdiff.kernel_set import KernelSet, TestKernel
from invdiff.settings import Float, Settings

from .trajectory import motion_kernel


class MotionSetSettings(Settings):
    intensity: Annotated[Float, Field(ge=0, le=1)] = 0.5


class MotionSet(KernelSet):
    """Random trajectories of one intensity."""

    Settings: ClassVar[type[Settings]] = MotionSetSettings
    settings: MotionSetSettings

    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> TestKernel:
        kernel = motion_kernel(degradation.parameters.shape[0], self.settings.intensity, generator)[0]
        return TestKernel(f"drawn {index + 1}", kernel.float())
