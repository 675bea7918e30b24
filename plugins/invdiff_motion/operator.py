"""The motion deblurring operator: convolution with an unknown, asymmetric kernel at full resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from invdiff.blur import Blur, BlurOf, Padding, blur, blur_adjoint, pad_border
from invdiff.blur.kernel_files import read_kernels
from invdiff.blur.spread import Spread
from invdiff.degradation import Bound, KernelSpace, Optical, OpticalSettings
from invdiff.errors import ImageError
from invdiff.seeds import content_of
from invdiff.settings import Float, Int, in_order, odd

from .hand import Hand, hand_kernel
from .trajectory import motion_kernel

_NO_SHAKE = "hardly any shake"
_STILL = 0.37
"""The part of a kernel in one pixel that few shakes of three pixels and more have. Of photos that were not shaken at
all kernels are found that mostly keep more, and those photos come out worse than they went in."""
Intensity = Annotated[Float, Field(ge=0, le=1)]


class MotionSettings(OpticalSettings):
    kernel_size: Annotated[Int, Field(ge=3)] = 31
    """Side of the kernel, odd."""
    intensity: Intensity | tuple[Intensity, Intensity] = 0.5
    """How the camera shakes, from 0, a straight line, to 1; or [low, high] to draw it from."""
    hand: Hand | None = None
    """Draw a part of the kernels with uneven speed and knots, as a hand makes them."""
    kernels: str | None = None
    """A file or folder of measured kernels to draw from instead (.npy, .png, .mat); smaller ones are framed."""
    padding: Padding = "reflect"
    """``valid``: the scene goes on beyond the photo, as it does for real ones."""

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        return odd(value, "kernel_size")

    @field_validator("intensity")
    @classmethod
    def _ordered(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        return in_order(value, "intensity must be one number or [low, high]")

    @model_validator(mode="after")
    def _readable(self) -> MotionSettings:
        if self.kernels is not None:
            try:
                read_kernels(Path(self.kernels), self.kernel_size)
            except ImageError as error:
                raise ValueError(f"kernels: {error}") from None
        return self


class Motion(Optical[MotionSettings]):
    """``y = k * x + n`` at scale 1; theta is the kernel, ``(B, K, K)``, its centre of mass in the middle.

    A kernel moved one way and a scene moved the other give the same photo. Centring settles which is
    meant: drawn kernels are centred exactly, measured ones to the nearest pixel.
    """

    Settings = MotionSettings

    def __init__(self, settings: MotionSettings | None = None) -> None:
        super().__init__(settings)
        self.parameters = KernelSpace(self.settings.kernel_size)
        path, size = self.settings.kernels, self.settings.kernel_size
        self._measured = [] if path is None else [m.kernel for m in read_kernels(Path(path), size)]
        self.content = content_of(*self._measured) if self._measured else None

    @property
    def wraps(self) -> bool:
        return self.settings.padding == "circular"

    @property
    def margin(self) -> int:
        """Pixels by which the scene goes on beyond the photo on each side."""
        return self.settings.kernel_size // 2 if self.settings.padding == "valid" else 0

    def output_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < self.settings.kernel_size:
            side = self.settings.kernel_size
            raise ImageError(f"{size[1]}x{size[0]} pixels are too small for a kernel of {side}x{side}")
        return size[0] - 2 * self.margin, size[1] - 2 * self.margin

    def sample_parameters(self, batch: int, generator: torch.Generator) -> Tensor:
        return torch.stack([self._draw(generator) for _ in range(batch)]).float()

    def _draw(self, generator: torch.Generator) -> Tensor:
        if self._measured:
            return self._measured[int(torch.randint(len(self._measured), (), generator=generator))]
        hand = self.settings.hand
        if hand is not None and float(torch.rand((), generator=generator, dtype=torch.float64)) < hand.share:
            return hand_kernel(self.settings.kernel_size, hand, generator)
        intensity = self.settings.intensity
        if isinstance(intensity, tuple):
            low, high = intensity
            intensity = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
        return motion_kernel(self.settings.kernel_size, intensity, generator)[0]

    def optics(self, x: Tensor, theta: Tensor) -> Tensor:
        return blur(x, theta, self.settings.padding)

    def optics_adjoint(self, y: Tensor, theta: Tensor) -> Tensor:
        return blur_adjoint(y, theta, self.settings.padding)

    def at(self, theta: Tensor) -> Bound:
        return Blur(theta.detach(), self.settings.padding) if self.linear else super().at(theta)

    def of(self, x: Tensor, margin: int = 0) -> Bound:
        if not self.linear:
            return super().of(x, margin)
        return BlurOf(x.detach(), self.settings.kernel_size, self.settings.padding, margin)

    def described(self, theta: Tensor) -> str:
        words = shake_in_words(theta)
        return f"{words}: the photo itself may be nearer to the truth" if words == _NO_SHAKE else words

    def lift(self, y: Tensor) -> Tensor:
        """The measurement itself; for ``valid`` with its border repeated out to where the scene reaches."""
        return pad_border(y, self.margin, "replicate") if self.margin else y

    def frame(self, x: Tensor) -> Tensor:
        margin = self.margin
        return x[..., margin : x.shape[-2] - margin, margin : x.shape[-1] - margin]


def shake_in_words(kernel: Tensor) -> str:
    """How long a shake is, and which way it goes."""
    spread = Spread.of(kernel)
    if spread.is_point(_STILL):
        return _NO_SHAKE
    way = "in no one direction" if spread.round else f"mostly {spread.direction}"
    return f"a shake about {spread.length:.0f} pixels long, {way}"
