"""Two sets of numbers of the same things, set against each other pair by pair."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from .catalogue import METRICS, RESIDUAL, Metric

K = TypeVar("K", bound=Hashable)
Numbers = Mapping[K, Mapping[str, float]]
"""By what was measured (a picture, a picture under a kernel), the metrics by name."""


@dataclass(frozen=True)
class Compared:
    """One metric over the things that both have it of.

    ``difference`` is the mean of B less A, ``error`` its standard error (None for a single pair); ``better`` counts the
    things where B is the better one, None where neither way is better.
    """

    metric: Metric
    pairs: int
    a: float
    b: float
    difference: float
    error: float | None
    better: int | None


def compare(a: Numbers[K], b: Numbers[K]) -> list[Compared]:
    """Each metric that both have of some thing, in the order of tables. What is not finite is left out."""
    found = []
    for metric in (*METRICS.values(), RESIDUAL):
        pairs = [(a[key][metric.name], b[key][metric.name]) for key in a if key in b and _both(metric, a[key], b[key])]
        if not pairs:
            continue
        n = len(pairs)
        steps = [y - x for x, y in pairs]
        mean = sum(steps) / n
        spread = math.sqrt(sum((step - mean) ** 2 for step in steps) / (n - 1) / n) if n > 1 else None
        wins = {"higher": sum(step > 0 for step in steps), "lower": sum(step < 0 for step in steps), "neither": None}
        ours, theirs = (sum(side) / n for side in zip(*pairs, strict=True))
        found.append(Compared(metric, n, ours, theirs, mean, spread, wins[metric.better]))
    return found


def _both(metric: Metric, a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    values = (a.get(metric.name), b.get(metric.name))
    return all(value is not None and math.isfinite(value) for value in values)
