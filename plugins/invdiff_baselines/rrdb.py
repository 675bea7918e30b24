"""RRDBNet, the network of ESRGAN, Real-ESRGAN and RealSR, in plain torch, from ncnn's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.errors import WeightsError
from invdiff.io.ncnn import Convolution, read_convolutions

_BLOCKS = 23
_SCALING = 0.2
"""What a residual counts, and the slope of the activations below zero."""


class RRDBNet(nn.Module):
    """x4 super-resolution by 23 residual-in-residual dense blocks (Wang et al., ESRGAN, 2018, Fig. 4).

    ``param`` is ncnn's description, its weights lie beside it; :class:`WeightsError` where that is another network.
    """

    def __init__(self, param: Path) -> None:
        super().__init__()
        layers = iter(read_convolutions(param))
        try:
            self.first = _convolution(layers, 3, 64)
            self.blocks = nn.Sequential(*(_ResidualInResidual(layers) for _ in range(_BLOCKS)))
            self.body = _convolution(layers, 64, 64)
            self.finer = nn.ModuleList(_convolution(layers, 64, 64) for _ in range(2))
            self.fine = _convolution(layers, 64, 64)
            self.last = _convolution(layers, 64, 3)
        except (StopIteration, ValueError):
            raise WeightsError(f"{param}: not a RRDBNet of {_BLOCKS} blocks for scale 4") from None
        if next(layers, None) is not None:
            raise WeightsError(f"{param}: more convolutions than a RRDBNet of {_BLOCKS} blocks has")
        self.requires_grad_(False)

    def forward(self, y: Tensor) -> Tensor:
        """``y (B, 3, h, w)`` on [0, 1] to ``(B, 3, 4h, 4w)``, which may leave [0, 1]."""
        x = self.first(y)
        x = x + self.body(self.blocks(x))
        for convolution in self.finer:
            x = _activation(convolution(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.last(_activation(self.fine(x)))

    def multiply_adds(self, height: int, width: int) -> int:
        """Of a measurement of that size."""

        def weights(*parts: nn.Module) -> int:
            return sum(p.numel() for part in parts for p in part.parameters() if p.ndim == 4)

        once = weights(self.first, self.blocks, self.body)
        return height * width * (once + 4 * weights(self.finer[0]) + 16 * weights(self.finer[1], self.fine, self.last))


class _ResidualInResidual(nn.Module):
    def __init__(self, layers: Iterator[Convolution]) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(_Dense(layers) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return x + _SCALING * self.dense(x)


class _Dense(nn.Module):
    """Five convolutions, each of all that came before."""

    def __init__(self, layers: Iterator[Convolution]) -> None:
        super().__init__()
        growing = [_convolution(layers, 64 + 32 * count, 32) for count in range(4)]
        self.growing = nn.ModuleList(growing)
        self.last = _convolution(layers, 64 + 32 * len(growing), 64)

    def forward(self, x: Tensor) -> Tensor:
        known = x
        for convolution in self.growing:
            known = torch.cat([known, _activation(convolution(known))], dim=1)
        return x + _SCALING * self.last(known)


def _convolution(layers: Iterator[Convolution], into: int, out: int) -> nn.Conv2d:
    """The next of a file's; ValueError where it has other sizes."""
    layer = next(layers)
    if layer.weight.shape != (out, into, 3, 3):
        raise ValueError(layer.name)
    convolution = nn.Conv2d(into, out, 3, padding=1, device="meta")  # no numbers are drawn, only to be replaced
    convolution.load_state_dict({"weight": layer.weight, "bias": layer.bias}, assign=True)
    return convolution


def _activation(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SCALING)
