"""The Fréchet distance of two sets of pictures in Inception's features (Heusel et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ..io.decoding import load
from .inception import Inception

FEATURES = 2048


@torch.no_grad()
def features(network: Inception, files: Iterable[Path]) -> np.ndarray:
    """``(N, 2048)`` of picture files, one by one, so that sizes may differ."""
    found = [network(load(file).pixels[None])[0].double().numpy() for file in files]
    return np.stack(found) if found else np.zeros((0, FEATURES))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`` of two samples ``(N, D)``; NaN below two pictures."""
    if min(len(a), len(b)) < 2:
        return float("nan")
    centred = [x - x.mean(0) for x in (a, b)]
    # With C = X'X / (n - 1), the trace of the root of C_a C_b is the sum of the singular values of
    # X_a X_b' over both roots of (n - 1): no root of a 2048 x 2048 matrix, which few pictures leave singular.
    scale = ((len(a) - 1) * (len(b) - 1)) ** 0.5
    shared = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum() / scale
    spread = sum((x**2).sum() / (len(x) - 1) for x in centred)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2 * shared)
