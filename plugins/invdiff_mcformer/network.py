"""MCFormer: a kernel estimator and a four-level transformer that its estimate modulates (Sec. 3.3).

The layout follows the authors' released network: with its widths (``paper`` in ``settings.py``) the
parameter count is exactly theirs, 26,509,267. What they fixed is free here: kernel size, widths, the
kernel's head, and ``unshuffle``, which moves the whole transformer to a grid that many times coarser.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ModulatedBlock, Stage, double, halve, sinusoid
from .convolution import Conv2d
from .edges import EdgeEstimator
from .estimator import KernelEstimator, build_head
from .settings import Network
from .spectral import SpectralEstimator


class MCFormer(nn.Module):
    """Features in, features out; what they mean (noise, residual, ...) is the prior's business.

    ``forward(image, hint, t)``: ``image (B, 6, H, W)`` is what the transformer restores, noisy image
    and lifted measurement; ``hint (B, 6, H, W)`` is what the kernel is read from; ``t (B,)`` is any
    real number that names the noise level. ``H`` and ``W`` divide by ``settings.multiple``.
    Returns ``(B, out_channels, H, W)`` and the estimates of the operator's parameters, each
    ``(B, *settings.parameter_shape)``: a kernel, non-negative with unit sum, or a box's numbers. The last
    is the one to use, and what the transformer restores with unless it is ``told`` others.

    A spectral estimator reads the measurement alone, and the transformer sees the measurement
    deconvolved with its kernel as well. In a noisy image it would find the truth while training and its
    own mistakes while sampling, and believe them.
    """

    def __init__(self, settings: Network) -> None:
        super().__init__()
        self.settings = settings
        dims, heads, blocks = settings.channels, settings.heads, settings.blocks
        grid, embed = settings.unshuffle**2, settings.channels[0]
        # Without a 1x1 reduction the last decoder level keeps twice the channels (authors' layout).
        wide = 2 * dims[0]
        self.out_channels = 6 if settings.learn_variance else 3

        def stage(level: int, dim: int, count: int) -> Stage:
            return Stage(ModulatedBlock(dim, heads[level], settings.expansion, embed) for _ in range(count))

        self.time = nn.Sequential(nn.Linear(embed, 4 * embed), nn.Mish(), nn.Linear(4 * embed, embed))
        self.kernel: nn.Sequential | None = None
        if settings.modulation == "kernel":
            self.kernel = nn.Sequential(
                nn.Linear(math.prod(settings.parameter_shape), embed), nn.Mish(), nn.Linear(embed, embed)
            )
        self.estimator: KernelEstimator | SpectralEstimator | EdgeEstimator
        seen = 6
        if settings.estimator.kind == "spectral":
            self.estimator = SpectralEstimator(settings)
            seen += self.estimator.out_channels
        elif settings.estimator.kind == "edges":
            self.estimator = EdgeEstimator(settings)
        else:
            images = 6 if settings.estimator.reads == "both" else 3
            folded = images * (settings.estimator.unshuffle or settings.unshuffle) ** 2
            self.estimator = KernelEstimator(settings.estimator, folded, build_head(settings))

        self.stem = Conv2d(seen * grid, dims[0], 3, padding=1, bias=False)
        self.encoders = nn.ModuleList(stage(i, dims[i], blocks[i]) for i in range(3))
        self.downs = nn.ModuleList(halve(dims[i], dims[i + 1]) for i in range(3))
        self.latent = stage(3, dims[3], blocks[3])
        self.ups = nn.ModuleList(double(dims[i + 1], dims[i]) for i in range(3))
        self.merges = nn.ModuleList(Conv2d(2 * dims[i], dims[i], 1, bias=False) for i in (1, 2))
        self.decoders = nn.ModuleList([stage(0, wide, blocks[0]), *(stage(i, dims[i], blocks[i]) for i in (1, 2))])
        self.refinement = stage(0, wide, settings.refinement)
        self.head = Conv2d(wide, self.out_channels * grid, 3, padding=1, bias=False)

    def read(self, hint: Tensor) -> tuple[Tensor, ...]:
        """The estimates of the parameters from ``hint (B, 6, H, W)``, the last the one to use.

        Where :attr:`reads_measurement`, from its latter half alone.
        """
        seen = hint[:, 3:] if self.reads_measurement else hint
        if isinstance(self.estimator, SpectralEstimator):
            return self.estimator(seen)
        if isinstance(self.estimator, EdgeEstimator):
            return (self.estimator(seen),)
        return (self.estimator(F.pixel_unshuffle(seen, self.settings.estimator.unshuffle or self.settings.unshuffle)),)

    @property
    def reads_measurement(self) -> bool:
        """Whether the parameters are read from the lifted measurement alone, whatever the noisy image says."""
        return self.settings.estimator.kind != "pooled" or self.settings.estimator.reads == "measurement"

    def forward(
        self, image: Tensor, hint: Tensor, t: Tensor, told: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        fold = self.settings.unshuffle
        kernels = self.read(hint)
        kernel = kernels[-1] if told is None else told
        if isinstance(self.estimator, SpectralEstimator):
            image = torch.cat([image, self.estimator.deconvolved(hint[:, 3:], kernel).to(image)], dim=1)
        code = self.time(sinusoid(t, self.settings.channels[0]))
        if self.kernel is not None:
            code = code + self.kernel(kernel.flatten(1))

        x = self.stem(F.pixel_unshuffle(image, fold))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x, code)
            skips.append(x)
            x = down(x)
        x = self.latent(x, code)
        for level in (2, 1, 0):
            x = torch.cat([self.ups[level](x), skips[level]], dim=1)
            if level:
                x = self.merges[level - 1](x)
            x = self.decoders[level](x, code)
        x = self.refinement(x, code)
        return F.pixel_shuffle(self.head(x), fold), kernels
