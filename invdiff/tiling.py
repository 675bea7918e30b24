"""Any prior on images of any size: overlapping tiles, blended, in the memory of one."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .prior import Output, PriorNet

Tile = tuple[Tensor, Tensor | None, Tensor | None]
"""What a prior says of one tile: prediction, parameters, and the fraction of the variance."""


class TiledPrior(PriorNet):
    """A prior that sees large images tile by tile; small ones pass through untouched.

    Predictions are blended linearly across the overlap; parameters are the tiles' mean, since one
    operator made the whole picture. Noise and guidance stay those of the whole image, so there are
    no seams between independently drawn tiles. Where gradients are tracked, each tile is computed
    again on the way back and only its inputs are kept.
    """

    def __init__(self, prior: PriorNet, tile: int, overlap: int) -> None:
        super().__init__()
        self.inner = prior
        self.settings, self.spec = prior.settings, prior.spec
        # Tiles stand on the grid of the prior's multiple: to overlap, they need two of its blocks.
        blocks = max(2 if overlap else 1, tile // self.spec.multiple)
        self.tile = blocks * self.spec.multiple
        self.overlap = min(overlap, self.tile // 2)

    def estimate(self, condition: Tensor) -> Tensor | None:
        whole = max(condition.shape[-2:]) <= self.tile
        return self.inner.estimate(condition) if whole else super().estimate(condition)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor, told: Tensor | None = None) -> Output:
        more = () if told is None else (told,)
        sides = x_t.shape[-2:]
        (rows, height), (cols, width) = (equal_tiles(n, self.tile, self.overlap, self.spec.multiple) for n in sides)
        if len(rows) * len(cols) == 1:
            return self.inner(x_t, t, condition, *more)
        total: list[Tensor | None] = [None, None]
        weights = x_t.new_zeros(x_t.shape[-2:])
        parameters: list[Tensor] = []
        for top in rows:
            for left in cols:
                window = (..., slice(top, top + height), slice(left, left + width))
                raw, theta, fraction = self._one(x_t[window], t, condition[window], *more)
                ramp = blend_window(raw.shape[-2], raw.shape[-1], self.overlap).to(raw)
                weights[window] += ramp
                for i, part in enumerate((raw, fraction)):
                    if part is not None:
                        so_far = total[i]
                        whole = part.new_zeros(*part.shape[:-2], *x_t.shape[-2:]) if so_far is None else so_far
                        placed = torch.zeros_like(whole)
                        placed[window] = part * ramp
                        total[i] = whole + placed
                if theta is not None:
                    parameters.append(theta)
        raw_sum, fraction_sum = total
        assert raw_sum is not None  # there is at least one tile
        return Output(
            raw_sum / weights,
            torch.stack(parameters).mean(0) if parameters else None,
            None if fraction_sum is None else fraction_sum / weights,
        )

    def _one(self, x_t: Tensor, *others: Tensor) -> Tile:
        def run(x: Tensor) -> Tile:
            out = self.inner(x, *others)
            return out.raw, out.parameters, out.variance_fraction

        return checkpoint(run, x_t, use_reentrant=False) if torch.is_grad_enabled() else run(x_t)


def equal_tiles(size: int, tile: int, overlap: int, multiple: int) -> tuple[list[int], int]:
    """Where tiles begin along one axis, and their side: as few as can be of at most ``tile``, and no larger than that.

    They cover the axis, overlap by at least ``overlap``, and stand on the grid of ``multiple``, as their side does.
    """
    if size <= tile:
        return [0], size
    count = max(2, -(-(size - overlap) // (tile - overlap)))
    while True:
        least = -(-(size + (count - 1) * overlap) // count)
        for side in range(-(-least // multiple) * multiple, tile + 1, multiple):
            starts = [i * (size - side) // (count - 1) // multiple * multiple for i in range(count)]
            if all(b - a <= side - overlap for a, b in pairwise(starts)):
                return starts, side
        count += 1  # the grid leaves too little overlap


def blend_window(height: int, width: int, overlap: int) -> Tensor:
    """Weights of one tile's pixels: rising linearly over ``overlap`` from each side, never zero."""

    def ramp(n: int) -> Tensor:
        place = torch.arange(n, dtype=torch.float32) + 1
        return torch.minimum(place, place.flip(0)).clamp_max(max(overlap, 1)) / max(overlap, 1)

    return ramp(height)[:, None] * ramp(width)[None]
