"""What a large picture will take is said before its first step, and what to do where it does not fit."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
from PIL import Image

import invdiff
from invdiff.assembly import recipe_cost
from invdiff.restoring import forecast as forecasts
from invdiff.restoring import large
from invdiff.restoring.forecast import Forecast, forecast, free_memory

GIB = 2**30


def test_a_large_one_is_announced(recipe, cli, picture, tmp_path, monkeypatch):
    """Once, before anything is restored; a small one is not, nor one that is done."""
    monkeypatch.setattr(large, "_LARGE", 64 * 64)
    path, out = recipe(), tmp_path / "out"
    big, small = picture("large.png", 16, 16), picture("small.png", 15, 16)
    result = cli("run", path, big, small, "-o", out)
    assert result.code == 0
    (line,) = [line for line in result.err.splitlines() if "GiB" in line]
    assert line.startswith(f"{big}: 64x64 pixels, about ")
    assert " here, about 0." in line
    assert "GiB" not in cli("run", path, big, "-o", out).err
    assert "GiB" not in cli("run", path, big, "-o", out, "--force", "--quiet").err


def test_what_does_not_fit_gets_advice(recipe, cli, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(large, "_LARGE", 1)
    monkeypatch.setattr(large, "free_memory", lambda: 1000)
    result = cli("run", recipe(), picture("a.png"), "-o", tmp_path / "out")
    assert result.code == 0
    assert "; 0.0 GiB are free: it may not fit; --halve restores a copy of half the size\n" in result.err


@pytest.mark.parametrize(("free", "said"), [(None, False), (3 * GIB, False), (GIB, True)])
def test_advice(free, said):
    assert bool(Forecast(1, 2 * GIB, 3.0).advice(free)) == said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.001, "1 s"),
        (42.4, "42 s"),
        (95, "2 minutes"),
        (1800, "30 minutes"),
        (4000, "67 minutes"),
        (9000, "2.5 hours"),
    ],
)
def test_times_as_people_say_them(seconds, words):
    assert str(Forecast(1, GIB, seconds)) == f"about {words} here, about 1.00 GiB of memory"


def test_it_is_counted_and_timed(recipe):
    """Twice the draws take twice as long; four times the pixels at least three times; the network's work is info's."""
    pipe = invdiff.load(recipe())
    one, two, large = forecast(pipe, 16, 16), forecast(pipe, 16, 16, 2), forecast(pipe, 32, 32)
    assert two.seconds == pytest.approx(2 * one.seconds)
    assert two.peak_bytes >= one.peak_bytes
    assert large.seconds > 3 * one.seconds > 0
    assert one.multiply_adds == recipe_cost(recipe(), 64).image


def test_the_plan_has_it_too(recipe, cli, picture, tmp_path):
    command = ["run", recipe(), picture("a.png"), "-o", tmp_path / "out", "--dry-run"]
    assert " s here, about 0." in cli(*command).out
    (image,) = json.loads(cli(*command, "--json").out)["images"]
    assert image["seconds"] > 0
    assert image["takes"].startswith("about ")


def test_free_memory(tmp_path, monkeypatch):
    """What the kernel says, or less where a container may have less; nothing where nobody says anything."""
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(forecasts, "_MACHINE", meminfo)
    monkeypatch.setattr(forecasts, "_CGROUP", tmp_path)
    assert free_memory() is None
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   50 kB\n")
    assert free_memory() == 50 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("10\n")
    assert free_memory() == 50 * 1024
    (tmp_path / "memory.max").write_text("30010\n")
    assert free_memory() == 30000
    (tmp_path / "memory.current").write_text("40000\n")
    assert free_memory() == 0
    meminfo.write_text("nonsense")
    assert free_memory() == 0


def test_it_keeps_nobody_alive(recipe):
    pipes = [invdiff.load(recipe()) for _ in range(2)]
    alive = weakref.WeakSet(pipes)
    for pipe in pipes:
        forecast(pipe, 16, 16)
    del pipe
    pipes.clear()
    gc.collect()
    assert not alive


@pytest.mark.slow
@pytest.mark.parametrize("change", [[], ["guidance=[]"]], ids=["with a gradient", "without"])
def test_memory_is_what_is_said(recipe, tmp_path, change):
    """The most that a process has at a time of a result of 12 megapixels, beyond that of a small one."""
    taken = []
    for height, width in ((64, 64), (750, 1000)):
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        command = [sys.executable, "-m", "invdiff", "run", recipe(), tmp_path / "a.png", "-o", tmp_path / "out"]
        command += [part for one in change for part in ("--set", one)]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE)
        process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0
        taken.append(1024 * used.ru_maxrss)
    said = forecast(invdiff.load(recipe(), overrides=change), 750, 1000).peak_bytes
    assert 0.6 * said < taken[1] - taken[0] < 1.2 * said
