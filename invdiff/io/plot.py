"""Curves over steps, drawn as an SVG of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#0b62a4", "#d1495b", "#2e8b57", "#8a5a9e", "#c77b0a", "#3a3a3a")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 460, 260, 60, 34, 14, 44


def plot(curves: Mapping[str, Sequence[tuple[int, float]]], heading: str) -> str:
    """Curves over steps as an SVG of its own, legible in black and white: each has its own marks."""
    values = [v for curve in curves.values() for _, v in curve]
    last = max((s for curve in curves.values() for s, _ in curve), default=1)
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.08 * (high - low) or 0.5
    low, high = low - margin, high + margin
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(step: float) -> float:
        return _LEFT + width * ((step - 1) / (last - 1) if last > 1 else 0.5)

    def y(value: float) -> float:
        return _TOP + height * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT + 18 * len(curves)}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(heading)} over steps</title>',
        f'<text x="{_LEFT}" y="20" font-size="14" fill="currentColor">{escape(heading)}</text>',
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
    for i, (method, curve) in enumerate(curves.items()):
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
