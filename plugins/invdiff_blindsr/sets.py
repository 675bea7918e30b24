"""The kernels of the paper's Tables 1 and 2."""

from __future__ import annotations

from typing import Literal

import torch

from invdiff.degradation import Degradation
from invdiff.kernel_set import KernelSet, NamedKernel
from invdiff.settings import Settings

from .kernels import Anisotropic, gaussian
from .operator import BlindSR

_SIGMAS = (1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2)


class Gaussian8Set(KernelSet[Settings]):
    """Eight round Gaussians, standard deviations 1.8 to 3.2 pixels of the clean image."""

    count = len(_SIGMAS)

    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> NamedKernel:
        sigma, size = _SIGMAS[index], degradation.parameters.shape[0]
        return NamedKernel(f"sigma {sigma}", gaussian(size, sigma, sigma, 0.0, _offset(degradation)).float())


class AnisotropicSetSettings(Anisotropic):
    family: Literal["anisotropic"] = "anisotropic"
    """Which family it is."""


class AnisotropicSet(KernelSet[AnisotropicSetSettings]):
    """Gaussians of two widths at any angle, each pixel off by up to 25 %."""

    Settings = AnisotropicSetSettings

    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> NamedKernel:
        drawn = self.settings.draw(degradation.parameters.shape[0], _offset(degradation), generator)
        return NamedKernel(f"drawn {index + 1}", drawn.float())


def _offset(degradation: Degradation) -> float:
    """Where the means of kernels lie, for an operator that keeps every scale-th pixel."""
    return degradation.offset if isinstance(degradation, BlindSR) else 0.0
