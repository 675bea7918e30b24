"""Any prior on images of any size: overlapping tiles, blended, in the memory of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor

from .prior import Output, PriorNet

Window = tuple[EllipsisType, slice, slice]
"""Where a tile lies."""
Said = tuple[Tensor, Tensor | None, Tensor | None]
"""What a prior says: prediction, parameters, and the fraction of the variance."""


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
        others = (t, condition) if told is None else (t, condition, told)
        windows = self._windows(x_t.shape[-2:])
        if len(windows) == 1:
            return self.inner(x_t, *others)
        learned = [weight for weight in self.inner.parameters() if weight.requires_grad]
        return Output(*_Tiled.apply(x_t, self.inner, windows, self.overlap, others, *learned))

    def _windows(self, sides: Sequence[int]) -> list[Window]:
        """Where the tiles of a picture of these sides lie, row by row."""
        (rows, height), (cols, width) = (equal_tiles(n, self.tile, self.overlap, self.spec.multiple) for n in sides)
        return [(..., slice(top, top + height), slice(left, left + width)) for top in rows for left in cols]


class _Tiled(torch.autograd.Function):
    """A prior on all windows of a picture as one operation: the image, the parameters, the fraction of the variance.

    On the way forward no graph is made, on the way back one tile's at a time. Checkpoints of single tiles would leave
    their nodes scattered over the heap, so that nothing large fits between them any more: twice the memory of what
    is in use at twenty-five tiles.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_t: Tensor,
        prior: PriorNet,
        windows: list[Window],
        overlap: int,
        others: tuple[Tensor, ...],
        *learned: Tensor,
    ) -> Said:
        ctx.save_for_backward(x_t, *learned)
        ctx.set_materialize_grads(False)
        ctx.prior, ctx.windows, ctx.others = prior, windows, others
        x_t = x_t.detach()
        rows, cols = windows[0][1:]
        ctx.ramp = blend_window(rows.stop, cols.stop, overlap).to(x_t)
        ctx.weights = x_t.new_zeros(x_t.shape[-2:])
        for window in windows:
            ctx.weights[window] += ctx.ramp
        pictures: list[Tensor | None] = [None, None]
        parameters = []
        for window in windows:
            raw, theta, fraction = _ask(prior, x_t[window], window, others)
            for i, part in enumerate((raw, fraction)):
                if part is not None:
                    before = pictures[i]
                    whole = part.new_zeros(*part.shape[:-2], *x_t.shape[-2:]) if before is None else before
                    whole[window] += part * ctx.ramp
                    pictures[i] = whole
            if theta is not None:
                parameters.append(theta)
        blended, fractions = (None if whole is None else whole / ctx.weights for whole in pictures)
        assert blended is not None  # there is at least one tile
        return blended, torch.stack(parameters).mean(0) if parameters else None, fractions

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Any, ...]:
        x_t, *learned = ctx.saved_tensors
        raw, parameters, fraction = slopes
        raw, fraction = (None if slope is None else slope / ctx.weights for slope in (raw, fraction))
        parameters = None if parameters is None else parameters / len(ctx.windows)
        found = [torch.zeros_like(one) for one in (x_t, *learned)]
        for window in ctx.windows:
            with torch.enable_grad():
                x = x_t[window].detach().requires_grad_().view_as(x_t[window])  # torch's counters refuse leaves
                tile = _ask(ctx.prior, x, window, ctx.others)
            own, share = (None if slope is None else slope[window] * ctx.ramp for slope in (raw, fraction))
            pulls = zip(tile, (own, parameters, share), strict=True)
            pairs = [(end, pull) for end, pull in pulls if end is not None and end.requires_grad and pull is not None]
            if not pairs:
                continue
            ends, pulled = zip(*pairs, strict=True)
            parts = torch.autograd.grad(ends, [x, *learned], pulled, allow_unused=True)
            for total, slope in zip(found, parts, strict=True):
                if slope is not None:
                    (total[window] if total is found[0] else total).add_(slope)
        return found[0], None, None, None, None, *found[1:]


def _ask(prior: PriorNet, x: Tensor, window: Window, others: tuple[Tensor, ...]) -> Said:
    """A prior about one tile ``x``; the first picture of ``others`` after the time is the whole condition."""
    t, condition, *more = others
    out = prior(x, t, condition[window], *more)
    return out.raw, out.parameters, out.variance_fraction


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


def tiles_of(prior: PriorNet) -> TiledPrior | None:
    """What cuts a prior's pictures into tiles, however deep within it; None where nothing does."""
    return next((module for module in prior.modules() if isinstance(module, TiledPrior)), None)


@contextmanager
def tiles_told(prior: PriorNet, tell: Callable[[int, int], None]) -> Iterator[None]:
    """Tell of each tile of a large picture, before it is computed, which one it is, from 0, and of how many."""
    found = tiles_of(prior)
    if found is None:
        yield
        return
    begun, count = 0, 1

    def on_whole(module: Any, given: tuple[Tensor, ...]) -> None:
        nonlocal begun, count
        begun, count = 0, len(found._windows(given[0].shape[-2:]))

    def on_tile(module: Any, given: tuple[Tensor, ...]) -> None:
        nonlocal begun
        if count > 1:
            tell(min(begun, count - 1), count)  # where gradients are taken, tiles are computed again
        begun += 1

    hooks = [found.register_forward_pre_hook(on_whole), found.inner.register_forward_pre_hook(on_tile)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def tiled(prior: PriorNet, tile: int | None, overlap: int) -> PriorNet:
    """The prior as the loop asks it: in tiles of that side, if there is one."""
    return TiledPrior(prior, tile, overlap) if tile else prior


def channels_last(prior: PriorNet) -> PriorNet:
    """The prior with its weights laid out for images with channels last: convolutions are a seventh faster so."""
    if any(p.ndim == 5 for p in prior.parameters()):  # of volumes, which have a layout of their own
        return prior
    laid_out: PriorNet = prior.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out
