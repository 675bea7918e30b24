"""Building blocks of MCFormer: modulated transposed attention and gated feed-forward.

MDTA and GDFN are those of Restormer (Zamir et al., CVPR 2022); BlindDiff modulates both with the
noise level and the kernel (Sec. 3.3, Eqs. 16-17). All blocks map ``(B, C, H, W)`` to the same shape
and are fastest in channels-last memory, where the layer norm and the 1x1 convolutions need no copy.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .convolution import Conv2d


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``(B, C, H, W)``, each pixel by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TransposedAttention(nn.Module):
    """MDTA: attention between channels, so its cost is linear in the number of pixels."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = Conv2d(dim, 3 * dim, 1, bias=False)
        self.spread = Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.out = Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        q, k, v = rearrange(
            self.spread(self.qkv(x)), "b (three head c) h w -> three b head c (h w)", three=3, head=self.heads
        )
        # Normalising after the product is the same cosine, on C x C numbers instead of C x HW.
        q_norm = q.float().square().sum(-1).clamp_min(1e-24).rsqrt()
        k_norm = k.float().square().sum(-1).clamp_min(1e-24).rsqrt()
        cosine = (q @ k.transpose(-2, -1)) * q_norm[..., :, None] * k_norm[..., None, :]
        attention = (cosine * self.temperature).softmax(dim=-1).to(v.dtype)
        mixed = rearrange(attention @ v, "b head c (h w) -> b (head c) h w", h=height, w=width)
        return self.out(mixed)


class GatedFeedForward(nn.Module):
    """GDFN: two depthwise branches, one gating the other through a GELU."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.enter = Conv2d(dim, 2 * hidden, 1, bias=False)
        self.spread = Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.out = Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.spread(self.enter(x)).chunk(2, dim=1)
        return self.out(F.gelu(gate) * value)


class ModulatedBlock(nn.Module):
    """One transformer block: both of its layers see features scaled and shifted by (t, k).

    ``code`` is the sum of the noise-level and the kernel embedding, ``(B, E)``. The modulation is
    applied after the norm as ``(1 + scale) * x + shift``, with residuals, as in the authors' network
    (the paper's Eq. 16 leaves out the one and the residual).
    """

    def __init__(self, dim: int, heads: int, expansion: float, embedding: int) -> None:
        super().__init__()
        self.norm_attention = ChannelNorm(dim)
        self.attention = TransposedAttention(dim, heads)
        self.norm_feed = ChannelNorm(dim)
        self.feed = GatedFeedForward(dim, expansion)
        self.modulation = nn.Linear(embedding, 4 * dim)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        table = self.modulation(F.mish(code))[..., None, None]
        shift_a, scale_a, shift_f, scale_f = table.chunk(4, dim=1)
        x = x + self.attention(self.norm_attention(x) * (1 + scale_a) + shift_a)
        return x + self.feed(self.norm_feed(x) * (1 + scale_f) + shift_f)


class Stage(nn.ModuleList):
    """Blocks of one resolution, run in order with the same code."""

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        for block in self:
            x = block(x, code)
        return x


def halve(dim: int, dim_out: int) -> nn.Sequential:
    """Half the height and width: a 3x3 convolution, then a pixel unshuffle."""
    return nn.Sequential(Conv2d(dim, dim_out // 4, 3, padding=1, bias=False), nn.PixelUnshuffle(2))


def double(dim: int, dim_out: int) -> nn.Sequential:
    """Twice the height and width: a 3x3 convolution, then a pixel shuffle."""
    return nn.Sequential(Conv2d(dim, dim_out * 4, 3, padding=1, bias=False), nn.PixelShuffle(2))


def sinusoid(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of ``t (B,)`` at ``dim / 2`` frequencies from 1 down towards 1e-4: ``(B, dim)``."""
    half = dim // 2
    frequencies = torch.exp(-math.log(1e4) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
