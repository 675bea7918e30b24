"""Linear systems that an operator and its adjoint make, without a matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, iterations: int) -> Tensor:
    """Solve ``product(x) = right`` from zero on, each sample ``(B, ...)`` by itself (Hestenes and Stiefel 1952).

    ``product`` is linear, symmetric and positive. Where it is nearly singular, fewer iterations leave more of what
    it hardly sees at zero.
    """
    x = torch.zeros_like(right)
    residual = direction = right
    power = _dot(residual, residual)
    for _ in range(iterations):
        curved = product(direction)
        length = power / _dot(direction, curved).clamp_min(1e-30)
        x, residual = x + length * direction, residual - length * curved
        before, power = power, _dot(residual, residual)
        direction = residual + power / before.clamp_min(1e-30) * direction
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))
