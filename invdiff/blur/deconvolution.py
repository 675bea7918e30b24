"""Deconvolution with a known kernel, and where a kernel's mass lies: shared by priors and guidances.

Kernels are ``(B, K, K)`` with odd ``K`` and unit sum, images ``(B, C, H, W)``; everything is
differentiable and computed for each image by itself, in float32 or better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .convolution import pad_border, transfer

_FLOOR = 1e-4  # keeps the mean grey from being divided by nothing where a kernel is no kernel
_CONTINUATIONS, _RELAXATION = 4, 1.8


def gradient_power(size: tuple[int, int], like: Tensor) -> Tensor:
    """Power spectrum of the two finite differences on a periodic grid, laid out as ``rfft2`` is."""
    rows = torch.fft.fftfreq(size[0], dtype=torch.float64)
    cols = torch.fft.rfftfreq(size[1], dtype=torch.float64)
    power = 4 * (math.pi * rows).sin().square()[:, None] + 4 * (math.pi * cols).sin().square()
    return power.to(like.dtype).to(like.device)  # MPS has no float64


def taper(size: int, width: int, like: Tensor) -> Tensor:
    """A line of ones that falls to nothing over ``width`` places at each end, by half a cosine."""
    rise = 0.5 - 0.5 * (math.pi * (torch.arange(width, dtype=torch.float64) + 0.5) / width).cos()
    line = torch.cat([rise, torch.ones(size - 2 * width, dtype=torch.float64), rise.flip(0)])
    return line.to(like.dtype).to(like.device)


def wiener(y: Tensor, kernel: Tensor, weights: Sequence[float]) -> Tensor:
    """Minimisers of ``||y - k * x||^2 + w ||grad x||^2``, one for each of ``weights``: ``(B, len(weights), C, H, W)``.

    ``w`` stands for the variance of the noise over that of the gradients. The solution is periodic, the
    photo is not: it is continued by ``K`` pixels on each side, first by its border, then, a few times, by
    what the kernel makes of the solution there (missing data, as in EM, over-relaxed). With a drawn
    31x31 kernel and 1 % of noise that gains 4 to 6 dB over mirroring and fading out.
    """
    height, width = y.shape[-2:]
    y, kernel = (v if v.dtype == torch.float64 else v.float() for v in (y, kernel))
    pad = kernel.shape[-1]
    mean = y.mean((-2, -1), keepdim=True)
    size = (height + 2 * pad, width + 2 * pad)
    frame = (..., slice(pad, pad + height), slice(pad, pad + width))
    response, power = transfer(kernel, size)[:, None], gradient_power(size, y)
    energy = response.abs().square()
    window = taper(size[0], pad, y)[:, None] * taper(size[1], pad, y)
    continued = pad_border(y - mean, pad, "replicate") * window
    reblur = energy / (energy + max(weights) * power + _FLOOR)
    for _ in range(_CONTINUATIONS):
        modelled = torch.fft.irfft2(reblur * torch.fft.rfft2(continued), s=size)
        continued = continued + _RELAXATION * (modelled - continued)
        continued[frame] = y - mean
    spectrum = response.conj() * torch.fft.rfft2(continued)
    solved = [torch.fft.irfft2(spectrum / (energy + w * power + _FLOOR), s=size)[frame] + mean for w in weights]
    return torch.stack(solved, dim=1)


def centre_of_mass(kernel: Tensor) -> Tensor:
    """Rows and columns ``(B, 2)`` from the middle of the kernel to its centre of mass."""
    line = torch.arange(kernel.shape[-1], device=kernel.device, dtype=kernel.dtype) - kernel.shape[-1] // 2
    moments = torch.stack([kernel.sum(-1) @ line, kernel.sum(-2) @ line], dim=-1)
    return moments / kernel.sum((-2, -1)).clamp_min(1e-12)[:, None]


def with_mass_at(kernel: Tensor, middle: Tensor | float = 0.0, floor: float = 0.0) -> Tensor:
    """Kernels moved by a part of a pixel in Fourier space, until their centre of mass is at ``middle (B, 2)``.

    Of unit sum; values below ``floor`` of the largest, and the ringing below zero, are cut off.
    """
    side, room = kernel.shape[-1], 4
    size = (side + 2 * room, side + 2 * room)
    rows, cols = (freq(size[0], device=kernel.device) for freq in (torch.fft.fftfreq, torch.fft.rfftfreq))
    for _ in range(3):  # cutting off moves the mass a little
        away = (centre_of_mass(kernel) - middle)[:, :, None, None]
        turn = 2 * math.pi * (rows[:, None] * away[:, 0] + cols * away[:, 1])
        spectrum = torch.fft.rfft2(F.pad(kernel, (room, room, room, room))) * torch.polar(torch.ones_like(turn), turn)
        kernel = torch.fft.irfft2(spectrum, s=size)[..., room:-room, room:-room].clamp_min(0)
        kernel = kernel * (kernel >= floor * kernel.amax((-2, -1), keepdim=True))
        kernel = kernel / kernel.sum((-2, -1), keepdim=True)
    return kernel


def shifted(x: Tensor, rows: int, cols: int, *, replicate: bool = False, wraps: bool = False) -> Tensor:
    """``(..., H, W)`` moved down and right by whole pixels; zeros come in, or the border again, or, where it ``wraps``,
    what goes out at the opposite one."""
    if wraps:
        return x.roll((rows, cols), (-2, -1))
    height, width = x.shape[-2:]
    i = torch.arange(height, device=x.device) - rows
    j = torch.arange(width, device=x.device) - cols
    moved = x.index_select(-2, i.clamp(0, height - 1)).index_select(-1, j.clamp(0, width - 1))
    if replicate:
        return moved
    inside = ((i >= 0) & (i < height))[:, None] & ((j >= 0) & (j < width))
    return moved * inside
