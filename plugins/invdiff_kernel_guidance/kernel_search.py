"""Where blind deblurring begins: several kernels, and the one under which the photo costs least."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation
from invdiff.errors import ImageError, RecipeError
from invdiff.guidance import Problem
from invdiff.settings import Int, Settings

from .beginning import Beginning
from .coarse_to_fine import CoarseToFine, coarse_to_fine, photo_cost
from .kernels import without_edges

_DIFFERS = 0.025  # what parts of a photo cost more under one kernel than each under its own, where these differ
_TURNED = 0.001  # the same for kernels that follow from one camera's poses, which are wider than they need be
_TELLING = 0.5  # of the edges of the most telling part, another one must have


class KernelSearchSettings(Settings):
    search: CoarseToFine = CoarseToFine()
    """The searches from coarse to fine."""
    window: Annotated[Int, Field(ge=64)] = 512
    """Of a larger photo the kernel is read from the part of this side that has most edges, and of one large enough from
    another part too: the report says where they differ."""


class KernelSearch(Beginning[KernelSearchSettings]):
    """Begins the loop with the best of several kernels, and stays with it: the prior's own, some from coarse to fine.

    The best is the one under which the photo costs least (:func:`photo_cost`). They fail on different photos: a learned
    estimate on shakes unlike those it has seen, a search where there are few edges, and one search ends in a kernel
    too thin or too thick where its neighbour does not. Of a JPEG edges cost more, by what its tables tell.

    For operators that blur at full resolution. Other guidances may improve the kernel from step to step.
    """

    Settings = KernelSearchSettings

    def unfit(self, degradation: Degradation) -> str | None:
        return without_blur(degradation)

    def begin(self, problem: Problem, theta: Tensor | None) -> Tensor | None:
        chosen, side = [], problem.degradation.parameters.shape[-1]
        _refuse_too_few(problem.y, side)
        with torch.no_grad():
            for i, photo in enumerate(problem.y):
                if without_edges(photo, problem.gain):
                    problem.remarks[i] = "there are no edges to read a shake from"
                    chosen.append(problem.degradation.parameters.neutral(photo[None])[0])
                    continue
                parts = telling_parts(photo, max(self.settings.window, side))
                views = problem.degradation.views((photo.shape[-2], photo.shape[-1]))
                if len(views) > 1:
                    parts = parts[:1]  # where the blur differs is asked view by view
                    for view in views:
                        _refuse_too_few(view.of_photo(photo), side)
                kernel, begun = self._best(parts, problem, None if theta is None else theta[i : i + 1])
                parameters, differs = self._of_views(photo, kernel, problem)
                problem.remarks[i] = "; ".join(said for said in (begun, differs) if said)
                chosen.append(parameters)
        return torch.stack(chosen)

    def _of_views(self, photo: Tensor, kernel: Tensor, problem: Problem) -> tuple[Tensor, str]:
        """Parameters ``(*shape)`` with one kernel everywhere, that one or another, or such under which it differs from
        view to view, where these explain a photo better; and what is to be said of that."""
        degradation, size = problem.degradation, (photo.shape[-2], photo.shape[-1])
        everywhere = [degradation.from_kernels(kernel[None, None], size)]
        views = degradation.views(size)
        if len(views) == 1:
            return everywhere[0][0], ""
        search = self.settings.search.of_compressed(problem.compression)
        y = torch.stack([_middle(view.of_photo(photo), max(self.settings.window, len(kernel))) for view in views])

        def kernels_of(theta: Tensor) -> Tensor:
            return degradation.kernels_of(theta, size, len(views))[0]

        def agreed(kernels: Tensor) -> Tensor:
            return kernels_of(degradation.from_kernels(kernels[None], size))

        found = coarse_to_fine(y, len(kernel), search, agreed)
        differing = [degradation.from_kernels(kernels[None], size) for kernels in found]
        everywhere += [degradation.from_kernels(degradation.kernels_of(theta, size), size) for theta in differing]
        (same, one), (others, several) = (
            min((float(photo_cost(y, kernels_of(theta), search).sum()), place) for place, theta in enumerate(thetas))
            for thetas in (everywhere, differing)
        )
        if same <= (1 + _TURNED) * others:
            return everywhere[one][0], ""
        return differing[several][0], _differs(same, others)

    def _best(self, parts: list[Tensor], problem: Problem, told: Tensor | None) -> tuple[Tensor, str]:
        """The kernel ``(K, K)`` under which a photo's parts cost least together, and what is to be said of it."""
        degradation, search = problem.degradation, self.settings.search.of_compressed(problem.compression)
        own, searched = [] if told is None else [told], []
        for y in (part[None] for part in parts):
            if told is None:
                estimate = problem.prior.estimate(Problem(y, degradation, problem.prior).condition)
                if estimate is not None:
                    own.append(estimate)
                    problem.evaluations += 1
            searched += coarse_to_fine(y, degradation.parameters.shape[-1], search)
        if not own and not searched:
            raise RecipeError("kernel_search: this prior estimates no kernel: name a floor to search with")
        kernels = torch.cat([*own, *searched])
        costs = torch.stack([photo_cost(part[None], kernels[:, None], search)[:, 0] for part in parts])
        together = costs.sum(0)
        said = [_compared(together.tolist(), len(own))]
        alone = float(costs.amin(1).sum())
        if float(together.min()) > (1 + _DIFFERS) * alone:
            said.append(_differs(float(together.min()), alone))
        return kernels[together.argmin()], "; ".join(each for each in said if each)


