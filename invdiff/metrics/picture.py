"""What a result is measured by, each with its convention. Images are ``(3, H, W)`` tensors in [0, 1].

Published tables rarely share conventions, so they are spelt out here and printed with every number:
PSNR-Y is on the luma of BT.601 (MATLAB's rgb2ycbcr, 16 to 235) without a border of ``scale`` pixels;
SSIM is Wang et al.'s (Gaussian window of 1.5 pixels) on the same luma and border; LPIPS names its
network and has no border. In blind deblurring a kernel moved one way and a picture moved the other
explain the same photo, so there are versions after the best shift by whole pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def round8(x: Tensor) -> Tensor:
    """What is left of an image once it is saved with 8 bits."""
    return (x.clamp(0, 1) * 255).round() / 255


def luma(x: Tensor) -> Tensor:
    """BT.601 studio-range luma ``(H, W)`` in [16, 235] / 255."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device=x.device)
    return ((x.double() * weights[:, None, None]).sum(0) + 16) / 255


def inside(x: Tensor, border: int) -> Tensor:
    """Without a border, on images that are larger than it."""
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border] if border else x


def _psnr(a: Tensor, b: Tensor) -> float:
    error = float((a.double() - b.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def psnr_y(x: Tensor, truth: Tensor, border: int) -> float:
    """PSNR in dB of the luma, border left out."""
    return _psnr(inside(luma(x), border), inside(luma(truth), border))


def psnr_rgb(x: Tensor, truth: Tensor) -> float:
    """PSNR in dB over all three channels, whole image."""
    return _psnr(x, truth)


def psnr_rgb_shifted(x: Tensor, truth: Tensor, reach: int = 8) -> float:
    """Best PSNR in dB over all channels, of ``x`` moved by up to ``reach`` whole pixels, ``reach`` pixels inside."""
    reach = min(reach, (min(x.shape[-2:]) - 1) // 2)
    target = inside(truth, reach)
    height, width = target.shape[-2:]
    windows = (x[..., i : i + height, j : j + width] for i in range(2 * reach + 1) for j in range(2 * reach + 1))
    return max(_psnr(window, target) for window in windows)


def ssim_y(x: Tensor, truth: Tensor, border: int) -> float:
    """SSIM of the luma, border left out; NaN where the image is smaller than its window of 11 pixels."""
    from skimage.metrics import structural_similarity

    a, b = (inside(luma(i), border).cpu().numpy() for i in (x, truth))
    if min(a.shape) < 11:
        return math.nan
    return float(
        structural_similarity(a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    )


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def lr_psnr(measurement: Tensor, true_measurement: Tensor) -> float:
    """PSNR of the truth degraded with the estimated kernel, against the truth degraded with its own."""
    return _psnr(measurement, true_measurement)
