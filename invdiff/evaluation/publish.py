"""An evaluation's folder made readable, all from its records: tables, a page to look at, traces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..io.atomic import write_atomic
from ..io.pictures import save_png
from .page import page
from .results import Results
from .summary import Summary
from .tables import Table, means_of, uneven
from .trace import kernel_panels, plots, trace_csv

_PANELS = 12


@dataclass(frozen=True)
class Published:
    """What was written, for those who say it elsewhere."""

    tables: dict[str, Table]
    words: dict[str, str]
    """What the metrics in them say."""
    means: list[dict[str, Any]]
    """A record for each dataset, set of kernels and method: how many rows, and the mean of each metric."""


def publish(results: Results, what: Summary) -> Published:
    """Write what is made from the records."""
    rows, border = results.ordered(what.labels), results.luma_border
    what = replace(what, facts=[*what.facts, *uneven(rows)])
    results.write_csv(rows)
    write_atomic(results.folder / "summary.md", what.markdown(rows, border))
    drawn: dict[str, str] = {}
    traced = [row for row in rows if row.trace]
    for stale in results.folder.glob("trace.*"):
        stale.unlink(missing_ok=True)
    if traced:
        write_atomic(results.folder / "trace.csv", trace_csv(traced))
        drawn = plots(traced)
        for name, svg in drawn.items():
            write_atomic(results.folder / f"trace.{name}.svg", svg)
        panels = [p for p in (kernel_panels(results, row) for row in traced[:_PANELS]) if p is not None]
        if panels:
            save_png(_stacked(panels), results.folder / "trace.kernels.png")
    write_atomic(results.folder / "report.html", page(results, rows, what, drawn))
    return Published(what.tables(rows, border), what.words(rows, border), means_of(rows))


def _stacked(panels: list[np.ndarray]) -> np.ndarray:
    """Panels one below the other, white between them and beside narrower ones."""
    width = max(p.shape[1] for p in panels)
    padded = [np.pad(p, ((0, 6), (0, width - p.shape[1])), constant_values=255) for p in panels]
    return np.concatenate(padded)[:-6]
