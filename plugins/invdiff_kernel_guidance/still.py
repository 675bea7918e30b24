"""Photos that were hardly shaken: a kernel that is nearly a point is taken for one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from invdiff.blur.spread import Spread
from invdiff.degradation import Degradation
from invdiff.errors import RecipeError
from invdiff.guidance import Estimate, Guidance, Step
from invdiff.settings import Float, Settings

from .kernels import with_better_kernels


class StillSettings(Settings):
    peak: Annotated[Float, Field(gt=0, le=1)] = 0.5
    """A kernel with so much of its light in one pixel, and the rest near it, is nearly a point."""


class Still(Guidance[StillSettings]):
    """Replaces a kernel that is nearly a point by a point.

    Many a small kernel and a picture that is too sharp explain a photo that was not shaken as well as the photo itself
    does, so that a search finds some such pair and never nothing. It goes after the guidances that find a kernel, and
    before the one that solves for the image. For operators that blur.
    """

    Settings = StillSettings
    estimates_parameters = True

    def unfit(self, degradation: Degradation) -> str | None:
        return None if degradation.parameters.of_blur else "it is for operators that blur"

    def refine(self, step: Step) -> Estimate:
        if step.theta is None:
            raise RecipeError("still: nothing has found a kernel yet: put kernel_search before it")
        return with_better_kernels(step, self._better, None)

    def _better(self, y: Tensor, x: Tensor, kernel: Tensor, degradation: Degradation) -> Tensor:
        point = Spread.of(kernel[0]).is_point(self.settings.peak)
        return degradation.parameters.neutral(kernel) if point else kernel
