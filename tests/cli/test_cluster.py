"""A folder on a cluster's processes: the same bytes, and a process that dies loses nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

pytest.importorskip("distributed", reason="wants Dask: pip install 'invdiff[dask]'")

import dask
from distributed import LocalCluster

COUNT = 6


@pytest.fixture
def folder(picture, tmp_path):
    for index in range(COUNT):
        picture(f"{index}.png", 16 + index, 20)
    return tmp_path / "in"


def a_cluster(failures=3):
    config = {"distributed.scheduler.allowed-failures": failures, "distributed.worker.daemon": False}
    with dask.config.set(config):
        return LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)


def without_seconds(entries):
    return {stem: {k: v for k, v in entry.items() if k != "seconds"} for stem, entry in entries.items()}


def test_the_same_as_here(recipe, cli, folder, tmp_path, report):
    """Files and report, of a photo that fails too; a second call has nothing left to do."""
    (folder / "broken.png").write_text("none")
    path = recipe()
    here, there = tmp_path / "here", tmp_path / "there"
    with a_cluster() as cluster:
        command = ["run", path, folder, "-o", there, "--engine", "dask", "--scheduler", cluster.scheduler_address]
        spread = cli(*command)
        again = cli(*command)
    alone = cli("run", path, folder, "-o", here)
    assert spread.code == alone.code == 1, spread.err
    assert f"{COUNT} restored, 1 failed" in spread.out
    assert f"{COUNT} already done, 1 failed" in again.out
    assert without_seconds(report(there)) == without_seconds(report(here))
    for file in here.glob("*.png"):
        assert file.read_bytes() == (there / file.name).read_bytes()


def killing(cluster, folder):
    """Kills one of two workers as soon as there is a first result, and says whether it did."""
    victim, killed = next(iter(cluster.workers.values())).pid, threading.Event()

    def wait():
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if list(folder.glob("?.png")):
                os.kill(victim, signal.SIGKILL)
                killed.set()
                return
            time.sleep(0.01)

    threading.Thread(target=wait, daemon=True).start()
    return killed


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_worker_that_dies_costs_another_try(recipe, cli, folder, tmp_path, report):
    out = tmp_path / "out"
    with a_cluster() as cluster:
        killed = killing(cluster, out)
        command = ["run", recipe(), folder, "-o", out, "--set", "sampler.steps=30"]
        result = cli(*command, "--engine", "dask", "--scheduler", cluster.scheduler_address)
    assert killed.is_set()
    assert result.code == 0, result.err
    assert f"{COUNT} restored" in result.out
    assert sorted(report(out)) == [str(index) for index in range(COUNT)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_picture_over_which_too_many_die_fails(recipe, cli, folder, tmp_path, report):
    """It, and what waited behind it in that process; the others come out."""
    out = tmp_path / "out"
    with a_cluster(failures=0) as cluster:
        killed = killing(cluster, out)
        command = ["run", recipe(), folder, "-o", out, "--set", "sampler.steps=30"]
        result = cli(*command, "--engine", "dask", "--scheduler", cluster.scheduler_address)
    assert killed.is_set()
    entries = report(out)
    lost = [entry for entry in entries.values() if "error" in entry]
    assert len(entries) == COUNT
    assert 1 <= len(lost) < COUNT
    assert all(entry["error"].startswith("its worker died: ") for entry in lost)
    assert result.code == 1


def test_what_cannot_be(recipe, refused, folder, tmp_path):
    command = ["run", recipe(), folder, "-o", tmp_path / "out"]
    assert refused(*command, "--scheduler", "tcp://localhost:1") == "--scheduler goes with --engine dask"
    line = refused(*command, "--engine", "dask", "--scheduler", "nonsense://x")
    assert line.startswith("--scheduler nonsense://x: ")


def test_without_dask_a_line_says_what_to_install(recipe, refused, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = refused("run", recipe(), folder, "-o", tmp_path / "out", "--engine", "dask")
    assert line == "--engine dask: wants Dask: pip install 'invdiff[dask]'"
