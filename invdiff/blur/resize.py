"""Bicubic resizing as MATLAB does it, antialiased, its adjoint, and plain bicubic lifting.

Images are ``(..., H, W)`` of any float dtype; everything here is linear in them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError


def cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys' cubic convolution kernel (1981); ``a = -0.5`` is MATLAB's and Pillow's bicubic."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=16)
def _taps(size: int, new_size: int, wraps: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where each of ``new_size`` pixels looks along a line of ``size``, and with what weights: ``(new_size, taps)``."""
    factor = size / new_size
    widen = max(factor, 1.0)
    centres = (np.arange(new_size) + 0.5) * factor - 0.5
    reach = math.ceil(2 * widen)
    places = np.floor(centres)[:, None] + np.arange(-reach, reach + 2)[None]
    weights = cubic((centres[:, None] - places) / widen)
    weights /= weights.sum(1, keepdims=True)
    if wraps:
        return (places % size).astype(int), weights
    mirrored = places % (2 * size)
    return np.where(mirrored >= size, 2 * size - 1 - mirrored, mirrored).astype(int), weights


def _block(size: int, new_size: int, rows: slice, wraps: bool) -> tuple[slice, Tensor]:
    """Some rows of the resizing matrix, without the columns to the left and right that are all zero."""
    places, weights = (part[rows] for part in _taps(size, new_size, wraps))
    first, last = int(places.min()), int(places.max()) + 1
    block = np.zeros((len(places), last - first))
    np.add.at(block, (np.arange(len(places))[:, None], places - first), weights)
    return slice(first, last), torch.from_numpy(block)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept serves calls outside of one, too
def bicubic_matrix(size: int, new_size: int, wraps: bool = False) -> Tensor:
    """MATLAB's bicubic ``imresize`` along one axis, as a ``(new_size, size)`` float64 matrix.

    Shrinking widens the cubic kernel by the factor (antialiasing); beyond the border the line is
    mirrored with its edge pixel repeated, or where it ``wraps`` begins anew; rows sum to one.
    """
    columns, block = _block(size, new_size, slice(None), wraps)
    return F.pad(block, (columns.start, size - columns.stop))


_REACH = 2  # pixels that interpolation looks beyond a border
_WHOLE, _ROWS = 512, 128
"""Up to this length an axis is one matrix; a longer one goes in blocks of rows, as most of its matrix is zero."""


def _along_rows(x: Tensor, size: int, new_size: int, *, wraps: bool, adjoint: bool) -> Tensor:
    """The resizing matrix, or its transpose, times ``x (..., n, m)``."""

    def ready(matrix: Tensor) -> Tensor:
        return matrix.to(x.dtype).to(x.device)  # cast before moving: MPS has no float64

    if max(size, new_size) <= _WHOLE:
        matrix = bicubic_matrix(size, new_size, wraps)
        return ready(matrix.mT if adjoint else matrix) @ x
    pieces = [slice(start, min(start + _ROWS, new_size)) for start in range(0, new_size, _ROWS)]
    if not adjoint:
        blocks = (_block(size, new_size, rows, wraps) for rows in pieces)
        return torch.cat([ready(block) @ x[..., columns, :] for columns, block in blocks], dim=-2)
    total = x.new_zeros(*x.shape[:-2], size, x.shape[-1])
    for rows in pieces:
        columns, block = _block(size, new_size, rows, wraps)
        total[..., columns, :] += ready(block.mT) @ x[..., rows, :]
    return total


def _resized(
    x: Tensor, sizes: tuple[int, int], new_sizes: tuple[int, int], *, wraps: bool = False, adjoint: bool = False
) -> Tensor:
    """Both axes of ``(..., H, W)``, rows first."""
    if max(*sizes, *new_sizes) <= _WHOLE:
        rows, cols = (
            bicubic_matrix(a, b, wraps).to(x.dtype).to(x.device) for a, b in zip(sizes, new_sizes, strict=True)
        )
        return rows.mT @ x @ cols if adjoint else rows @ x @ cols.mT
    x = _along_rows(x, sizes[0], new_sizes[0], wraps=wraps, adjoint=adjoint)
    return _along_rows(x.mT, sizes[1], new_sizes[1], wraps=wraps, adjoint=adjoint).mT


def resize_bicubic(x: Tensor, height: int, width: int, *, wraps: bool = False) -> Tensor:
    """MATLAB's bicubic ``imresize`` of ``(..., H, W)``, antialiased where it shrinks, as two matrix products.

    ``wraps``: opposite borders meet, here and below.
    """
    return _resized(x, (x.shape[-2], x.shape[-1]), (height, width), wraps=wraps)


def downsample_bicubic(x: Tensor, scale: int, *, wraps: bool = False) -> Tensor:
    """Antialiased bicubic downsampling by an integer; ``H`` and ``W`` must divide by it."""
    height, width = x.shape[-2:]
    if height % scale or width % scale:
        raise ImageError(f"{width}x{height} pixels do not divide by {scale}")
    return resize_bicubic(x, height // scale, width // scale, wraps=wraps)


def downsample_bicubic_adjoint(y: Tensor, scale: int, *, wraps: bool = False) -> Tensor:
    """Adjoint of :func:`downsample_bicubic`: ``(..., h, w)`` to ``(..., h * scale, w * scale)``."""
    height, width = y.shape[-2:]
    return _resized(y, (height * scale, width * scale), (height, width), wraps=wraps, adjoint=True)


def upsample_bicubic(y: Tensor, scale: int, *, wraps: bool = False) -> Tensor:
    """Plain bicubic interpolation by an integer (PyTorch's, ``a = -0.75``), as the authors lift the measurement."""
    if scale == 1:
        return y
    if not wraps:
        return cast(Tensor, F.interpolate(y, scale_factor=scale, mode="bicubic"))
    beyond = _REACH * scale
    wider = F.interpolate(wrapped(y, _REACH, _REACH), scale_factor=scale, mode="bicubic")
    return cast(Tensor, wider[..., beyond:-beyond, beyond:-beyond])


def wrapped(x: Tensor, before: int, after: int) -> Tensor:
    """``(..., H, W)`` with so many pixels more at each side, those of the opposite one, as often as it takes."""
    rows, cols = (torch.arange(-before, n + after, device=x.device) % n for n in x.shape[-2:])
    return x[..., rows[:, None], cols]
