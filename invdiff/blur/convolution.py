"""Building blocks of blur operators: convolution with a kernel an image, its adjoint, and borders.

Blur is true convolution, ``y[n] = sum_m k[m] x[n - m]``, and not the cross-correlation that networks
call convolution: an asymmetric kernel is not flipped. Padding is explicit; ``valid`` is none, and the
result is smaller by ``K - 1``. Every function here is linear in the image and takes ``(B, C, H, W)``
images of any float dtype and ``(B, K, K)`` kernels with odd ``K``.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError

_LARGE = 2**23
"""Pixels of an image whose transforms, all channels at once, take too much memory: four times the image's. Where
gradients are tracked, all of it is kept anyway."""

Border = Literal["reflect", "replicate", "circular"]
Padding = Literal[Border, "valid"]


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept serves calls outside of one, too
def _border_index(size: int, pad: int, padding: Border) -> Tensor:
    """Which pixel of a line of ``size`` stands at each place of that line padded by ``pad``."""
    place = np.arange(-pad, size + pad)
    if padding == "reflect":  # the border pixel is not repeated: ... 2 1 | 0 1 2 ...
        place = np.abs(place)
        place = np.where(place >= size, 2 * (size - 1) - place, place)
    elif padding == "replicate":
        place = place.clip(0, size - 1)
    else:
        place = place % size
    return torch.from_numpy(place)


def _beyond(size: int, pad: int, padding: Border, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which pixels of a line of ``size`` stand before it, and which behind it, where it is padded by ``pad``."""
    smallest = pad + 1 if padding == "reflect" else 1
    if size < smallest:
        raise ImageError(f"a side of {size} pixels is too small for {padding} padding by {pad}: need {smallest}")
    index = _border_index(size, pad, padding).to(device)
    return index[:pad], index[pad + size :]


def pad_border(x: Tensor, pad: int, padding: Border) -> Tensor:
    """Pad height and width by ``pad`` on every side."""
    beyond = [_beyond(n, pad, padding, x.device) for n in x.shape[-2:]]
    for dim, (before, behind) in zip((-2, -1), beyond, strict=True):
        x = torch.cat([x.index_select(dim, before), x, x.index_select(dim, behind)], dim)
    return x


def pad_border_adjoint(x: Tensor, pad: int, padding: Border) -> Tensor:
    """Adjoint of :func:`pad_border`: what stands in the border is added to the pixel it came from."""
    for dim in (-1, -2):
        size = x.shape[dim] - 2 * pad
        before, behind = _beyond(size, pad, padding, x.device)
        inside = x.narrow(dim, pad, size).index_add(dim, before, x.narrow(dim, 0, pad))
        x = inside.index_add(dim, behind, x.narrow(dim, pad + size, pad))
    return x


def is_large(x: Tensor, kernel: Tensor) -> bool:
    """Whether the channels of an image are better blurred one after another."""
    tracked = torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad)
    return x.shape[-2] * x.shape[-1] > _LARGE and x.shape[1] > 1 and not tracked


class Blur:
    """Convolution with kernels ``(B, K, K)`` that are held, their transforms kept: for images again and again."""

    def __init__(self, kernel: Tensor, padding: Padding = "reflect") -> None:
        self.kernel, self.padding = kernel, padding
        self._responses: dict[tuple[tuple[int, int], int], Tensor] = {}

    def apply(self, x: Tensor) -> Tensor:
        """Each image with its own kernel; the size stays, but for ``valid``. Differentiable in both."""
        height, width = x.shape[-2:]
        if is_large(x, self.kernel):
            return torch.cat([self.apply(one) for one in x.split(1, 1)], dim=1)
        side = self.kernel.shape[-1]
        pad = self._reach(height, width)
        if self.padding != "valid" and pad:
            x = pad_border(x, pad, self.padding)
        elif min(height, width) < side:
            raise ImageError(f"{width}x{height} pixels are too small for a kernel of {side}x{side}")
        rows, cols = x.shape[-2:]
        size = fast_size(rows), fast_size(cols)
        around = torch.fft.irfft2(_transform(x, size) * self._response(size, pad), s=size)
        # What wraps around stays within the first ``2 * pad`` rows and columns.
        return around[..., 2 * pad : rows, 2 * pad : cols].to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """``<apply(x), y> = <x, adjoint(y)>``, borders included."""
        pad = self._reach(*y.shape[-2:])
        rows, cols = (n + 2 * pad for n in y.shape[-2:])
        size = fast_size(rows), fast_size(cols)
        spectrum = _transform(F.pad(y, (2 * pad, 0, 2 * pad, 0)), size) * self._response(size, pad).conj()
        full = torch.fft.irfft2(spectrum, s=size)[..., :rows, :cols]
        if self.padding != "valid" and pad:
            full = pad_border_adjoint(full, pad, self.padding)
        return full.to(y.dtype)

    def inverse(self, y: Tensor, ratio: float | Tensor) -> Tensor:
        """``x`` with ``(A^T A + ratio) x = y``, in closed form: for circular borders only, and a ``ratio`` above 0.

        There the blur is a product in Fourier space, whatever the sides of image and kernel: by the transform of what
        it makes of a single pixel.
        """
        if self.padding != "circular":
            raise ValueError(f"no closed form where borders are {self.padding}")
        size = y.shape[-2], y.shape[-1]
        pixel = y.new_zeros(len(self.kernel), 1, *size)
        pixel[..., 0, 0] = 1
        power = _transform(self.apply(pixel), size).abs().square()
        return torch.fft.irfft2(_transform(y, size) / (power + ratio), s=size).to(y.dtype)

    def _reach(self, height: int, width: int) -> int:
        """By how much an image is larger where it is transformed: not at all where that wraps it as it should."""
        side = self.kernel.shape[-1]
        fits = min(height, width) >= side and all(fast_size(n) == n for n in (height, width))
        return 0 if self.padding == "circular" and fits else side // 2

    def _response(self, size: tuple[int, int], pad: int) -> Tensor:
        """The kernel's transform: from its corner, where an image is padded, or else from its centre."""
        if (size, pad) not in self._responses:
            self._responses[size, pad] = (_transform if pad else transfer)(self.kernel, size)[:, None]
        return self._responses[size, pad]


