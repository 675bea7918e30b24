"""How near a kernel is to the true one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def kernel_l1(kernel: Tensor, truth: Tensor) -> float:
    """Sum of absolute differences of two kernels of unit sum: 0 when equal, at most 2."""
    return float((kernel.double() - truth.double()).abs().sum())


def kernel_l1_shifted(kernel: Tensor, truth: Tensor) -> float:
    """:func:`kernel_l1` after the best shift by whole pixels; the sizes may differ."""
    a, b = _common(kernel, truth)
    size = a.shape[-1]
    room = F.pad(b, (size,) * 4)
    # |a - shifted b| summed is 2 - 2 * (what they share), as both sum to one.
    shared = max(
        float(torch.minimum(a, room[i : i + size, j : j + size]).sum())
        for i in range(2 * size + 1)
        for j in range(2 * size + 1)
    )
    return float(a.sum() + b.sum()) - 2 * shared


def mnc(kernel: Tensor, truth: Tensor) -> float:
    """Maximum of the normalised cross-correlation over all shifts (BlindDPS, Eq. 21): 1 when equal but for a shift."""
    a, b = _common(kernel, truth)
    return float(_correlation(a, b) / (a.norm() * b.norm()).clamp_min(1e-12))


def kernel_psnr_shifted(kernel: Tensor, truth: Tensor) -> float:
    """PSNR in dB of a kernel after the best shift by whole pixels; the peak is the true kernel's largest value.

    Kernels of unit sum are the smaller the more they spread, so a peak of 1 would say little. The mean is
    over the larger of the two frames.
    """
    a, b = _common(kernel, truth)
    # ||a - shifted b||^2 is smallest where the two correlate most.
    error = float(a.square().sum() + b.square().sum() - 2 * _correlation(a, b)) / a.numel()
    peak = float(b.max())
    return math.inf if error <= 1e-15 * peak**2 else 10 * math.log10(peak**2 / error)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """The largest cross-correlation over all shifts."""
    shape = (2 * a.shape[-1],) * 2
    product = torch.fft.rfft2(a, s=shape) * torch.fft.rfft2(b, s=shape).conj()
    return torch.fft.irfft2(product, s=shape).max()


def _common(kernel: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, the smaller one framed in zeros. Sides are odd."""
    size = max(kernel.shape[-1], truth.shape[-1])
    a, b = (F.pad(k.double(), ((size - k.shape[-1]) // 2,) * 4) for k in (kernel, truth))
    return a, b
