"""Terms that a recipe can add to the loss of the picture, each a number for each image: ``(B,)``."""

from __future__ import annotations

import torch
from torch import Tensor

from ..degradation import Degradation


def charbonnier(error: Tensor, softness: float) -> Tensor:
    """``sqrt(error^2 + softness^2) - softness`` of errors ``(B, ...)``, their mean (Charbonnier et al. 1994).

    Squared below ``softness``, halved over it, and absolute far above.
    """
    return ((error.square() + softness**2).sqrt() - softness).flatten(1).mean(1)


def fourier(x: Tensor, truth: Tensor) -> Tensor:
    """How far the magnitudes of the two-dimensional Fourier transforms of ``(B, 3, H, W)`` differ, their mean.

    The transform keeps sums of squares. Magnitudes do not see where something is: a shift costs nothing.
    """
    one, other = (torch.fft.fft2(image, norm="ortho").abs() for image in (x, truth))
    return (one - other).abs().flatten(1).mean(1)


def consistency(degradation: Degradation, x: Tensor, truth: Tensor, theta: Tensor) -> Tensor:
    """Mean squared difference of what the operator makes of two images ``(B, 3, H, W)`` in [0, 1], told its parameters.

    Both without the measurement's noise: a picture that repeats the noise explains a measurement best.
    """
    with torch.no_grad():
        measured = degradation.apply(truth, theta)
    return (degradation.apply(x, theta) - measured).square().flatten(1).mean(1)
