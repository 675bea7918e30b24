"""A U-Net of plain 3x3 convolutions, modulated by the noise level: features in, features out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WAVES = 16


class Block(nn.Module):
    """Two convolutions beside the identity; the features between them are scaled and shifted by the noise level."""

    def __init__(self, dim: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(dim, dim, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * dim)
        self.second = nn.Conv2d(dim, dim, 3, padding=1)
        _silence(self.second)  # a block begins as the identity, so that many of them need no norm

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.modulation(code)[..., None, None].chunk(2, dim=1)
        return x + self.second(F.silu(self.first(x) * (1 + scale) + shift))


class Stage(nn.ModuleList):
    """Blocks of one resolution, run in order with the same code."""

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        for block in self:
            x = block(x, code)
        return x


class UNet(nn.Module):
    """Images ``(B, 3, H, W)`` in and out, both sides divisible by :attr:`multiple`.

    ``level (B,)`` is any real number that names the noise, of the order of one. The network works on pixels folded
    into channels, ``unshuffle`` by ``unshuffle``. Skips are added, and so cost nothing (DRUNet). With ``beside`` it
    looks at a second image as well, as large as the first.
    """

    def __init__(self, channels: Sequence[int], blocks: int, unshuffle: int, *, beside: bool = False) -> None:
        super().__init__()
        embedding, folded = 4 * channels[0], 3 * unshuffle**2
        self.unshuffle, self.multiple = unshuffle, unshuffle * 2 ** (len(channels) - 1)

        def stage(dim: int) -> Stage:
            return Stage(Block(dim, embedding) for _ in range(blocks))

        steps = list(pairwise(channels))
        self.embed = nn.Sequential(
            nn.Linear(2 * _WAVES, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = nn.Conv2d(folded, channels[0], 3, padding=1)
        self.beside = nn.Conv2d(folded, channels[0], 3, padding=1) if beside else None
        if self.beside is not None:
            _silence(self.beside)  # weights that never saw a second image go on as if there were none
        self.encoders = nn.ModuleList(stage(dim) for dim in channels[:-1])
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.middle = nn.ModuleList([stage(channels[-1]), stage(channels[-1])])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps)
        self.decoders = nn.ModuleList(stage(dim) for dim in channels[:-1])
        self.head = nn.Conv2d(channels[0], folded, 3, padding=1)
        _silence(self.head)

    def forward(self, image: Tensor, level: Tensor, beside: Tensor | None = None) -> Tensor:
        code = self.embed(waves(level))
        x = self.stem(F.pixel_unshuffle(image, self.unshuffle))
        if self.beside is not None and beside is not None:
            x = x + self.beside(F.pixel_unshuffle(beside, self.unshuffle))
        skips = [x]
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(x, code))
            x = down(skips[-1])
        for stage in self.middle:
            x = stage(x, code)
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            x = decoder(up(x) + skips.pop(), code)
        return F.pixel_shuffle(self.head(x + skips.pop()), self.unshuffle)


def _silence(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def waves(level: Tensor) -> Tensor:
    """Sines and cosines of ``level (B,)`` at wavelengths from half to ten: ``(B, 32)``.

    Shorter ones would make strangers of neighbouring levels, and those that training seldom visits explode.
    """
    lengths = torch.logspace(math.log10(0.5), 1, _WAVES, device=level.device, dtype=torch.float32)
    angles = 2 * math.pi * level.float()[:, None] / lengths
    return torch.cat([angles.sin(), angles.cos()], dim=1)
