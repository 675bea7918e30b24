"""When a photo is too noisy or too compressed for a prior that has seen none such."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..io.jpeg import Jpeg
from .noise import colour_noise, noise_level


@dataclass(frozen=True)
class Limits:
    """What a prior can take: noise below a standard deviation on [0, 1], JPEG above a quality.

    ``grain`` is that of all finest detail, where it is so strong that little of it can be the scene's.
    """

    noise: float
    quality: int
    grain: float = 1.0

    def passed_by(self, y: Tensor, jpeg: Jpeg | None = None) -> str:
        """What of a photo ``(3, h, w)`` in [0, 1] is beyond them, in words; nothing where nothing is.

        Noise is what the photo's colours differ by in the finest detail, the quality that of
        the file's own tables, or of a former one's.
        """
        found = []
        if (noise := colour_noise(y)) >= self.noise:
            what = "colour noise" if bool((y != y[:1]).any()) else "noise, or texture as fine,"
            found.append(f"{what} of {100 * noise:.1f} %")
        elif self.grain < 1 and (grain := float(noise_level(y[None]))) >= self.grain:
            found.append(f"grain of {100 * grain:.1f} %")
        if jpeg is not None and jpeg.quality <= self.quality:
            found.append(f"{jpeg.kind} quality of {jpeg.quality}")
        return " and ".join(found)
