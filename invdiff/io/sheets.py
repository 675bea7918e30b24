"""Pictures made to be looked at: drawn kernels, and results side by side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .atomic import write_atomic
from .pictures import eight_bit, save_png

_GAP = 8


def kernel_picture(kernel: Tensor, side: int, white: float | None = None) -> np.ndarray:
    """A kernel as grey uint8, enlarged by a whole factor to about ``side``; ``white`` is by default its maximum."""
    scaled = kernel.double() / max(float(kernel.max()) if white is None else white, 1e-12)
    factor = max(1, side // kernel.shape[0])
    grey = (scaled.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.kron(grey, np.ones((factor, factor), np.uint8))


def uncertainty_picture(deviation: Tensor) -> tuple[np.ndarray, float]:
    """Standard deviations ``(H, W)`` on [0, 1] as grey uint8, and the one that is white: a round number."""
    high = float(np.quantile(deviation.numpy(), 0.999))
    white = next((level for level in (0.01, 0.02, 0.05, 0.1, 0.2) if level >= high), 0.5)
    return eight_bit(deviation[None] / white)[..., 0], white


def save_kernel(kernel: Tensor, folder: Path, stem: str) -> None:
    """``<stem>.kernel.png`` to look at and ``<stem>.kernel.npy`` (float32, unit sum) to use."""
    write_atomic(folder / f"{stem}.kernel.npy", array_bytes(kernel))
    save_png(kernel_picture(kernel, 210), folder / f"{stem}.kernel.png")


def array_bytes(kernel: Tensor) -> bytes:
    """A NumPy file of float32."""
    buffer = io.BytesIO()
    np.save(buffer, kernel.float().numpy())
    return buffer.getvalue()


def comparison(panels: list[tuple[Tensor, Tensor | None]]) -> np.ndarray:
    """Images ``(3, H, W)`` side by side, each with its kernel ``(K, K)`` or nothing in its upper left corner."""
    height = panels[0][0].shape[-2]
    columns: list[np.ndarray] = []
    for image, kernel in panels:
        picture = eight_bit(image).copy()
        if kernel is not None:
            inset = kernel_picture(kernel, min(picture.shape[:2]) // 4)
            if inset.shape[0] + 2 <= min(picture.shape[:2]):
                framed = np.pad(inset, 1, constant_values=255)
                picture[: framed.shape[0], : framed.shape[1]] = framed[..., None]
        columns += [picture, np.full((height, _GAP, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)


def read_kernel(path: Path) -> torch.Tensor | None:
    try:
        with path.open("rb") as file:
            return torch.from_numpy(np.lib.format.read_array(file, allow_pickle=False))
    except (OSError, ValueError):
        return None
