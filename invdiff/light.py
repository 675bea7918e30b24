"""Light, and the numbers that photos keep of it: the curve of sRGB (IEC 61966-2-1), on [0, 1] and beyond."""

from __future__ import annotations

import torch
from torch import Tensor

_KNEE = 0.04045
"""Below it numbers are in proportion to light, one to ``_SLOPE``; above, a power."""
_SLOPE = 12.92


def decoded(numbers: Tensor) -> Tensor:
    """The light behind a photo's numbers, 1 for 1; differentiable."""
    bright = ((numbers.clamp_min(_KNEE) + 0.055) / 1.055) ** 2.4
    return torch.where(numbers <= _KNEE, numbers / _SLOPE, bright)


def encoded(light: Tensor) -> Tensor:
    """The numbers of a photo of some light, the inverse of :func:`decoded`; less than no light is none."""
    light = light.clamp_min(0)
    bright = 1.055 * light.clamp_min(_KNEE / _SLOPE) ** (1 / 2.4) - 0.055
    return torch.where(light <= _KNEE / _SLOPE, _SLOPE * light, bright)
