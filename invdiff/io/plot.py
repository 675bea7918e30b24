"""Curves over steps, drawn as an SVG of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#0b62a4", "#d1495b", "#2e8b57", "#8a5a9e", "#c77b0a", "#3a3a3a")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 460, 260, 60, 34, 14, 44


def plot(curves: Mapping[str, Sequence[tuple[int, float]]], heading: str, along: str = "step") -> str:
    """Curves over steps, or what else is counted ``along`` them, as an SVG of its own, legible in black and white: each
    has its own marks."""
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
        f'font-family="sans-serif" font-size="12"><title>{escape(heading)} over {along}s</title>',
        f'<text x="{_LEFT}" y="20" font-size="14" fill="currentColor">{escape(heading)}</text>',
    ]
    for value, text in _ticks(low, high):
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#8884"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end" fill="currentColor">{text}</text>'
        )
    for step in _steps_to_name(last):
        place = f'x="{x(step):.1f}" y="{_HEIGHT - _BOTTOM + 18}"'
        parts.append(f'<text {place} text-anchor="middle" fill="currentColor">{step}</text>')
    middle = _LEFT + width / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle" fill="currentColor">{along}</text>')
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


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round values between two, three to six of them, each as it is written: as many digits as tell them apart."""
    step = _round_step((high - low) / 5)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(n * step, f"{n * step:.{digits}f}") for n in range(first, last + 1)]


def _steps_to_name(last: int) -> list[int]:
    """The first step, the last, and round ones between them, none so near to an end that their numbers touch."""
    every = max(1, round(_round_step(last / 5)))
    between = [step for step in range(every, last, every) if step > 1 and last - step >= every / 2]
    return sorted({1, *between, last})
