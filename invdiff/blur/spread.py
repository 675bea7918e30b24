"""How far and which way a kernel spreads a point, for operators that describe theirs in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_TAIL = 0.01
"""Of a kernel's mass at either end, and of its largest value: what an estimate leaves there is no blur."""
_NEAR = 4  # pixels: what lies further off is a trail that leads away
_AT_HALF_HEIGHT = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class Spread:
    """Along the axis on which a kernel ``(K, K)`` is longest, and across it, in its pixels.

    ``length`` is from end to end of its mass along the axis, which lies at ``angle`` degrees (0 horizontal, counted
    towards the top, from -90 to 90); ``long`` and ``short`` are the full widths at half height of the Gaussian with
    its moments. ``peak`` is the largest part of its mass in one pixel.
    """

    length: float
    angle: float
    long: float
    short: float
    peak: float

    @classmethod
    def of(cls, kernel: Tensor) -> Spread:
        k = kernel.detach().double().cpu()
        peak = float(k.max() / k.sum().clamp_min(1e-12))
        k = torch.where(k < _TAIL * k.max(), 0.0, k)
        k = k / k.sum().clamp_min(1e-12)
        line = torch.arange(k.shape[-1], dtype=torch.float64)
        right, up = line.expand_as(k), -line[:, None].expand_as(k)
        right, up = right - (k * right).sum(), up - (k * up).sum()
        across = (k * right * up).sum()
        moments = torch.stack([(k * right**2).sum(), across, across, (k * up**2).sum()]).view(2, 2)
        values, axes = torch.linalg.eigh(moments)
        along = axes[:, 1]
        short, long = (_AT_HALF_HEIGHT * float(v.clamp_min(0).sqrt()) for v in values)
        angle = math.degrees(math.atan2(float(along[1]), float(along[0])))
        angle = angle - 180 if angle > 90 else angle + 180 if angle < -90 else angle
        places, order = (right * along[0] + up * along[1]).flatten().sort()
        mass = k.flatten()[order].cumsum(0)
        first, last = (min(int((mass < share).sum()), len(mass) - 1) for share in (_TAIL, 1 - _TAIL))
        length = float(places[last] - places[first]) + 1
        return cls(length, angle, long, short, peak)

    def is_point(self, peak: float) -> bool:
        """Whether it is nearly a point: so much of its mass lies in one pixel, and the rest near it."""
        return self.peak >= peak and self.long < _NEAR

    @property
    def round(self) -> bool:
        """Whether no direction stands out."""
        return self.long < 1.3 * self.short

    @property
    def direction(self) -> str:
        """The axis in a word or two."""
        if abs(self.angle) < 22.5:
            return "horizontal"
        if abs(self.angle) > 67.5:
            return "vertical"
        return "diagonal, rising to the right" if self.angle > 0 else "diagonal, falling to the right"
