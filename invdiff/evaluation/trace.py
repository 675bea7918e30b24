"""What happens from step to step (the paper's Figure 7): a table, a plot, and the kernels on the way."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape

import numpy as np

from ..io.sheets import kernel_picture, read_kernel
from ..metrics.catalogue import METRICS, title
from .results import KEYS, Results, Row

_COLOURS = ("#0b62a4", "#d1495b", "#2e8b57", "#8a5a9e", "#c77b0a", "#3a3a3a")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 460, 260, 60, 34, 14, 44


def trace_csv(rows: Sequence[Row]) -> str:
    """A line a row and step."""
    shown = [n for n in METRICS if any(n in step for r in rows for step in r.trace)]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*KEYS, "step", "t", *shown])
    for row in rows:
        for step in row.trace:
            writer.writerow(
                [*asdict(row.place).values(), step["step"], step["t"], *(step.get(name, "") for name in shown)]
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


def plot(found: dict[str, list[tuple[int, float]]], column: str) -> str:
    """Curves over steps as an SVG of its own, legible in black and white: each has its own marks."""
    values = [v for curve in found.values() for _, v in curve]
    last = max((s for curve in found.values() for s, _ in curve), default=1)
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.08 * (high - low) or 0.5
    low, high = low - margin, high + margin
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(step: float) -> float:
        return _LEFT + width * ((step - 1) / (last - 1) if last > 1 else 0.5)

    def y(value: float) -> float:
        return _TOP + height * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT + 18 * len(found)}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title(column))} over steps</title>',
        f'<text x="{_LEFT}" y="20" font-size="14" fill="currentColor">{escape(title(column))}</text>',
    ]
    for i in range(5):
        value = low + (high - low) * i / 4
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#8884"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end" fill="currentColor">{value:.4g}</text>'
        )
    ticks = sorted({round(1 + (last - 1) * i / 5) for i in range(6)})
    for step in ticks:
        place = f'x="{x(step):.1f}" y="{_HEIGHT - _BOTTOM + 18}"'
        parts.append(f'<text {place} text-anchor="middle" fill="currentColor">{step}</text>')
    middle = _LEFT + width / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle" fill="currentColor">step</text>')
    for i, (method, curve) in enumerate(found.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        dash = f' stroke-dasharray="{6 + 2 * i} {i + 1}"' if i else ""
        line = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in curve)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{x(s):.1f}" cy="{y(v):.1f}" r="2.5" fill="{colour}"/>' for s, v in curve]
        base = _HEIGHT + 18 * i + 8
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + 28}" y1="{base - 4}" y2="{base - 4}" stroke="{colour}" '
            f'stroke-width="2"{dash}/><text x="{_LEFT + 36}" y="{base}" fill="currentColor">{escape(method)}</text>'
        )
    return "".join([*parts, "</svg>\n"])


def plots(rows: Sequence[Row]) -> dict[str, str]:
    """The plots worth drawing, by metric: a picture's LPIPS or else PSNR, and the kernel's L1 and MNC."""
    traced = {n for r in rows for step in r.trace for n in step}
    wanted = (("lpips_vgg", "lpips_alex", "psnr_y"), ("kernel_l1_shifted", "kernel_l1"), ("kernel_mnc",))
    chosen = [next((n for n in one_of if n in traced), None) for one_of in wanted]
    return {name: plot(curves(rows, name), name) for name in chosen if name is not None}


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
