"""What restoring a picture will take: multiply-adds and memory from shapes, seconds from a small trial."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from ..metrics.cost import Cost, cost
from ..pipeline import Pipeline

_TRIAL = 128  # pixels: a side whose network takes a fraction of a second
_CGROUP, _MACHINE = Path("/sys/fs/cgroup"), Path("/proc/meminfo")
_GIB = 2**30
_PICTURES, _OF_DRAWS, _OF_GRADIENTS = 8, 3, 11
"""Pictures of floats, of the result's size, that are there at a time at most: while the loop ends and the result is
degraded again; and those more that a mean of several draws, or orientations, takes, and a gradient through the
operator, which keeps its transforms. Measured."""
_KEPT = 2**29  # bytes at most of freed blocks that are smaller than whole pictures (see cli.memory)
# By pipeline, which nothing is kept of when it goes.
_counted: WeakKeyDictionary[Pipeline, dict[int, Cost]] = WeakKeyDictionary()
_tried: WeakKeyDictionary[Pipeline, float] = WeakKeyDictionary()


@dataclass(frozen=True)
class Forecast:
    """Of all draws of one picture. ``peak_bytes`` is what the network takes, or the pictures around it where that is
    more; not the process itself, which is there by then."""

    multiply_adds: int
    peak_bytes: int
    seconds: float

    def __str__(self) -> str:
        return f"about {_spoken(self.seconds)} here, about {self.peak_bytes / _GIB:.2f} GiB of memory"

    def advice(self, free: int | None) -> str:
        """What to do where that is more than there is; nothing where it is not, or nobody knows."""
        if free is None or self.peak_bytes <= free:
            return ""
        return f"{free / _GIB:.1f} GiB are free: it may not fit; --halve restores a copy of half the size"


def forecast(pipeline: Pipeline, height: int, width: int, draws: int = 1) -> Forecast:
    """Of a photo of so many pixels: counted for a square with as many, in the time that this machine takes now."""
    scale = pipeline.degradation.scale
    found = _cost(pipeline, math.isqrt(scale * height * scale * width))
    work = draws * found.image
    pictures = _PICTURES + (_OF_DRAWS if draws > 1 or pipeline.sampler.orientations > 1 else 0)
    pictures += _OF_GRADIENTS if any(guide.needs_gradient for guide in pipeline.guidance) else 0
    each = 3 * 4 * scale * height * scale * width
    peak = max(found.peak_bytes, pictures * each + min(4 * each, _KEPT))
    return Forecast(work, peak, work / _adds_a_second(pipeline))


def _cost(pipeline: Pipeline, side: int) -> Cost:
    known = _counted.setdefault(pipeline, {})
    if side not in known:
        known[side] = cost(
            pipeline.prior, pipeline.guidance, pipeline.sampler.steps_in_all, side, pipeline.sampler.orientations
        )
    return known[side]


def _adds_a_second(pipeline: Pipeline) -> float:
    """Multiply-adds of the network here."""
    if pipeline not in _tried:
        _tried[pipeline] = _trial(pipeline)
    return _tried[pipeline]


def _trial(pipeline: Pipeline) -> float:
    """The same, in a trial after one that is not timed."""
    counted, prior = cost(pipeline.prior, (), 1, _TRIAL), pipeline.prior
    x = torch.zeros(1, 3, counted.size, counted.size, device=pipeline.device)
    t = torch.zeros(1, dtype=torch.long, device=pipeline.device)
    seconds = 0.0
    with torch.no_grad():
        for _ in range(2):
            begun = time.perf_counter()
            prior.predict(x, t, x).x0.cpu()  # which waits for a GPU
            seconds = time.perf_counter() - begun
    return max(counted.forward, 1) / max(seconds, 1e-9)


def free_memory() -> int | None:
    """Bytes that this machine has to give, and its container; None where nobody says."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in _MACHINE.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with suppress(OSError, ValueError):  # "max" is no number: no limit
        limit, used = ((_CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        found.append(int(limit) - int(used))
    return max(min(found), 0) if found else None


def _spoken(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"
