"""Gaussian kernel families: how they are written in a recipe, and how one is drawn."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from invdiff.settings import Float, Int, Settings


class _Family(Settings):
    weight: Annotated[Float, Field(gt=0)] = 1.0
    """How often this family is drawn, relative to the others in a list."""

    def draw(self, size: int, offset: float, generator: torch.Generator) -> Tensor:
        raise NotImplementedError


class _Ranged(_Family):
    sigma: tuple[Float, Float]
    """Range of the standard deviations, in pixels of the clean image."""

    @field_validator("sigma")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError(f"sigma must be [low, high] with 0 < low <= high, got {list(value)}")
        return value


class Isotropic(_Ranged):
    """Round Gaussians, standard deviation uniform in ``sigma`` (pixels of the clean image)."""

    family: Literal["isotropic"]
    """Which family it is."""
    sigma: tuple[Float, Float] = (0.2, 4.0)
    """Range of the standard deviations, in pixels of the clean image."""

    def draw(self, size: int, offset: float, generator: torch.Generator) -> Tensor:
        sigma = uniform(*self.sigma, generator)
        return gaussian(size, sigma, sigma, 0.0, offset)


class Anisotropic(_Ranged):
    """Two axes, each uniform in ``sigma``, at any angle, each pixel times 1 + U[-noise, noise], renormalised."""

    family: Literal["anisotropic"]
    """Which family it is."""
    sigma: tuple[Float, Float] = (0.6, 5.0)
    """Range of the standard deviations, in pixels of the clean image."""
    noise: Annotated[Float, Field(ge=0, lt=1)] = 0.25
    """Each pixel is off by up to this part of itself."""
    one_sided: bool = False
    """Noise in 1 + U[0, noise], as in the authors' code."""

    def draw(self, size: int, offset: float, generator: torch.Generator) -> Tensor:
        sigma_x, sigma_y = uniform(*self.sigma, generator), uniform(*self.sigma, generator)
        kernel = gaussian(size, sigma_x, sigma_y, uniform(-math.pi, math.pi, generator), offset)
        low = 0.0 if self.one_sided else -self.noise
        speckle = torch.rand(size, size, generator=generator, dtype=torch.float64)
        kernel = kernel * (1 + low + (self.noise - low) * speckle)
        return kernel / kernel.sum()


class Gaussian8(_Ranged):
    """The benchmark's round Gaussians: one of ``count`` evenly spaced standard deviations (IKC, DAN)."""

    family: Literal["gaussian8"]
    """Which family it is."""
    sigma: tuple[Float, Float] = (1.8, 3.2)
    """Range of the standard deviations, in pixels of the clean image."""
    count: Annotated[Int, Field(ge=1)] = 8
    """How many standard deviations there are."""

    def draw(self, size: int, offset: float, generator: torch.Generator) -> Tensor:
        values = torch.linspace(*self.sigma, self.count, dtype=torch.float64)
        sigma = float(values[torch.randint(self.count, (), generator=generator)])
        return gaussian(size, sigma, sigma, 0.0, offset)


Family = Annotated[Isotropic | Anisotropic | Gaussian8, Field(discriminator="family")]


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def gaussian(size: int, sigma_x: float, sigma_y: float, angle: float = 0.0, offset: float = 0.0) -> Tensor:
    """A float64 Gaussian sampled at integer offsets, unit sum.

    ``sigma_x`` lies along the axis turned by ``angle`` (radians, from columns towards rows);
    ``offset`` moves the mean along both axes, in pixels.
    """
    line = torch.arange(size, dtype=torch.float64) - size // 2 - offset
    rows, cols = torch.meshgrid(line, line, indexing="ij")
    u = math.cos(angle) * cols + math.sin(angle) * rows
    v = math.cos(angle) * rows - math.sin(angle) * cols
    exponent = -0.5 * ((u / sigma_x) ** 2 + (v / sigma_y) ** 2)
    kernel = torch.exp(exponent - exponent.max())  # the peak may lie between pixels, and be very narrow
    return kernel / kernel.sum()
