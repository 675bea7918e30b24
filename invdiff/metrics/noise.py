"""How noisy a photo is, from the photo alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

_BLOCK = 16  # pixels along a side: enough for a median, few enough to lie between lines of text
_TIMES_FLATTEST = 3  # no noise is this uneven, and texture of photos is not either
_BEYOND_DOUBT = 0.01  # so much may be noise wherever it stands


def noise_level(y: Tensor) -> Tensor:
    """Standard deviation ``(B,)`` of white noise on photos ``(B, C, H, W)`` in [0, 1], the mean of their channels'.

    From the median of second differences along both axes (Immerkaer 1996), which leave little of a blurred scene.
    Small print, hatching and the dots of a newspaper have edges everywhere, which are no noise: above 1 % it is bounded
    by what the flattest tenth of the photo shows.
    """
    if min(y.shape[-2:]) < 3:
        return y.new_zeros(len(y))
    fine = _finest(y)
    level = _deviation(fine.flatten(2))
    if bool((level > _BEYOND_DOUBT).any()) and min(fine.shape[-2:]) >= _BLOCK:
        bound = (_TIMES_FLATTEST * _flattest(y, fine)).clamp_min(_BEYOND_DOUBT)
        level = torch.minimum(level, bound)
    return level.mean(1)


def colour_noise(y: Tensor) -> float:
    """Standard deviation of the noise in which the channels of a photo ``(3, h, w)`` differ, as if each had its own; of
    a grey photo, that of all its finest detail.

    Fine texture is mostly grey, and :func:`noise_level` takes fur and leaves for noise where this does not. It misses
    noise that is grey itself, or that compression made so.
    """
    differences = torch.stack([y[0] - y[1], y[1] - y[2], y[2] - y[0]]) / 2**0.5
    if not bool(differences.any()) or min(y.shape[-2:]) < 3:
        return float(noise_level(y[None]))
    return float(_deviation(_finest(differences[None]).flatten(2)).mean())


def _finest(x: Tensor) -> Tensor:
    """Sizes of second differences along both axes of ``(B, C, h, w)``, as deviations of noise: ``(B, C, h-2, w-2)``."""
    return x.float().diff(n=2, dim=-2).diff(n=2, dim=-1).abs_().div_(6)


def _deviation(sizes: Tensor) -> Tensor:
    """Standard deviation of normal numbers, from the median of their sizes ``(..., N)``."""
    return sizes.median(-1).values / 0.6745


def _flattest(y: Tensor, fine: Tensor) -> Tensor:
    """What the flattest tenth of the blocks shows of photos' finest detail ``(B, C, h, w)``: ``(B, C)``.

    Blocks mostly of black and white may hide their noise, and do not count; it is 0 where there are no others.
    """
    blocks = fine.unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK).flatten(4)  # (B, C, rows, columns, pixels)
    clipped = avg_pool2d(((y <= 0) | (y >= 1))[..., 1:-1, 1:-1].float(), _BLOCK) > 0.5
    shown = _deviation(blocks).masked_fill(clipped, torch.nan).flatten(2)
    return shown.nanquantile(0.1, -1).nan_to_num(0.0)
