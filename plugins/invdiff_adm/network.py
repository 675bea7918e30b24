"""The network: residual blocks at several sizes, attention at some of them, and the time in every block.

Its parts have the names of the published checkpoints, so that those fit as they are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .settings import ADMSettings

_GROUPS = 32


class ADM(nn.Module):
    """From a noisy image ``(B, 3, H, W)`` and times ``(B,)`` to its noise, and where it is learned the variance's
    place beside it, ``(B, 3 or 6, H, W)``. Sides are multiples of ``settings.multiple``."""

    def __init__(self, settings: ADMSettings) -> None:
        super().__init__()
        self.width = settings.width
        code, heads = 4 * settings.width, settings.head_channels
        self.time_embed = nn.Sequential(nn.Linear(settings.width, code), nn.SiLU(), nn.Linear(code, code))
        channels, last = settings.channels[0], len(settings.channels) - 1
        self.input_blocks = nn.ModuleList([Stack([nn.Conv2d(3, channels, 3, padding=1)])])
        kept = [channels]
        for level, wide in enumerate(settings.channels):
            for _ in range(settings.blocks):
                attention = [Attention(wide, heads)] if level in settings.attention else []
                self.input_blocks.append(Stack([Block(channels, wide, code), *attention]))
                channels = wide
                kept.append(channels)
            if level < last:
                self.input_blocks.append(Stack([Block(channels, channels, code, "down")]))
                kept.append(channels)
        self.middle_block = Stack(
            [Block(channels, channels, code), Attention(channels, heads), Block(channels, channels, code)]
        )
        self.output_blocks = nn.ModuleList()
        for level, wide in reversed(list(enumerate(settings.channels))):
            for place in range(settings.blocks + 1):
                parts: list[nn.Module] = [Block(channels + kept.pop(), wide, code)]
                channels = wide
                if level in settings.attention:
                    parts.append(Attention(channels, heads))
                if level and place == settings.blocks:
                    parts.append(Block(channels, channels, code, "up"))
                self.output_blocks.append(Stack(parts))
        outputs = 6 if settings.learn_variance else 3
        self.out = nn.Sequential(nn.GroupNorm(_GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, outputs, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        code = self.time_embed(embedded(t, self.width).to(x.dtype))
        skips = []
        for stack in self.input_blocks:
            x = stack(x, code)
            skips.append(x)
        x = self.middle_block(x, code)
        for stack in self.output_blocks:
            x = stack(torch.cat([x, skips.pop()], dim=1), code)
        raw: Tensor = self.out(x)
        return raw


class Stack(nn.ModuleList):
    """One after the other; the time's code is for blocks."""

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        for part in self:
            x = part(x, code) if isinstance(part, Block) else part(x)
        return x


class Block(nn.Module):
    """A residual block that the time scales and shifts; ``down`` and ``up`` change the size by 2 on the way."""

    def __init__(self, inputs: int, outputs: int, code: int, resize: str = "") -> None:
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(code, 2 * outputs))
        self.out_layers = nn.Sequential(  # the third stands where dropout was in training
            nn.GroupNorm(_GROUPS, outputs), nn.SiLU(), nn.Identity(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        norm, active, convolution = self.in_layers
        h = convolution(self._resized(active(norm(x))))
        scale, shift = self.emb_layers(code)[..., None, None].chunk(2, dim=1)
        norm, *rest = self.out_layers
        h = norm(h) * (1 + scale) + shift
        for layer in rest:
            h = layer(h)
        return self.skip_connection(self._resized(x)) + h

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.resize == "up" else x


class Attention(nn.Module):
    """Every pixel looks at all others. Each head's queries, keys and values lie together, as in the first version."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.head_channels = head_channels
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        mixed = self.qkv(self.norm(x.flatten(2)))
        heads = mixed.view(batch, channels // self.head_channels, 3, self.head_channels, height * width)
        q, k, v = heads.transpose(-1, -2).unbind(2)
        seen = F.scaled_dot_product_attention(q, k, v)  # (batch, heads, pixels, head_channels)
        return x + self.proj_out(seen.transpose(-1, -2).reshape(batch, channels, -1)).view_as(x)


def embedded(t: Tensor, width: int) -> Tensor:
    """Times ``(B,)`` as cosines, then sines, ``(B, width)``."""
    half = width // 2
    rates = torch.exp(-math.log(1e4) / half * torch.arange(half, device=t.device))
    angles = t[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)
