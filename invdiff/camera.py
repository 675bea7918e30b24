"""What happens to a photo after the optics: noise of the sensor, as it is when a file is made, and JPEG."""

from __future__ import annotations

import io
import math
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, field_validator
from torch import Tensor

from .settings import Float, Int, Settings, in_order

Share = Annotated[Float, Field(ge=0, le=1)]
Softness = Annotated[Float, Field(ge=0, le=3)]
Quality = Annotated[Int, Field(ge=1, le=100)]


class Camera(Settings):
    """Noise and compression of a part of the measurements, for training: of each, one in three has both."""

    share: Share = 0.25
    """Part of the measurements that is noisy or compressed; the others are rounded to 8 bits and no more."""
    noise: tuple[Share, Share] = (0.0, 0.03)
    """Range of the noise's standard deviation, on [0, 1]."""
    softness: tuple[Softness, Softness] = (0.0, 0.0)
    """Range of the widths, in pixels, of the Gaussian that smooths the noise, as demosaicing and rescaling do; it keeps
    its standard deviation."""
    grey: Share = 0.0
    """Part of the noisy ones whose noise is the same in all channels, as the grain of a film."""
    quality: tuple[Quality, Quality] = (40, 95)
    """Range of JPEG's quality; colour is halved (4:2:0) in two of three."""

    @field_validator("noise", "softness", "quality")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return in_order(value)

    def photographed(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """A measurement ``(3, h, w)`` as a file holds it, with 8 bits; all draws are the generator's."""
        chosen, kind, level, grade = torch.rand(4, generator=generator).tolist()
        coarse = int(torch.randint(3, (), generator=generator)) > 0
        noisy, compressed = kind < 2 / 3, kind >= 1 / 3
        if chosen >= self.share:
            noisy = compressed = False
        if noisy:
            sigma = self.noise[0] + (self.noise[1] - self.noise[0]) * level
            y = y + sigma * self.unit_noise(y, generator)
        pixels = (y.clamp(0, 1) * 255).round()
        if compressed:
            quality = round(self.quality[0] + (self.quality[1] - self.quality[0]) * grade)
            pixels = through_jpeg(pixels.to(torch.uint8), quality, halved=coarse).to(y)
        return pixels / 255

    def unit_noise(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Of unit standard deviation, as large as ``y (3, h, w)``."""
        if self.softness[1] == 0 and self.grey == 0:
            return torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)
        grey, place = torch.rand(2, generator=generator).tolist()
        width = self.softness[0] + (self.softness[1] - self.softness[0]) * place
        reach = math.ceil(3 * width)
        line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=y.dtype) / max(width, 1e-3)).square())
        line = line / line.square().sum().sqrt()
        channels = 1 if grey < self.grey else len(y)
        rows, columns = (side + 2 * reach for side in y.shape[-2:])
        noise = torch.randn(channels, 1, rows, columns, generator=generator, dtype=y.dtype)
        soft = F.conv2d(F.conv2d(noise, line[None, None, :, None]), line[None, None, None, :])
        return soft[:, 0].expand_as(y).to(y.device)


def through_jpeg(pixels: Tensor, quality: int, *, halved: bool) -> Tensor:
    """``(3, h, w)`` of uint8 written as JPEG and read again; ``halved``: colour at half the resolution (4:2:0)."""
    file = io.BytesIO()
    picture = Image.fromarray(pixels.cpu().permute(1, 2, 0).contiguous().numpy())
    picture.save(file, "JPEG", quality=quality, subsampling=2 if halved else 0)
    with Image.open(file, formats=["JPEG"]) as found:
        return torch.from_numpy(np.asarray(found).copy()).permute(2, 0, 1)
