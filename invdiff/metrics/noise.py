"""How noisy a photo is, from the photo alone."""

from __future__ import annotations

from torch import Tensor


def noise_level(y: Tensor) -> Tensor:
    """Standard deviation ``(B,)`` of white noise on photos ``(B, C, H, W)``, the mean of their channels'.

    From the median of second differences along both axes (Immerkaer 1996), which leave little of a blurred scene.
    """
    if min(y.shape[-2:]) < 3:
        return y.new_zeros(len(y))
    fine = y.float().diff(n=2, dim=-2).diff(n=2, dim=-1)  # of unit noise: deviation 6
    return fine.abs().flatten(2).median(-1).values.mean(1) / (6 * 0.6745)
