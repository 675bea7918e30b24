"""The blind super-resolution operator, Eq. 1: blur with an unknown kernel, then downsample."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from invdiff.blur import (
    Border,
    blur,
    blur_adjoint,
    downsample_bicubic,
    downsample_bicubic_adjoint,
    is_large,
    resize_bicubic,
    upsample_bicubic,
)
from invdiff.blur.spread import Spread
from invdiff.degradation import KernelSpace, Optical, OpticalSettings
from invdiff.errors import ImageError
from invdiff.settings import Int, odd

from .kernels import Family, Isotropic

_SHARP = 1.5
"""Pixels of the result: a blur of that width is lost beside what shrinking does."""


class BlindSRSettings(OpticalSettings):
    scale: Literal[2, 3, 4] = 4
    """The clean image is this many times the measurement."""
    kernel_size: Annotated[Int, Field(ge=1)] = 21
    """Side of the kernel, odd, in pixels of the clean image."""
    kernels: Family | Annotated[list[Family], Field(min_length=1)] = Isotropic(family="isotropic")
    """One family of kernels, or a list of them to draw from by ``weight``."""
    padding: Border = "reflect"
    """What lies beyond the image's border for the blur."""
    downsample: Literal["bicubic", "stride"] = "bicubic"
    """``bicubic``: antialiased, MATLAB's imresize. ``stride``: every scale-th pixel from the first."""
    quantize: bool = True
    """Clip to [0, 1] and round to 8 bits, as a saved photo is."""

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        return odd(value, "kernel_size")


class BlindSR(Optical[BlindSRSettings]):
    """``y = (k * x) downsampled``; theta is the kernel, ``(B, K, K)`` on the clean image's grid.

    With ``downsample: stride`` the mean of the drawn kernels is moved by ``-(scale - 1) / 2`` pixels:
    the pixel kept then looks at the middle of the block it stands for, and the measurement stays
    aligned with its lift (as USRNet and KAIR do).
    """

    Settings = BlindSRSettings

    def __init__(self, settings: BlindSRSettings | None = None) -> None:
        super().__init__(settings)
        self.scale = self.settings.scale
        self.parameters = KernelSpace(self.settings.kernel_size)

    @property
    def wraps(self) -> bool:
        return self.settings.padding == "circular"

    @property
    def offset(self) -> float:
        """Where the mean of drawn kernels lies along both axes, in pixels from the middle."""
        return -(self.scale - 1) / 2 if self.settings.downsample == "stride" else 0.0

    def output_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.settings.padding == "reflect" and min(size) <= self.settings.kernel_size // 2:
            side = self.settings.kernel_size
            raise ImageError(f"{size[1]}x{size[0]} pixels of the result are too few for a kernel of {side}x{side}")
        return super().output_shape(size)

    def sample_parameters(self, batch: int, generator: torch.Generator) -> Tensor:
        kernels = self.settings.kernels
        families = kernels if isinstance(kernels, list) else [kernels]
        weights = torch.tensor([f.weight for f in families], dtype=torch.float64)
        drawn = []
        for _ in range(batch):
            choice = int(torch.multinomial(weights, 1, generator=generator)) if len(families) > 1 else 0
            drawn.append(families[choice].draw(self.settings.kernel_size, self.offset, generator))
        return torch.stack(drawn).float()

    def optics(self, x: Tensor, theta: Tensor) -> Tensor:
        if is_large(x, theta):  # what is blurred and not yet shrunk is as large as the picture
            return torch.cat([self.optics(one, theta) for one in x.split(1, 1)], dim=1)
        blurred = blur(x, theta, self.settings.padding)
        if self.settings.downsample == "stride":
            return blurred[..., :: self.scale, :: self.scale]
        return downsample_bicubic(blurred, self.scale, wraps=self.wraps)

    def optics_adjoint(self, y: Tensor, theta: Tensor) -> Tensor:
        if self.settings.downsample == "stride":
            spread = y.new_zeros(*y.shape[:-2], y.shape[-2] * self.scale, y.shape[-1] * self.scale)
            spread[..., :: self.scale, :: self.scale] = y
        else:
            spread = downsample_bicubic_adjoint(y, self.scale, wraps=self.wraps)
        return blur_adjoint(spread, theta, self.settings.padding)

    def described(self, theta: Tensor) -> str:
        spread, pixels = Spread.of(theta), "pixels of the result"
        if spread.long < _SHARP:
            return "hardly any blur"
        if spread.round:
            return f"a soft blur, about {(spread.long * spread.short) ** 0.5:.1f} {pixels} wide, round"
        return f"a soft blur, about {spread.short:.1f} by {spread.long:.1f} {pixels} wide, mostly {spread.direction}"

    def lift(self, y: Tensor) -> Tensor:
        return upsample_bicubic(y, self.scale, wraps=self.wraps)

    def baseline(self, y: Tensor) -> Tensor:
        """Bicubic upsampling as in published tables (MATLAB's, a = -0.5)."""
        return resize_bicubic(y, y.shape[-2] * self.scale, y.shape[-1] * self.scale, wraps=self.wraps)
