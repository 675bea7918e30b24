"""Deconvolution with a kernel that is told, by scikit-image."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from skimage import restoration

from invdiff.degradation import Degradation, KernelSpace
from invdiff.method import Case, Method, Restoration
from invdiff.settings import Float, Int, Settings


class _ToldSettings(Settings):
    kernel: Literal["true", "estimated"] = "true"
    """The true kernel, or the one that the evaluated recipe estimates: what its picture's half adds."""


T = TypeVar("T", bound=_ToldSettings)


class _Deconvolution(Method[T]):
    """Plane by plane, the photo mirrored by the kernel's side at its borders."""

    @property
    def wants_estimate(self) -> bool:
        return self.settings.kernel == "estimated"

    def unfit(self, degradation: Degradation) -> str | None:
        if degradation.scale == 1 and isinstance(degradation.parameters, KernelSpace):
            return None
        return "deconvolves: it is for blurs at scale 1"

    def restore(self, case: Case) -> Restoration:
        kernel, pad = case.parameters.double().numpy(), case.parameters.shape[-1]
        planes = np.pad(case.y.double().numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="symmetric")
        restored = np.stack([self.deconvolve(plane, kernel)[pad:-pad, pad:-pad] for plane in planes])
        return Restoration(torch.from_numpy(restored).float().clamp(0, 1))

    def deconvolve(self, plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class WienerSettings(_ToldSettings):
    balance: Annotated[Float, Field(gt=0)] = 3.0
    """Weight of smoothness. The default served best of 0.003 to 30 by half decades, at 31x31 and noise 0.01."""


class Wiener(_Deconvolution[WienerSettings]):
    """Wiener's filter with a Laplacian as the prior, told the kernel."""

    Settings = WienerSettings

    def deconvolve(self, plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return np.asarray(restoration.wiener(plane, kernel, self.settings.balance, clip=False))


class RichardsonLucySettings(_ToldSettings):
    iterations: Annotated[Int, Field(ge=1)] = 10
    """The default served best of 5, 10, 15, 20, 30 and 50, at 31x31 and noise 0.01: more of them fit the noise."""


class RichardsonLucy(_Deconvolution[RichardsonLucySettings]):
    """Multiplicative updates for Poisson noise, told the kernel."""

    Settings = RichardsonLucySettings

    def deconvolve(self, plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return np.asarray(restoration.richardson_lucy(plane.clip(0), kernel, self.settings.iterations))
