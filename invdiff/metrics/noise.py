"""How noisy a photo is, from the photo alone."""

from __future__ import annotations

import torch
from torch import Tensor


def noise_level(y: Tensor) -> Tensor:
    """Standard deviation ``(B,)`` of white noise on photos ``(B, C, H, W)``, the mean of their channels'.

    From the median of second differences along both axes (Immerkaer 1996), which leave little of a blurred scene.
    """
    if min(y.shape[-2:]) < 3:
        return y.new_zeros(len(y))
    fine = y.float().diff(n=2, dim=-2).diff(n=2, dim=-1)  # of unit noise: deviation 6
    return fine.abs().flatten(2).median(-1).values.mean(1) / (6 * 0.6745)


def colour_noise(y: Tensor) -> float:
    """Standard deviation of the noise in which the channels of a photo ``(3, h, w)`` differ, as if each had its own; of
    a grey photo, that of all its finest detail.

    Fine texture is mostly grey, and :func:`noise_level` takes fur and leaves for noise where this does not. It misses
    noise that is grey itself, or that compression made so.
    """
    differences = torch.stack([y[0] - y[1], y[1] - y[2], y[2] - y[0]]) / 2**0.5
    return float(noise_level((differences if bool(differences.any()) else y)[None]))
