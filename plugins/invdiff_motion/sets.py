"""Drawn camera shake, to test with."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from invdiff.degradation import Degradation
from invdiff.kernel_set import KernelSet, NamedKernel
from invdiff.settings import Float, Settings

from .trajectory import motion_kernel


class MotionSetSettings(Settings):
    intensity: Annotated[Float, Field(ge=0, le=1)] = 0.5
    """How restless the hand is, from 0 (straight) to 1."""


class MotionSet(KernelSet[MotionSetSettings]):
    """Random trajectories of one intensity."""

    Settings = MotionSetSettings

    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> NamedKernel:
        kernel = motion_kernel(degradation.parameters.shape[0], self.settings.intensity, generator)[0]
        return NamedKernel(f"drawn {index + 1}", kernel.float())
