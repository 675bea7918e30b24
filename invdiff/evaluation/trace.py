"""What happens from step to step (the paper's Figure 7): a table, a plot, and the kernels on the way."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from ..io.plot import plot
from ..io.sheets import kernel_picture, read_kernel
from ..metrics.catalogue import METRICS, title
from .results import KEYS, Results, Row, as_text


def trace_csv(rows: Sequence[Row]) -> str:
    """A line a row and step."""
    shown = [n for n in METRICS if any(n in step for r in rows for step in r.trace)]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*KEYS, "step", "t", *shown])
    for row in rows:
        for step in row.trace:
            writer.writerow(
                [
                    *map(as_text, asdict(row.place).values()),
                    step["step"],
                    step["t"],
                    *(step.get(name, "") for name in shown),
                ]
            )
    return table.getvalue()


def curves(rows: Sequence[Row], column: str) -> dict[str, list[tuple[int, float]]]:
    """By method, the mean of a column at each step."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        for step in row.trace:
            if column in step and math.isfinite(float(step[column])):
                found.setdefault(row.place.method, {}).setdefault(int(step["step"]), []).append(float(step[column]))
    return {m: [(s, sum(v) / len(v)) for s, v in sorted(steps.items())] for m, steps in found.items()}


def plots(rows: Sequence[Row]) -> dict[str, str]:
    """The plots worth drawing, by metric: a picture's LPIPS or else PSNR, and the kernel's L1 and MNC."""
    traced = {n for r in rows for step in r.trace for n in step}
    wanted = (("lpips_vgg", "lpips_alex", "psnr_y"), ("kernel_l1_shifted", "kernel_l1"), ("kernel_mnc",))
    chosen = [next((n for n in one_of if n in traced), None) for one_of in wanted]
    return {name: plot(curves(rows, name), title(name)) for name in chosen if name is not None}


def kernel_panels(results: Results, row: Row, side: int = 126) -> np.ndarray | None:
    """True kernel, the first step's and the last one's, side by side in grey; None where they are not on disk.

    One scale for all three: white is the largest value of any.
    """
    if not row.trace:
        return None
    paths = (
        results.path(row.place, ".npy", "_kernels"),
        results.path(row.place, ".first.npy"),
        results.path(row.place, ".kernel.npy"),
    )
    kernels = [read_kernel(path) for path in paths]
    if any(k is None for k in kernels):
        return None
    brightest = max(float(k.max()) for k in kernels if k is not None)
    panels: list[np.ndarray] = []
    for kernel in kernels:
        assert kernel is not None
        shown = kernel_picture(kernel, side, brightest)
        panels += [shown, np.full((shown.shape[0], 6), 255, np.uint8)]
    return np.concatenate(panels[:-1], axis=1)
