"""Curves: round numbers at the ticks, and as many digits as tell them apart."""

import re
from itertools import pairwise

import pytest

from invdiff.io.plot import plot


def numbers(svg, anchor):
    return re.findall(rf'text-anchor="{anchor}" fill="currentColor">(-?[\d.]+)<', svg)


@pytest.mark.parametrize(
    ("low", "high"), [(0.05394, 0.0612), (0.0, 1.0), (18.21, 31.77), (-3e-5, 2e-5), (0.9, 1.1), (1234.5, 98765.4)]
)
def test_ticks_are_round(low, high):
    ticks = numbers(plot({"a": [(1, low), (2, high)]}, "h"), "end")
    assert 3 <= len(ticks) <= 8
    assert len(set(ticks)) == len(ticks)
    steps = {round((float(b) - float(a)) / (high - low), 6) for a, b in pairwise(ticks)}
    assert len(steps) == 1  # evenly
    for text in ticks:
        assert len(text.strip("-0.").replace(".", "").rstrip("0")) <= 4, text
    first = float(ticks[1]) - float(ticks[0])
    assert f"{first:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("last", "named"), [(1, [1]), (5, [1, 2, 3, 4, 5]), (13, [1, 5, 10, 13]), (501, [1, 200, 400, 501])]
)
def test_steps_are_round(last, named):
    svg = plot({"a": [(1, 0.0), (last, 1.0)]}, "h")
    assert [int(n) for n in numbers(svg, "middle")] == named


def test_one_value_and_none():
    assert numbers(plot({"a": [(1, 0.5)]}, "h"), "end")
    assert numbers(plot({}, "h"), "end")


def test_what_is_counted_is_said():
    assert ">step</text>" in plot({"a": [(1, 0.5)]}, "h")
    svg = plot({"a": [(1, 0.5)]}, "h", "evaluation")
    assert ">evaluation</text>" in svg
    assert "h over evaluations</title>" in svg