def _refuse_too_few(y: Tensor, side: int) -> None:
    height, width = y.shape[-2:]
    if min(height, width) < side:
        raise ImageError(f"{width}x{height} pixels are too few to find a kernel of {side}x{side} in")


def _middle(y: Tensor, side: int) -> Tensor:
    """The middle of ``y (3, h, w)``, of that side at most."""
    top, left = (max(n - side, 0) // 2 for n in y.shape[-2:])
    return y[:, top : top + side, left : left + side]


def without_blur(degradation: Degradation) -> str | None:
    """Why an operator is none that blurs with a kernel at full resolution; None where it is one."""
    blurs = degradation.parameters.of_blur and degradation.scale == 1
    return None if blurs else "it is for operators that blur with a kernel at full resolution"


def _differs(same: float, several: float) -> str:
    """What a photo costs under one kernel and under several, in words."""
    worse = 100 * (same / several - 1)
    return f"the blur differs across the picture: one kernel for all explains it {worse:.{int(worse < 10)}f} % worse"


def _compared(costs: list[float], own: int) -> str:
    """What a photo costs under kernels, in words: the first so many are the prior's ``own``, the others come from
    searches."""
    if not own or len(costs) == own:
        return ""
    both = [(min(costs[:own]), "the prior's own kernel"), (min(costs[own:]), "a kernel from coarse to fine")]
    (best, winner), (other, loser) = sorted(both, key=lambda each: each[0])
    percent = round(100 * (other / best - 1)) if best > 0 else 0  # a flat photo costs nothing
    behind = f"{percent} % worse" if percent else "as well"
    return f"began with {winner}: {loser} explains the photo {behind}"


def telling_parts(y: Tensor, side: int) -> list[Tensor]:
    """Windows of ``y (3, h, w)``, of ``side`` at most, with most edges between pixels that are not clipped: the most
    telling one, and, of a photo large enough, the next one that does not overlap it, if it tells half as much."""
    height, width = (min(side, n) for n in y.shape[-2:])
    if (height, width) == tuple(y.shape[-2:]):
        return [y]
    seen = ((y > 0.01) & (y < 0.99)).all(0)
    grey = y.mean(0)
    edges = (grey.diff(dim=0)[:, :-1].abs() + grey.diff(dim=1)[:-1].abs()) * seen[:-1, :-1]
    # Sums over windows from running sums; every eighth place is enough.
    total = torch.nn.functional.pad(edges.cpu().double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    rows, cols = (torch.arange(0, n - part + 1, 8) for n, part in zip(y.shape[-2:], (height, width), strict=True))
    down, right = rows[:, None] + height - 1, cols + width - 1
    sums = total[down, right] - total[rows[:, None], right] - total[down, cols] + total[rows[:, None], cols]
    found: list[Tensor] = []
    least = _TELLING * float(sums.max())
    while len(found) < 2 and float(sums.max()) >= least:
        place = int(sums.argmax())
        top, left = int(rows[place // len(cols)]), int(cols[place % len(cols)])
        found.append(y[:, top : top + height, left : left + width])
        sums[((rows - top).abs() < height)[:, None] & ((cols - left).abs() < width)] = -1
    return found
