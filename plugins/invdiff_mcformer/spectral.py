"""A kernel estimator that keeps spatial structure, for kernels too varied for a pooled vector.

As in Schuler et al., *Learning to Deblur* (2014): a network turns the measurement into pairs of feature
maps, what sharp gradients would be (X) and what the blur made of them (Y), and the kernel that best
maps one to the other, ``K = sum conj(X) Y / (sum |X|^2 + beta)`` in Fourier space, is in closed form.
Whatever the kernel looks like, nobody has to learn its pixels. It is done twice: the second stage also
sees the measurement deconvolved with the first one's kernel.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.blur.deconvolution import taper, wiener

from .convolution import Conv2d
from .settings import Estimator, Network

_DILATIONS = (1, 2, 4, 1)
_KEPT = 256  # answers, one a tile: those of a photo of 50 megapixels
_FOLD = 2  # the convolutions work on a grid this many times coarser


class _Residual(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.spread = Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.out = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.leaky_relu(self.spread(F.leaky_relu(x, 0.1)), 0.1))


class SpectralStage(nn.Module):
    """Images in, kernel out: feature pairs, their quotient, and a small network that cleans it up."""

    def __init__(self, settings: Estimator, in_channels: int, kernel_size: int) -> None:
        super().__init__()
        width, maps = settings.channels, settings.maps
        self.kernel_size = kernel_size
        self.features = nn.Sequential(
            Conv2d(in_channels * _FOLD**2, width, 5, padding=2),
            *(_Residual(width, d) for d in _DILATIONS),
            Conv2d(width, maps * _FOLD**2, 3, padding=1),
        )
        # Linear in the measurement, so that the same filter of the clean image, blurred, gives the same.
        self.filters = Conv2d(1, maps, 5, padding=2, bias=False)
        self.log_beta = nn.Parameter(torch.tensor(-2.0))
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [Conv2d(32 if i else 2, 32, 5, padding=2), nn.LeakyReLU(0.1)]
        self.clean = nn.Sequential(*layers, Conv2d(32, 1, 5, padding=2))
        self.gain = nn.Parameter(torch.tensor(5.0))

    def forward(self, images: Tensor, measurement: Tensor, before: Tensor) -> Tensor:
        """From ``images (B, C, H, W)``, the measurement among them, and an earlier kernel, the next ``(B, K, K)``."""
        sharp = F.pixel_shuffle(self.features(F.pixel_unshuffle(images, _FOLD)).float(), _FOLD)
        with torch.autocast(measurement.device.type, enabled=False):  # no FFT in bfloat16
            quotient = self._quotient(sharp, measurement.float().mean(1, keepdim=True))
            quotient = 4 * quotient / quotient.square().sum((-2, -1), keepdim=True).add(1e-8).sqrt()
            cleaned = self.clean(torch.stack([quotient, 20 * before], dim=1))[:, 0]
            return (cleaned + self.gain * quotient).flatten(1).softmax(-1).view_as(quotient)

    def _quotient(self, sharp: Tensor, grey: Tensor) -> Tensor:
        height, width = grey.shape[-2:]
        reach = min(self.kernel_size // 2, height // 2, width // 2)
        window = taper(height, reach, grey)[:, None] * taper(width, reach, grey)
        blurred = self.filters(grey - grey.mean((-2, -1), keepdim=True))
        x, y = (torch.fft.rfft2(_unit_power(v * window)) for v in (sharp, blurred))
        power = x.abs().square().sum(1)
        power = power + self.log_beta.exp() * power.mean((-2, -1), keepdim=True)
        quotient = torch.fft.irfft2((x.conj() * y).sum(1) / power, s=(height, width))
        size, half = self.kernel_size, self.kernel_size // 2
        # A kernel wider than the image wraps around it: no estimate, but a defined one.
        line = torch.arange(size, device=grey.device) - half
        return quotient.index_select(-2, line % height).index_select(-1, line % width)


class SpectralEstimator(nn.Module):
    """Two stages. ``forward(measurement (B, 3, H, W))`` gives both kernels, first and final, ``(B, K, K)``.

    A loop asks at every step about the same measurement, or the same tiles of one: where the weights are frozen, the
    last answers are kept.
    """

    def __init__(self, settings: Network) -> None:
        super().__init__()
        estimator = settings.estimator
        self.kernel_size, self.weights = settings.kernel_size, estimator.deconvolve
        self.first = SpectralStage(estimator, 3, settings.kernel_size)
        self.second = SpectralStage(estimator, 3 + self.out_channels, settings.kernel_size)
        self._answers: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    @property
    def out_channels(self) -> int:
        """Channels of what :meth:`deconvolved` returns."""
        return 3 * len(self.weights)

    def forward(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        weights = list(self.parameters())
        if measurement.requires_grad or any(w.requires_grad or w.is_inference() for w in weights):
            return self._read(measurement)
        content = hashlib.sha256(measurement.float().cpu().contiguous().numpy().tobytes()).digest()
        kind = tuple(measurement.shape), measurement.dtype, measurement.device
        key = (content, kind, *(w._version for w in weights))
        if key not in self._answers:
            while len(self._answers) >= _KEPT:
                self._answers.pop(next(iter(self._answers)), None)
            self._answers[key] = self._read(measurement)
        first, final = self._answers[key]
        return first.clone(), final.clone()

    def _read(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        flat = measurement.new_full((len(measurement), self.kernel_size, self.kernel_size), self.kernel_size**-2)
        first = self.first(measurement, measurement, flat)
        images = torch.cat([measurement, self.deconvolved(measurement, first)], dim=1)
        return first, self.second(images, measurement, first.detach())

    def deconvolved(self, measurement: Tensor, kernel: Tensor) -> Tensor:
        """The measurement deconvolved at each of the settings' weights, ``(B, out_channels, H, W)``.

        No gradient passes: the kernel answers to its own loss, and the transformer to what it is shown.
        """
        with torch.no_grad():
            return wiener(measurement, kernel, self.weights).flatten(1, 2)


def _unit_power(x: Tensor) -> Tensor:
    return x / x.square().mean((1, 2, 3), keepdim=True).add(1e-8).sqrt()
