"""Any bytes, as a recipe, a picture, a kernel or a change: a line, never a traceback, never a hang."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

pytest.importorskip("hypothesis")

from cases import GOOD, KERNELS, PICTURES
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invdiff.cli import main

anything = settings(
    max_examples=60,
    derandomize=True,  # the same examples everywhere
    database=None,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # a folder is filled anew each time
)


def spoilt(whole):
    """Files with some bytes changed, taken out or put in."""
    change = st.tuples(st.integers(0, max(len(whole) - 1, 0)), st.integers(0, 4), st.binary(max_size=4))

    def apply(changes):
        data = whole
        for place, cut, put in changes:
            data = data[:place] + put + data[place + cut :]
        return data

    return st.lists(change, min_size=1, max_size=4).map(apply)


def some_of(table):
    """Files of the table, spoilt further, and any bytes, each with a suffix."""
    suffixes = sorted({suffix for _, suffix, _ in table.values()})
    spoilt_ones = [st.tuples(spoilt(data), st.just(suffix)) for data, suffix, _ in table.values() if len(data) < 20_000]
    return st.one_of(st.tuples(st.binary(max_size=200), st.sampled_from(suffixes)), *spoilt_ones)


def ends_well(*arguments):
    """A command may succeed, refuse, or fail with a picture; it says so in a line."""
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code in (0, 1, 2), (done.stderr, done.exception)
    if done.exit_code == 2:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", done.stderr)


@anything
@given(data=st.one_of(st.binary(max_size=300), spoilt(GOOD.encode()), st.text(max_size=200).map(str.encode)))
def test_any_recipe(tmp_path, data):
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    ends_well("info", path, "--size", "16")


@anything
@given(
    change=st.one_of(st.text(max_size=60), st.from_regex(r"[a-z]{1,9}(\.[a-z0-9]{1,9}){0,3}=.{0,20}", fullmatch=True))
)
@example(change="sampler.steps=1e3")
@example(change="prior.network.channels=[1,2]")
def test_any_change(tmp_path, change):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    ends_well("info", path, "--size", "16", "--set", change)


@anything
@given(file=some_of(PICTURES))
def test_any_picture(tmp_path, recipe, file):
    data, suffix = file
    path = tmp_path / f"any{suffix}"
    path.write_bytes(data)
    ends_well("run", recipe(), path, "-o", tmp_path / "out", "--quiet", "--set", "sampler.steps=1")


@anything
@given(file=some_of(KERNELS))
def test_any_kernel(tmp_path, recipe, picture, file):
    data, suffix = file
    path = tmp_path / f"kernel{suffix}"
    path.write_bytes(data)
    photo = picture("a.png")
    ends_well("run", recipe(), photo, "-o", tmp_path / "out", "--kernel", path, "--quiet", "--set", "sampler.steps=1")
