"""Blur whose kernel differs across the picture: a grid of kernels, blended from each to the next.

Efficient filter flow (Hirsch, Sra, Schoelkopf and Harmeling 2010), with weights on the blurred side:
``y = sum_p w_p (k_p * x)``. A photo is divided into equal cells, ``k_p`` holds in the middle of its cell, and the
``w_p`` rise and fall linearly from middle to middle: they sum to one everywhere, and beyond the outer middles they stay
as they are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import EllipsisType

import torch
from torch import Tensor

from .convolution import Blur, Padding, pad_border, pad_border_adjoint

Window = tuple[EllipsisType, slice, slice]


@dataclass(frozen=True)
class Patch:
    """Where the kernel of one cell counts: its place ``row, col`` in the grid, and a window of the photo."""

    row: int
    col: int
    rows: slice
    cols: slice

    @property
    def window(self) -> Window:
        return (..., self.rows, self.cols)


def patches(size: tuple[int, int], grid: tuple[int, int]) -> list[Patch]:
    """Those of a photo ``(h, w)`` under a grid of so many rows and columns, row by row."""
    down, right = (_spans(n, count) for n, count in zip(size, grid, strict=True))
    return [Patch(i, j, rows, cols) for i, rows in enumerate(down) for j, cols in enumerate(right)]


def weight(patch: Patch, size: tuple[int, int], grid: tuple[int, int], like: Tensor) -> Tensor:
    """How much its kernel counts at each pixel of its window, ``(h', w')``."""
    down = _slopes(size[0], grid[0])[patch.row, patch.rows]
    right = _slopes(size[1], grid[1])[patch.col, patch.cols]
    return (down[:, None] * right).to(like)


class BlurInParts:
    """Convolution with grids of kernels ``(B, R, C, K, K)`` that are held: for images again and again."""

    def __init__(self, kernels: Tensor, padding: Padding = "reflect") -> None:
        self.kernels, self.padding = kernels, padding
        self.grid = (kernels.shape[1], kernels.shape[2])
        self._blurs = [[Blur(kernels[:, i, j], "valid") for j in range(self.grid[1])] for i in range(self.grid[0])]

    def apply(self, x: Tensor) -> Tensor:
        """Each image with its own grid; the size stays, but for ``valid``. Differentiable in both."""
        reach = self.kernels.shape[-1] // 2
        padded = x if self.padding == "valid" else pad_border(x, reach, self.padding)
        size = padded.shape[-2] - 2 * reach, padded.shape[-1] - 2 * reach
        blurred = x.new_zeros(*x.shape[:-2], *size)
        for patch in patches(size, self.grid):
            seen = padded[_wider(patch, reach)]
            part = self._blurs[patch.row][patch.col].apply(seen) * weight(patch, size, self.grid, x)
            blurred = blurred + torch.nn.functional.pad(part, _around(patch, size))
        return blurred

    def adjoint(self, y: Tensor) -> Tensor:
        """``<apply(x), y> = <x, adjoint(y)>``, borders included."""
        reach = self.kernels.shape[-1] // 2
        size = y.shape[-2], y.shape[-1]
        padded = y.new_zeros(*y.shape[:-2], size[0] + 2 * reach, size[1] + 2 * reach)
        for patch in patches(size, self.grid):
            part = y[patch.window] * weight(patch, size, self.grid, y)
            padded[_wider(patch, reach)] += self._blurs[patch.row][patch.col].adjoint(part)
        return padded if self.padding == "valid" else pad_border_adjoint(padded, reach, self.padding)


def _wider(patch: Patch, reach: int) -> Window:
    """Its window in a picture that is padded by ``reach``, with what its kernel reaches."""
    rows, cols = (slice(span.start, span.stop + 2 * reach) for span in (patch.rows, patch.cols))
    return (..., rows, cols)


def _around(patch: Patch, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """What is missing beside its window, in the order of ``pad``."""
    return (patch.cols.start, size[1] - patch.cols.stop, patch.rows.start, size[0] - patch.rows.stop)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept serves calls outside of one, too
def _slopes(size: int, count: int) -> Tensor:
    """Weights ``(count, size)`` along one axis, float64."""
    place = (torch.arange(size, dtype=torch.float64) + 0.5) * count / size - 0.5
    each = torch.arange(count, dtype=torch.float64)[:, None]
    return (1 - (place.clamp(0, count - 1) - each).abs()).clamp_min(0)


@lru_cache(maxsize=64)
def _spans(size: int, count: int) -> list[slice]:
    """Where weights are not nothing along one axis."""
    places = [row.nonzero().flatten().tolist() for row in _slopes(size, count)]
    return [slice(line[0], line[-1] + 1) for line in places]
