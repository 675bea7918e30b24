"""When a photo is too noisy or too compressed for a prior that has seen none such."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..io.jpeg import Jpeg
from .noise import colour_noise


@dataclass(frozen=True)
class Limits:
    """What a prior can take: noise below a standard deviation on [0, 1], and JPEG above a quality."""

    noise: float
    quality: int

    def passed_by(self, y: Tensor, jpeg: Jpeg | None = None) -> str:
        """What of a photo ``(3, h, w)`` in [0, 1] is beyond them, in words; nothing where nothing is.

        Noise is what the photo's colours differ by in the finest detail, the quality that of the file's own tables.
        """
        noise = colour_noise(y)
        found = [f"colour noise of {100 * noise:.1f} %"] if noise >= self.noise else []
        if jpeg is not None and jpeg.quality <= self.quality:
            found.append(f"JPEG quality of {jpeg.quality}")
        return " and ".join(found)
