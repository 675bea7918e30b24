"""What a photo and a picture of the same say of the kernel between them: least squares, more and less bold."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from invdiff.blur import fast_size
from invdiff.blur.deconvolution import taper

from .kernel_update import difference, strong_edges

_OF_ALL = (0.003, 0.03, 0.3)  # ridges, as parts of the mean power of the picture's differences
_OF_STRONG = (0.03, 0.3)
_STRONG = 0.05  # share of the differences that are strong ones
KERNELS = len(_OF_ALL) + len(_OF_STRONG)
"""How many kernels :func:`least_squares_kernels` makes."""


def least_squares_kernels(y: Tensor, x: Tensor, side: int) -> Tensor:
    """``argmin ||grad y - k * grad x||^2 + ridge ||k||^2`` of one photo and picture ``(C, H, W)``: ``(5, side, side)``.

    Three of all differences, from a bold one, sharp and noisy, to a timid one, two of the strongest alone. They sum to
    no one and have values below 0; a picture that lies elsewhere than the photo moves them. In Fourier space, what
    lies near the border fades out.
    """
    grey_y, grey_x = (image.float().mean(0)[None, None] for image in (y, x))
    height, width = grey_y.shape[-2:]
    margin = min(side // 2, height // 4, width // 4)
    fade = taper(height - 2 * margin, margin, grey_y)[:, None] * taper(width - 2 * margin, margin, grey_y)
    fade = F.pad(fade, (margin, margin, margin, margin))
    size = fast_size(height + side), fast_size(width + side)

    def spectra(edges: tuple[Tensor, Tensor]) -> list[Tensor]:
        return [torch.fft.rfft2((edge * fade)[0, 0], s=size) for edge in edges]

    def kernels(edges: tuple[Tensor, Tensor], ridges: tuple[float, ...]) -> list[Tensor]:
        found = spectra(edges)
        above = torch.stack([a.conj() * b for a, b in zip(found, seen, strict=True)]).sum(0)
        power = torch.stack([a.abs().square() for a in found]).sum(0)
        least = power.mean().clamp_min(1e-12)
        half = side // 2
        around = [torch.fft.irfft2(above / (power + ridge * least), s=size) for ridge in ridges]
        return [kernel.roll((half, half), (-2, -1))[:side, :side] for kernel in around]

    seen = spectra((difference(grey_y, -2), difference(grey_y, -1)))
    of_all = kernels((difference(grey_x, -2), difference(grey_x, -1)), _OF_ALL)
    return torch.stack([*of_all, *kernels(strong_edges(grey_x, _STRONG, 1), _OF_STRONG)])
