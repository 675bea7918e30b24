"""A kernel as a search might have read it: for training priors that must live with one."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from invdiff.blur.deconvolution import with_mass_at
from invdiff.degradation import Degradation, KernelSpace
from invdiff.errors import RecipeError
from invdiff.guidance import Problem
from invdiff.seeds import content_of, stream
from invdiff.settings import Float, Settings

from .beginning import Beginning

_COARSE = 5  # nodes a side of the fields that bend a kernel and weigh its parts
_RINGING = 0.04  # of a kernel's largest value: what moving it by a part of a pixel leaves around it, at severity 1
Share = Annotated[Float, Field(ge=0, le=1)]


class MistakenSettings(Settings):
    share: Share = 1.0
    """Part of the photos that begins so; the others begin with what guidances before this one found."""
    severity: tuple[Share, Share] = (0.0, 1.0)
    """Range of how wrong the kernels are, drawn for each photo: at 0 they are right."""
    bend: Annotated[Float, Field(ge=0)] = 1.5
    """Standard deviation in pixels, at severity 1, of how far each part of the kernel lies from where it should."""
    weigh: Annotated[Float, Field(ge=0)] = 0.8
    """Standard deviation, at severity 1, of the logarithm of each part's weight."""
    thin: Annotated[Float, Field(ge=0)] = 0.4
    """Standard deviation, at severity 1, of the logarithm of the power that its values are raised to."""
    blur: Annotated[Float, Field(ge=0)] = 0.8
    """Largest width in pixels, at severity 1, of the Gaussian that it is blurred by."""
    floor: Share = 0.2
    """Largest part of its largest value, at severity 1, below which nothing is left."""
    ghost: Share = 0.3
    """Largest weight, at severity 1, of a second copy of it somewhere near."""


class Mistaken(Beginning[MistakenSettings]):
    """Begins the loop with the true kernel made wrong, and stays with it: bent, unevenly lit, too thin or too soft.

    Beside what a search finds in a small crop, which takes long and is often far off, training needs kernels that are
    nearly right. All draws follow from kernel and photo. For inputs that are degraded here.
    """

    Settings = MistakenSettings

    def unfit(self, degradation: Degradation) -> str | None:
        return None if isinstance(degradation.parameters, KernelSpace) else "this operator's parameters are no kernel"

    def begin(self, problem: Problem, theta: Tensor | None) -> Tensor | None:
        if problem.truth is None:
            raise RecipeError("mistaken: needs known kernels: inputs that are degraded here")
        found = []
        for i, (kernel, y) in enumerate(zip(problem.truth, problem.y, strict=True)):
            generator = stream(*content_of(kernel, y))
            chosen = theta is None or float(torch.rand((), generator=generator)) < self.settings.share
            found.append(self._wrong(kernel, generator) if chosen or theta is None else theta[i])
        return torch.stack(found)

    def _wrong(self, kernel: Tensor, generator: torch.Generator) -> Tensor:
        own = self.settings

        def uniform() -> float:
            return float(torch.rand((), generator=generator))

        def field(parts: int) -> Tensor:
            nodes = torch.randn(parts, 1, _COARSE, _COARSE, generator=generator).to(kernel)
            return F.interpolate(nodes, kernel.shape, mode="bicubic", align_corners=True)[:, 0]

        severity = own.severity[0] + (own.severity[1] - own.severity[0]) * uniform()
        found = _bent(kernel, severity * own.bend * field(2))
        found = found * (severity * own.weigh * field(1)[0]).exp()
        power = math.exp(severity * own.thin * float(torch.randn((), generator=generator)))
        found = (found / found.max().clamp_min(1e-12)).pow(power)
        found = _soft(found, severity * own.blur * uniform())
        reach = kernel.shape[-1] // 4
        rows, cols = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        found = found + severity * own.ghost * uniform() * uniform() * found.roll((rows, cols), (0, 1))
        found = found * (found >= severity * own.floor * uniform() * found.max())
        found = found if float(found.sum()) > 0 else kernel
        return with_mass_at((found / found.sum())[None], floor=severity * _RINGING)[0]


def _bent(kernel: Tensor, moves: Tensor) -> Tensor:
    """``kernel (K, K)`` with each place's value fetched ``moves (2, K, K)`` pixels away, along rows and columns."""
    side = len(kernel)
    line = torch.arange(side, device=kernel.device, dtype=kernel.dtype)
    rows, cols = line[:, None] + moves[0], line + moves[1]
    places = torch.stack([cols, rows], dim=-1) * (2 / (side - 1)) - 1
    return F.grid_sample(kernel[None, None], places[None], align_corners=True)[0, 0]


def _soft(kernel: Tensor, width: float) -> Tensor:
    if width < 0.2:  # of a pixel: nothing that its neighbours would notice
        return kernel
    line = torch.arange(-4, 5, device=kernel.device, dtype=kernel.dtype)
    weights = (-0.5 * (line / width).square()).exp()
    weights = weights / weights.sum()
    column = F.conv2d(kernel[None, None], weights.view(1, 1, -1, 1), padding=(4, 0))
    return F.conv2d(column, weights.view(1, 1, 1, -1), padding=(0, 4))[0, 0]
