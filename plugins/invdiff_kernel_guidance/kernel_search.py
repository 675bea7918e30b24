"""Where blind deblurring begins: several kernels, and the one under which the prior's picture explains the photo."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation, KernelSpace
from invdiff.guidance import Estimate, Guidance, Problem, Step
from invdiff.metrics import inside
from invdiff.settings import Float, Int, Settings

from .coarse_to_fine import CoarseToFine, coarse_to_fine
from .proximal import solve


class KernelSearchSettings(Settings):
    search: CoarseToFine = CoarseToFine()
    """The search from coarse to fine."""
    noise: Annotated[Float, Field(gt=0)] = 0.02
    """Standard deviation on [0, 1] of what the operator cannot explain, when kernels are compared."""
    spread: Annotated[Float, Field(gt=0)] = 0.06
    """Standard deviation on [0, 1] of the prior's picture, when kernels are compared."""
    margin: Annotated[Float, Field(ge=0)] = 1.05
    """The prior's own kernel is taken if it leaves this many times less than the search's: its errors fit its picture.
    0 takes it always."""
    window: Annotated[Int, Field(ge=64)] = 512
    """Of a larger photo the kernel is read from the part of this side that has most edges."""


class KernelSearch(Guidance[KernelSearchSettings]):
    """Begins the loop with the better of two kernels, and stays with it: the prior's own, and one from coarse to fine.

    Each is tried: the prior restores with it from pure noise, the picture is drawn towards the photo as far as noise
    and spread allow, and what it leaves unexplained is its mark. The picture is one that the prior believes, so a
    wrong kernel leaves more. The two fail on different photos: a learned estimate on shakes unlike those it has seen,
    the search where there are few edges.

    For operators that blur at full resolution. Other guidances may improve the kernel from step to step.
    """

    Settings = KernelSearchSettings
    estimates_parameters = True
    evaluations = 2  # a picture with each kernel; the first brings the prior's own

    def unfit(self, degradation: Degradation) -> str | None:
        blurs = isinstance(degradation.parameters, KernelSpace) and degradation.scale == 1
        return None if blurs else "it is for operators that blur with a kernel at full resolution"

    def begin(self, problem: Problem, theta: Tensor | None) -> Tensor | None:
        degradation, size = problem.degradation, problem.degradation.parameters.shape[-1]
        with torch.no_grad():
            y = torch.stack([telling_part(one, self.settings.window) for one in problem.y])
            part = Problem(y, degradation, problem.prior)
            searched = coarse_to_fine(y, size, self.settings.search)
            picture, estimated = self._first(part, theta)
            own = estimated if theta is None else theta
            if own is None:
                return searched
            rest = self._unexplained(part, own, picture)
            better = rest * self.settings.margin < self._unexplained(part, searched, self._first(part, searched)[0])
            return torch.where(better[:, None, None], own, searched)

    def refine(self, step: Step) -> Estimate:
        return Estimate(step.x0, step.theta if step.before is None else step.before)

    def _first(self, problem: Problem, kernel: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The prior's picture, cropped and in [0, 1], with that kernel or else its own, which it returns as well.

        The noise that it starts from is the same for every kernel.
        """
        condition, prior = problem.condition, problem.prior
        noise = torch.randn(condition.shape[1:], generator=torch.Generator().manual_seed(0))
        times = torch.full((len(condition),), len(prior.spec.schedule) - 1, device=condition.device)
        told = kernel if prior.spec.takes_parameters else None
        found = prior.predict(noise.to(condition).expand_as(condition), times, condition, told)
        return problem.crop(prior.to_unit(found.x0)), found.parameters

    def _unexplained(self, problem: Problem, kernel: Tensor, picture: Tensor) -> Tensor:
        """Root mean square ``(B,)`` of what a picture leaves of the measurement, away from its border."""
        degradation, y = problem.degradation, problem.y
        ratio = (self.settings.noise / self.settings.spread) ** 2
        picture = solve(y, picture, kernel, degradation, ratio, iterations=15)
        rest = y - degradation.apply(picture, kernel)
        margin = min(kernel.shape[-1] // 2, min(y.shape[-2:]) // 4)
        return inside(rest, margin).square().mean((1, 2, 3)).sqrt()


def telling_part(y: Tensor, side: int) -> Tensor:
    """The window of ``y (3, h, w)``, of ``side`` at most, with most edges between pixels that are not clipped."""
    height, width = (min(side, n) for n in y.shape[-2:])
    if (height, width) == tuple(y.shape[-2:]):
        return y
    seen = ((y > 0.01) & (y < 0.99)).all(0)
    grey = y.mean(0)
    edges = (grey.diff(dim=0)[:, :-1].abs() + grey.diff(dim=1)[:-1].abs()) * seen[:-1, :-1]
    # Sums over windows from running sums; every eighth place is enough.
    total = torch.nn.functional.pad(edges.double().cpu().cumsum(0).cumsum(1), (1, 0, 1, 0))
    rows, cols = (torch.arange(0, n - part + 1, 8) for n, part in zip(y.shape[-2:], (height, width), strict=True))
    down, right = rows[:, None] + height - 1, cols + width - 1
    sums = total[down, right] - total[rows[:, None], right] - total[down, cols] + total[rows[:, None], cols]
    place = int(sums.argmax())
    top, left = int(rows[place // len(cols)]), int(cols[place % len(cols)])
    return y[:, top : top + height, left : left + width]
