"""The last word on a result: the colours of its coarse parts are those of the photo, and what is flat there is flat."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from invdiff.blur import blur, pad_border
from invdiff.degradation import Degradation
from invdiff.guidance import Guidance, Step, within
from invdiff.metrics import noise_level
from invdiff.settings import Float, Int, Settings

_LEVEL = 0.001  # of the range: less than one of 255 levels
_ROUNDING = 1e-6  # in light a level may be less than that one
_FAMILIAR = 0.01  # standard deviation of noise, and of what compression did, up to which nothing is smoothed further
_WIDEST = 8  # times that


class AsMeasuredSettings(Settings):
    smoothing: Annotated[Float, Field(gt=0)] = 3.0
    """Of what the result leaves of the photo so much is smoothed out before it is put back: the standard deviation of a
    Gaussian, in pixels of the photo. What is coarser is measured well at a noise of 1 %; at more, in proportion."""
    around: Annotated[Int, Field(ge=0)] = 1
    """Where so many pixels of the photo on all sides are exactly the same, the result is, too."""


class AsMeasured(Guidance[AsMeasuredSettings]):
    """After the last step: ``x + lift(smoothed(y - A(x)))``, then ``lift(y)`` where the photo is flat.

    A blur leaves means as they are, so a photo says what coarse colours its scene has, and white paper's or a logo's
    exactly. A network is off by some levels, differently in each channel, and draws specks. For operators that blur.
    """

    Settings = AsMeasuredSettings

    def unfit(self, degradation: Degradation) -> str | None:
        return None if degradation.parameters.of_blur else "it is for operators that blur"

    @torch.no_grad()
    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        if step.t_next >= 0:
            return x_next
        degradation, (height, width) = step.degradation, step.x0.shape[-2:]
        x = step.prior.to_unit(x_next[..., :height, :width]).clamp_(0, 1)
        left = step.y - degradation.apply(x, step.parameters("estimated", "as_measured"))
        x += degradation.lift(torch.cat([self._smoothed(*each, step) for each in zip(left, step.y, strict=True)]))
        flat = self._flat(step)
        if bool(flat.any()):
            inside = degradation.lift(flat.to(x)) > 0.999
            x = torch.where(inside, degradation.lift(step.y), x)
        return within(step.prior.from_unit(x), x_next)

    def _smoothed(self, left: Tensor, y: Tensor, step: Step) -> Tensor:
        """What is left of one photo ``y``, both ``(3, h, w)``, with the noise smoothed out of it: ``(1, 3, h, w)``."""
        noise = math.hypot(float(noise_level(y[None])), step.compression)
        width = self.settings.smoothing * min(max(noise / _FAMILIAR, 1), _WIDEST)
        reach = math.ceil(3 * width)
        line = torch.arange(-reach, reach + 1, dtype=y.dtype, device=y.device)
        line = (-0.5 * (line / width).square()).exp()
        kernel = line[:, None] * line / line.sum().square()
        return blur(left[None], kernel[None], "circular" if step.degradation.wraps else "replicate")

    def _flat(self, step: Step) -> Tensor:
        """Where the photo is the same for ``around`` pixels on all sides; of a JPEG, whose blocks are flat where it has
        left their texture out, where it is white or black."""
        reach = self.settings.around
        y = pad_border(step.y / step.gain, reach, "circular" if step.degradation.wraps else "replicate")
        high, low = (sign * F.max_pool2d(sign * y, 2 * reach + 1, stride=1) for sign in (1, -1))
        flat = high - low < _ROUNDING
        return flat & ((low > 1 - _LEVEL) | (high < _LEVEL)) if step.compression else flat
