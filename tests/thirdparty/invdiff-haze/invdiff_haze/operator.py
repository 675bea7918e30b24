"""Haze of even density: ``y = x t + A (1 - t)``, transmission and airlight both unknown."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from invdiff import BoxSpace, Degradation, DegradationSettings
from invdiff.settings import Float


class HazeSettings(DegradationSettings):
    thickest: Annotated[Float, Field(gt=0, lt=1)] = 0.3
    """The lowest transmission that is drawn."""
    airlight: tuple[Float, Float] = (0.7, 1.0)


class Haze(Degradation[HazeSettings]):
    """Parameters ``(B, 2)``: transmission, and airlight on [0, 1] images."""

    Settings = HazeSettings
    linear = False  # airlight is added whatever the image is

    def __init__(self, settings: HazeSettings | None = None) -> None:
        super().__init__(settings)
        low, high = self.settings.airlight
        self.parameters = BoxSpace(("transmission", "airlight"), (self.settings.thickest, low), (1.0, high))

    def sample_parameters(self, batch: int, generator: torch.Generator) -> Tensor:
        low, high = torch.tensor(self.parameters.low), torch.tensor(self.parameters.high)
        return low + (high - low) * torch.rand(batch, 2, generator=generator)

    def apply(self, x: Tensor, theta: Tensor) -> Tensor:
        transmission, airlight = theta[:, :, None, None, None].unbind(1)
        return transmission * x + (1 - transmission) * airlight

    def lift(self, y: Tensor) -> Tensor:
        return y
