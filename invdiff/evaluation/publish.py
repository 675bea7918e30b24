"""An evaluation's folder made readable, all from its records: tables, a page to look at, traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..io.atomic import write_atomic
from ..io.pictures import save_png
from ..metrics.catalogue import conventions
from .page import page
from .results import Results, columns
from .tables import full_table, groups_of, paper_table, summary, uneven
from .trace import kernel_panels, plots, trace_csv

_PANELS = 12


def publish(
    results: Results,
    labels: Sequence[str],
    *,
    name: str,
    facts: Sequence[str],
    failures: Sequence[str] = (),
    fid: Mapping[tuple[str, str, str], float] | None = None,
    first: str = "",
    pictures: int = 8,
) -> None:
    """Write what is made from the records. ``labels`` are the methods in their order, ``facts`` go under the title."""
    rows, names, fid = results.ordered(labels), columns(results.border), fid or {}
    facts = [*facts, *uneven(rows, names)]
    results.write_csv(rows)
    write_atomic(results.folder / "summary.md", summary(name, rows, names, facts, fid, failures))
    drawn: dict[str, str] = {}
    traced = [row for row in rows if row.trace]
    for stale in results.folder.glob("trace.*"):
        stale.unlink(missing_ok=True)
    if traced:
        write_atomic(results.folder / "trace.csv", trace_csv(traced, names))
        drawn = plots(traced, names)
        for column, svg in drawn.items():
            write_atomic(results.folder / f"trace.{column}.svg", svg)
        panels = [p for p in (kernel_panels(results, row) for row in traced[:_PANELS]) if p is not None]
        if panels:
            save_png(_stacked(panels), results.folder / "trace.kernels.png")
    tables = [("", paper_table(rows, names, fid))]
    tables += [
        (f"{dataset}, kernels {kernels}", full_table(rows, names, (dataset, kernels)))
        for dataset, kernels in groups_of(rows)
    ]
    notes = [*facts, *(f"Left out: {failure}" for failure in failures)]
    write_atomic(
        results.folder / "report.html",
        page(name, results, rows, names, tables, notes, conventions(names), drawn, first, pictures),
    )


def _stacked(panels: list[np.ndarray]) -> np.ndarray:
    """Panels one below the other, white between them and beside narrower ones."""
    width = max(p.shape[1] for p in panels)
    padded = [np.pad(p, ((0, 6), (0, width - p.shape[1])), constant_values=255) for p in panels]
    return np.concatenate(padded)[:-6]
