"""What a run leaves behind: restored pictures, kernels, comparison sheets and ``report.json``."""

from __future__ import annotations

import io
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .files import write_atomic
from .images import save_png

_GAP = 8


def is_kernel(parameters: Tensor | None) -> bool:
    """Whether parameters ``(*shape)`` are a square to be shown as a picture."""
    return parameters is not None and parameters.ndim == 2 and parameters.shape[0] == parameters.shape[1] > 1


def kernel_picture(kernel: Tensor, side: int, white: float | None = None) -> np.ndarray:
    """A kernel as grey uint8, enlarged by a whole factor to about ``side``; ``white`` is by default its maximum."""
    scaled = kernel.double() / max(float(kernel.max()) if white is None else white, 1e-12)
    factor = max(1, side // kernel.shape[0])
    grey = (scaled.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.kron(grey, np.ones((factor, factor), np.uint8))


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
        picture = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().copy()
        if kernel is not None and is_kernel(kernel):
            inset = kernel_picture(kernel, min(picture.shape[:2]) // 4)
            if inset.shape[0] + 2 <= min(picture.shape[:2]):
                framed = np.pad(inset, 1, constant_values=255)
                picture[: framed.shape[0], : framed.shape[1]] = framed[..., None]
        columns += [picture, np.full((height, _GAP, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)


def versions() -> dict[str, str]:
    """What a result may depend on besides the recipe."""
    from . import __version__

    return {
        "invdiff": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": Image.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def read_report(path: Path) -> dict[str, Any]:
    """An earlier run's report, or an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` atomically; numbers that JSON has no word for become null."""
    write_atomic(path, json.dumps(_plain(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
