"""How a JPEG was compressed, from the file's own tables."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, JpegImagePlugin
from torch import Tensor

_STANDARD = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
"""The standard's table of luma, its Annex K.1, row by row."""
_HALVED = 2  # Pillow's word for 4:2:0
_ENOUGH, _GRID = 1024, 16  # pixels: a side that tells enough, and that of a block where colour is halved
_OFF = (4, 3)  # pixels: as far from the grid of blocks as may be


@dataclass(frozen=True)
class Jpeg:
    """Quantisation tables of a JPEG, 64 numbers each, row by row, and how its colour is sampled, as Pillow says it."""

    tables: tuple[tuple[int, ...], ...]
    sampling: int = _HALVED

    @classmethod
    def of(cls, picture: Image.Image) -> Jpeg | None:
        """Of a picture that Pillow opened; None for what is no JPEG."""
        found: Any = getattr(picture, "quantization", None)
        if not isinstance(picture, JpegImagePlugin.JpegImageFile) or not found:
            return None
        tables = tuple(tuple(map(int, found[place])) for place in sorted(found))
        sampling = JpegImagePlugin.get_sampling(picture)
        return cls(tables, _HALVED if sampling < 0 else sampling) if all(len(t) == 64 for t in tables) else None

    @property
    def quality(self) -> int:
        """From 1 to 100, as libjpeg counts it: the nearest table of luma; other encoders have their own."""
        ours = np.array(self.tables[0], float).clip(1)  # a broken table has zeros
        return min(range(1, 101), key=lambda quality: float(np.abs(np.log(ours / _scaled(quality))).sum()))

    def again(self, pixels: Tensor) -> Tensor:
        """``(3, h, w)`` in [0, 1], compressed with these tables and read again."""
        array = (pixels.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        buffer = io.BytesIO()
        tables = [list(table) for table in self.tables]
        Image.fromarray(array.contiguous().numpy()).save(buffer, "JPEG", qtables=tables, subsampling=self.sampling)
        with Image.open(buffer, formats=["JPEG"]) as found:
            return torch.from_numpy(np.asarray(found.convert("RGB")).copy()).permute(2, 0, 1) / 255

    def error(self, pixels: Tensor) -> float:
        """Standard deviation, on [0, 1], of what compression did to ``(3, h, w)`` that was read from such a file.

        Compressed again it would stay as it is. But off the grid of blocks the tables meet it as they met what it came
        from (as in Nosratinia's deblocking, 2001), and what they do to it there is read off. Of a large one the middle
        is enough.
        """
        for dim in (-2, -1):
            begin = max(pixels.shape[dim] - _ENOUGH, 0) // 2 // _GRID * _GRID
            pixels = pixels.narrow(dim, begin, min(pixels.shape[dim], _ENOUGH))
        found = [0.0]  # at two places, as the grid of a photo that was turned may begin at either
        for off in _OFF:
            moved = pixels[:, off:, off:].detach().float().cpu().clamp(0, 1)
            if moved.numel():
                found.append(float((self.again(moved) - moved).double().square().mean().sqrt()))
        return max(found)


@cache
def _scaled(quality: int) -> np.ndarray:
    """The table of luma that libjpeg makes for a quality."""
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((np.array(_STANDARD) * factor + 50) // 100).clip(1, 255).astype(float)
