"""A picture that one waits for: what it takes is said before its first step, and its tiles are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..pipeline import Pipeline
from ..tiling import tiles_told
from .forecast import forecast, free_memory
from .kept_tiles import tiles_kept
from .progress import JobProgress

_LARGE = 4_000_000
"""Pixels of a result that one waits for."""
_BYTES = 16
"""Of a pixel that passes through the prior: three numbers of four bytes, and a third more for where tiles overlap."""


@contextmanager
def watched(
    pipeline: Pipeline,
    photo: tuple[int, int],
    draws: int,
    place: tuple[Path, str, str] | None,
    progress: JobProgress | None,
) -> Iterator[None]:
    """Within it, ``progress`` hears of a picture's tiles; those of a large one are kept, in case of a kill.

    ``photo`` is the height and width of what is restored ``draws`` times. ``place`` is the folder of its results, its
    stem and its key there; without any, no tiles are kept.
    """
    scale = pipeline.degradation.scale
    height, width = (scale * side for side in photo)
    with ExitStack() as stack:
        if height * width >= _LARGE:
            # Before anything is kept: it asks the prior, too, of pictures that are none.
            takes = None if progress is None else forecast(pipeline, *photo, draws)
            goes_on = False
            if place is not None:
                size = _BYTES * height * width * draws * pipeline.evaluations
                goes_on = stack.enter_context(tiles_kept(pipeline.prior, *place, size))
            if progress is not None and takes is not None:
                more = [takes.advice(free_memory()), "goes on where it was stopped" if goes_on else ""]
                progress.notice("; ".join([f"{width}x{height} pixels, {takes}", *filter(None, more)]))
        if progress is not None:
            stack.enter_context(tiles_told(pipeline.prior, progress.tile))
        yield
