"""A kernel estimator for blurs that are Gaussians of any width and direction: how wide edges are, each across itself.

An edge that a Gaussian blurred is as wide as the Gaussian is across it, so edges of all directions together tell its
three numbers. The network looks at edges of any contrast alike, and says itself which of them to believe.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.blur.deconvolution import centre_of_mass

from .convolution import Conv2d
from .settings import Network

_NEIGHBOURHOOD = 9  # measured pixels: contrast is that of so many around
_FAINTEST = 0.02  # contrast, in the prior's range, below which edges fade from sight
_DEPTH = 4  # convolutions on the coarser of two grids
_LEAK = 0.1
_USUAL = 2.0  # pixels: the width that training begins with


class EdgeEstimator(nn.Module):
    """``forward(measurement (B, 3, H, W))``, lifted, to kernels ``(B, K, K)``."""

    middle: Tensor

    def __init__(self, settings: Network) -> None:
        super().__init__()
        self.kernel_size = settings.kernel_size
        self.fold = settings.estimator.unshuffle or settings.unshuffle
        width = settings.estimator.channels
        half = max(width // 2, 1)

        def layer(seen: int, made: int, side: int = 3, stride: int = 1) -> nn.Sequential:
            convolution = Conv2d(seen, made, side, stride=stride, padding=side // 2)
            nn.init.kaiming_normal_(convolution.weight, a=_LEAK)  # as PyTorch begins, seven layers leave only biases
            nn.init.zeros_(cast(Tensor, convolution.bias))
            return nn.Sequential(convolution, nn.LeakyReLU(_LEAK))

        self.features = nn.Sequential(
            layer(self.fold**2, half, 5),
            layer(half, half),
            layer(half, width, stride=2),
            *(layer(width, width) for _ in range(_DEPTH)),
        )
        self.weights = Conv2d(width, width, 1)
        self.numbers = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.LeakyReLU(_LEAK), nn.Linear(2 * width, 3))
        for start in (self.weights, cast(nn.Linear, self.numbers[-1])):  # from the plain mean, and a round kernel
            nn.init.zeros_(start.weight)
            nn.init.zeros_(cast(Tensor, start.bias))
        self.register_buffer("middle", torch.zeros(2))

    def fit(self, kernels: Tensor) -> None:
        """Take over where the mass of an operator's sampled ``kernels (N, K, K)`` lies."""
        self.middle.copy_(centre_of_mass(kernels.float()).median(0).values)

    def forward(self, measurement: Tensor) -> Tensor:
        features = self.features(_contrasts(F.pixel_unshuffle(measurement.mean(1, keepdim=True), self.fold)))
        believed = self.weights(features).float().sigmoid() + 1e-3
        believed = believed / believed.sum((-2, -1), keepdim=True)
        features = features.float()
        mean, power = ((believed * moment).sum((-2, -1)) for moment in (features, features.square()))
        return gaussians(self.numbers(torch.cat([mean, (power + 1e-6).sqrt()], dim=1)), self.middle, self.kernel_size)


def _contrasts(x: Tensor) -> Tensor:
    """``x (B, C, h, w)`` without the brightness around each pixel, in parts of the contrast there."""

    def around(each: Tensor) -> Tensor:
        reach = _NEIGHBOURHOOD // 2
        return F.avg_pool2d(F.pad(each, (reach,) * 4, "replicate"), _NEIGHBOURHOOD, 1)

    left = x - around(x.mean(1, keepdim=True))
    return left / (around(left.square().mean(1, keepdim=True)).clamp_min(1e-12).sqrt() + _FAINTEST)


def gaussians(numbers: Tensor, middle: Tensor, size: int) -> Tensor:
    """Gaussians ``(B, size, size)`` of unit sum about ``middle``, rows and columns, of any real ``numbers (B, 3)``.

    Their covariance is ``s^2 expm([[a, b], [b, -a]])``: ``s`` the geometric mean of the axes, ``a`` and ``b`` how long
    and where they lie. None of them is no kernel, and a turned photo's has the same ``s`` and ``a^2 + b^2``.
    """
    log_size, a, b = numbers.float().unbind(1)
    length = (a.square() + b.square() + 1e-9).sqrt().clamp_max(4)
    area = _USUAL**2 * (2 * log_size.clamp(-3, 2)).exp()
    level, turn = length.cosh() / area, length.sinh() / (length * area)
    line = torch.arange(size, device=numbers.device, dtype=torch.float32) - size // 2
    rows, cols = (line - middle[0])[:, None], line - middle[1]
    places = torch.stack([rows.square() + cols.square(), cols.square() - rows.square(), -2 * rows * cols])
    weights = torch.stack([level, turn * a, turn * b], dim=1)
    return (-0.5 * torch.einsum("bn,nij->bij", weights, places)).flatten(1).softmax(-1).unflatten(1, (size, size))