class BlurOf:
    """Convolution of images ``(B, C, H, W)`` that are held, their transform kept: with kernels again and again.

    The other view of :class:`Blur`, for whoever looks for the kernel, its ``side`` odd. ``margin`` pixels of the
    result's border are left out.
    """

    def __init__(self, x: Tensor, side: int, padding: Padding = "reflect", margin: int = 0) -> None:
        self.side, reach = side, side // 2
        padded = x if padding == "valid" else pad_border(x, reach, padding)
        rows, cols = padded.shape[-2:]
        padded = padded[..., margin : rows - margin, margin : cols - margin]
        rows, cols = padded.shape[-2:]
        self._frame = (..., slice(reach, rows - reach), slice(reach, cols - reach))
        self._size = fast_size(rows), fast_size(cols)
        self._spectrum = _transform(padded, self._size)

    def apply(self, kernel: Tensor) -> Tensor:
        """The blurred images for kernels ``(B, K, K)``."""
        spectrum = self._spectrum * transfer(kernel, self._size)[:, None]
        return torch.fft.irfft2(spectrum, s=self._size)[self._frame].to(kernel.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """``<apply(k), y> = <k, adjoint(y)>``: ``(B, K, K)``."""
        reach = self.side // 2
        found = self._spectrum.conj() * _transform(F.pad(y, (reach, reach, reach, reach)), self._size)
        around = torch.fft.irfft2(found.sum(1), s=self._size).roll((reach, reach), (-2, -1))
        return around[..., : self.side, : self.side].to(y.dtype)


def blur(x: Tensor, kernel: Tensor, padding: Padding = "reflect") -> Tensor:
    """Convolve each image with its own kernel; the size stays, but for ``valid``. Differentiable in both.

    By FFT for kernels of every size: at 256x256 on one core the direct sum is ahead at 3x3 only (5 against 6 ms),
    and at 21x21 it takes 24 ms against 3, with the gradient in the kernel 108 against 5.
    """
    return Blur(kernel, padding).apply(x)


def blur_adjoint(y: Tensor, kernel: Tensor, padding: Padding = "reflect") -> Tensor:
    """Adjoint of :func:`blur` in the image: ``<blur(x), y> = <x, blur_adjoint(y)>``, borders included."""
    return Blur(kernel, padding).adjoint(y)


def transfer(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernel's transfer function on a periodic grid, ``(B, *size as rfft2 has it)``: its centre at the origin."""
    reach = kernel.shape[-1] // 2
    placed = F.pad(kernel, (0, size[1] - kernel.shape[-1], 0, size[0] - kernel.shape[-2]))
    return _transform(placed.roll((-reach, -reach), (-2, -1)), size)


@lru_cache(maxsize=256)
def fast_size(size: int) -> int:
    """The next product of 2, 3 and 5; its transform is fast: 1054 = 2 * 17 * 31 takes twice as long as 1080."""
    return next(n for n in count(size) if _is_fast(n))


def _is_fast(size: int) -> bool:
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    return size == 1


def _transform(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Real FFT, zero-padded to ``size``, in float32 or better."""
    # Contiguous: torch 2.6 transforms no tensor that was expanded.
    return torch.fft.rfft2((x if x.dtype == torch.float64 else x.float()).contiguous(), s=size)
