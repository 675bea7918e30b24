"""Denoising by total variation (Rudin, Osher and Fatemi 1992), by Chambolle's projections (2004)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from invdiff.prior import DenoiserPrior
from invdiff.settings import Float, Int, Settings

_STEP = 0.25  # the longest with which the projections converge in two dimensions


class TVSettings(Settings):
    strength: Annotated[Float, Field(gt=0)] = 0.3
    """Weight of the variation for noise of one; it grows with the noise's standard deviation."""
    iterations: Annotated[Int, Field(ge=1)] = 30
    """Projections for each denoised image."""
    sigma_max: Annotated[Float, Field(ge=0.02, le=1)] = 0.2
    """Largest noise on [0, 1]: the diffusion starts there, from the lifted measurement."""


class TV(DenoiserPrior):
    """``argmin ||u - x||^2 / 2 + strength * sigma * TV(u)``: flat areas and sharp edges, each colour by itself."""

    Settings = TVSettings

    def __init__(self, settings: TVSettings | None = None) -> None:
        settings = TVSettings() if settings is None else settings
        super().__init__(settings, sigma_max=settings.sigma_max)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return total_variation(x, self.settings.strength * sigma.view(-1, 1, 1, 1), self.settings.iterations)


def total_variation(x: Tensor, weight: Tensor, iterations: int) -> Tensor:
    """The minimiser for images ``x (B, C, H, W)`` and weights ``(B, 1, 1, 1)``, differentiable in ``x``."""
    rows, cols = torch.zeros_like(x), torch.zeros_like(x)  # the dual field, nowhere longer than the weight
    u = x
    for _ in range(iterations):
        down, right = F.pad(u.diff(dim=-2), (0, 0, 0, 1)), F.pad(u.diff(dim=-1), (0, 1))
        length = (down.square() + right.square()).clamp_min(1e-20).sqrt()  # a root has no derivative at nothing
        shrink = 1 + _STEP / weight * length
        rows, cols = (rows - _STEP * down) / shrink, (cols - _STEP * right) / shrink
        u = (
            x
            - rows.diff(dim=-2, prepend=torch.zeros_like(x[..., :1, :]))
            - cols.diff(dim=-1, prepend=torch.zeros_like(x[..., :1]))
        )
    return u
