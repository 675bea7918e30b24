"""The kernel estimator (Eq. 15): convolutions, a global average, and a head that makes a kernel or other parameters."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from invdiff.degradation import BoxSpace

from .convolution import Conv2d
from .settings import Estimator, Network


class KernelEstimator(nn.Module):
    """5x5 convolutions over ``(B, C, h, w)``, averaged over space, to what the head makes of it.

    The authors' network has six of them, the fourth with stride 2 (the paper's text says four). With ``pooling:
    weighted`` the features say themselves, channel by channel, where in the image they are to be believed: a flat
    wall tells nothing of a kernel.
    """

    def __init__(self, settings: Estimator, in_channels: int, head: nn.Module) -> None:
        super().__init__()
        widths = [in_channels] + [settings.channels] * len(settings.strides)
        layers: list[nn.Module] = []
        for i, stride in enumerate(settings.strides):
            layers += [Conv2d(widths[i], widths[i + 1], 5, stride=stride, padding=2), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.weights: Conv2d | None = None
        if settings.pooling == "weighted":
            self.weights = Conv2d(widths[-1], widths[-1], 1)
            nn.init.zeros_(self.weights.weight)  # training starts from the plain mean
            nn.init.zeros_(cast(Tensor, self.weights.bias))
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        if self.weights is None:
            return self.head(features.mean(dim=(-2, -1)))
        weights = self.weights(features).sigmoid()
        return self.head((weights * features).sum(dim=(-2, -1)) / weights.sum(dim=(-2, -1)))


class SoftmaxHead(nn.Module):
    """A softmax over all K x K pixels: non-negative and of unit sum by construction."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.logits = nn.Linear(channels, kernel_size**2)

    def forward(self, features: Tensor) -> Tensor:
        return self.logits(features).float().softmax(-1).unflatten(-1, (self.kernel_size, self.kernel_size))


class PCAHead(nn.Module):
    """Coefficients of the principal components of the operator's kernel family (SRMD, IKC, DAN).

    The components are fitted once, before training, by ``fit``, and travel with the weights. A sum of
    components can dip below zero, so the result is clipped there and scaled back to unit sum.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, channels: int, kernel_size: int, components: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.coefficients = nn.Linear(channels, components)
        self.register_buffer("mean", torch.full((kernel_size**2,), 1.0 / kernel_size**2))
        self.register_buffer("basis", torch.zeros(components, kernel_size**2))

    @torch.no_grad()
    def fit(self, kernels: Tensor) -> None:
        """Fit mean and components, scaled to the family's spread, to sampled ``kernels (N, K, K)``."""
        flat = kernels.flatten(1).double()
        mean = flat.mean(0)
        _, spread, components = torch.linalg.svd(flat - mean, full_matrices=False)
        count = len(self.basis)
        scale = spread[:count, None] / len(flat) ** 0.5
        self.mean.copy_(mean)
        self.basis.copy_(scale * components[:count])

    def forward(self, features: Tensor) -> Tensor:
        flat = (self.mean + self.coefficients(features).float() @ self.basis).clamp_min(0) + 1e-12
        flat = flat / flat.sum(-1, keepdim=True)
        return flat.unflatten(-1, (self.kernel_size, self.kernel_size))


class BoxHead(nn.Module):
    """Numbers ``(B, N)`` within an operator's bounds, which ``fit`` takes over before training."""

    low: Tensor
    high: Tensor

    def __init__(self, channels: int, numbers: int) -> None:
        super().__init__()
        self.place = nn.Linear(channels, numbers)
        self.register_buffer("low", torch.zeros(numbers))
        self.register_buffer("high", torch.ones(numbers))

    def fit(self, space: BoxSpace) -> None:
        self.low.copy_(torch.tensor(space.low))
        self.high.copy_(torch.tensor(space.high))

    def forward(self, features: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * self.place(features).float().sigmoid()


def build_head(settings: Network) -> nn.Module:
    channels = settings.estimator.channels
    if settings.head == "box":
        return BoxHead(channels, settings.numbers)
    if settings.head == "pca":
        return PCAHead(channels, settings.kernel_size, settings.pca_components)
    return SoftmaxHead(channels, settings.kernel_size)
