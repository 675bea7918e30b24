"""Building blocks of blur operators: convolution with a kernel an image, its adjoint, and resizing.

Blur is true convolution, ``y[n] = sum_m k[m] x[n - m]``, and not the cross-correlation that networks
call convolution: an asymmetric kernel is not flipped. Padding is explicit; ``valid`` is none, and the
result is smaller by ``K - 1``. Every function here is linear in the image and takes ``(B, C, H, W)``
images of any float dtype and ``(B, K, K)`` kernels with odd ``K``.
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


@lru_cache(maxsize=64)
def bicubic_matrix(size: int, new_size: int) -> Tensor:
    """MATLAB's bicubic ``imresize`` along one axis, as a ``(new_size, size)`` float64 matrix.

    Shrinking widens the cubic kernel by the factor (antialiasing); beyond the border the line is
    mirrored with its edge pixel repeated; rows sum to one.
    """
    factor = size / new_size
    widen = max(factor, 1.0)
    centres = (np.arange(new_size) + 0.5) * factor - 0.5
    reach = math.ceil(2 * widen)
    taps = np.floor(centres)[:, None] + np.arange(-reach, reach + 2)[None]
    weights = cubic((centres[:, None] - taps) / widen)
    weights /= weights.sum(1, keepdims=True)
    mirrored = taps % (2 * size)
    mirrored = np.where(mirrored >= size, 2 * size - 1 - mirrored, mirrored).astype(int)
    matrix = np.zeros((new_size, size))
    np.add.at(matrix, (np.arange(new_size)[:, None], mirrored), weights)
    return torch.from_numpy(matrix)


def _two_matrices(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    # Cast before moving: MPS has no float64.
    rows, cols = (m.to(x.dtype).to(x.device) for m in (rows, cols))
    return rows @ x @ cols.mT


def resize_bicubic(x: Tensor, height: int, width: int) -> Tensor:
    """MATLAB's bicubic ``imresize`` of ``(..., H, W)``, antialiased where it shrinks, as two matrix products."""
    return _two_matrices(x, bicubic_matrix(x.shape[-2], height), bicubic_matrix(x.shape[-1], width))


def downsample_bicubic(x: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic downsampling by an integer; ``H`` and ``W`` must divide by it."""
    height, width = x.shape[-2:]
    if height % scale or width % scale:
        raise ImageError(f"{width}x{height} pixels do not divide by {scale}")
    return resize_bicubic(x, height // scale, width // scale)


def downsample_bicubic_adjoint(y: Tensor, scale: int) -> Tensor:
    """Adjoint of :func:`downsample_bicubic`: ``(..., h, w)`` to ``(..., h * scale, w * scale)``."""
    rows, cols = (bicubic_matrix(n * scale, n).mT for n in y.shape[-2:])
    return _two_matrices(y, rows, cols)


def upsample_bicubic(y: Tensor, scale: int) -> Tensor:
    """Plain bicubic interpolation by an integer (PyTorch's, ``a = -0.75``), as the authors lift the measurement."""
    return y if scale == 1 else cast(Tensor, F.interpolate(y, scale_factor=scale, mode="bicubic"))
