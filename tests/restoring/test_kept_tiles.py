"""A large picture whose restoring is stopped goes on at the tile it was at, to the same bytes, and leaves nothing."""

from __future__ import annotations

import subprocess
import time

import pytest
import torch

import invdiff
from invdiff.restoring import kept_tiles, large
from invdiff.restoring import run as running
from invdiff.restoring.forecast import Forecast
from invdiff.restoring.jobs import Job
from invdiff.restoring.kept_tiles import tiles_kept
from invdiff.restoring.run import Run, RunOptions
from invdiff.tiling import TiledPrior

TILES = ["sampler.tile=64", "sampler.overlap=16"]


class Stopped(BaseException):
    """As a kill is: nothing catches it."""


@pytest.fixture
def all_large(monkeypatch):
    monkeypatch.setattr(large, "_LARGE", 1)
    monkeypatch.setattr(large, "forecast", lambda *given: Forecast(1, 1, 1.0))  # which asks the prior for long


def restored(recipe, picture, folder, changes=(), stop=None, force=False):
    """Restore a picture of 4 tiles in two steps; stopped at that tile, if any. How often the network was asked."""
    pipe = invdiff.load(recipe, overrides=[*TILES, *changes])
    (tiled,) = (module for module in pipe.prior.modules() if isinstance(module, TiledPrior))
    asked = 0

    def on_tile(module, given):
        nonlocal asked
        if asked == stop:
            raise Stopped
        asked += not torch.is_grad_enabled()  # gradients, for which tiles are computed again, are not kept

    work = Run(pipe, [Job("a", "a", picture)], folder, RunOptions(force=force))
    hook, inner = tiled.inner.register_forward_pre_hook(on_tile), tiled.inner
    said = []
    try:
        work.run(said.append)
    except Stopped:
        assert tiled.inner is inner
        return asked, said
    finally:
        hook.remove()
    assert not work.outcomes[0].failed
    return asked, said


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".png", ".npy")}


@pytest.mark.parametrize("changes", [[], ["guidance=[]"], ["degradation.padding=circular"]])
@pytest.mark.parametrize("stop", [1, 3, 6])
def test_no_tile_twice(recipe, picture, tmp_path, all_large, changes, stop):
    path, photo = recipe(), picture("a.png", 20, 24)
    asked, _ = restored(path, photo, tmp_path / "whole", changes)
    assert restored(path, photo, tmp_path / "out", changes, stop=stop)[0] == stop
    again, said = restored(path, photo, tmp_path / "out", changes)
    assert again == asked - stop
    assert sum("goes on where it was stopped" in event.notice for event in said) == 1
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert not [place for place in (tmp_path / "out").iterdir() if place.name.startswith(".")]


def test_tiles_of_other_settings_are_thrown_away(recipe, picture, tmp_path, all_large):
    path, photo, out = recipe(), picture("a.png", 20, 24), tmp_path / "out"
    asked, _ = restored(path, photo, out)
    restored(path, photo, out, stop=3, force=True)
    (left,) = out.glob(".tiles/*/*")
    again, said = restored(path, photo, out, ["seed=4"], stop=5)
    assert again == 5
    assert not left.exists()
    assert not any("goes on" in event.notice for event in said)
    assert restored(path, photo, out, ["seed=4"])[0] == asked - 5


def test_they_stay_until_the_result_is_written(recipe, picture, tmp_path, all_large, monkeypatch):
    """Writing fails, on a full disk say: the next run asks the network nothing."""

    def full(*given):
        raise OSError(28, "No space left on device")

    path, photo, out = recipe(), picture("a.png", 20, 24), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(running, "save", full)
        work = Run(invdiff.load(path, overrides=TILES), [Job("a", "a", photo)], out, RunOptions())
        work.run()
    assert work.outcomes[0].failed
    assert restored(path, photo, out)[0] == 0
    assert not (out / ".tiles").exists()


def test_what_is_done_keeps_none(recipe, picture, tmp_path, all_large):
    """Stopped while it is made anew, and then found done."""
    path, photo, out = recipe(), picture("a.png", 20, 24), tmp_path / "out"
    restored(path, photo, out)
    restored(path, photo, out, stop=3, force=True)
    assert (out / ".tiles").exists()
    assert restored(path, photo, out)[0] == 0
    assert not (out / ".tiles").exists()


def test_a_damaged_tile_is_computed_again(recipe, picture, tmp_path, all_large):
    path, photo, out = recipe(), picture("a.png", 20, 24), tmp_path / "out"
    asked, _ = restored(path, photo, tmp_path / "whole")
    restored(path, photo, out, stop=3)
    one, other, _ = sorted(out.glob(".tiles/*/*/*.safetensors"))
    one.write_bytes(one.read_bytes()[:-9])
    other.write_bytes(b"")
    assert restored(path, photo, out)[0] == asked - 1
    assert files(out) == files(tmp_path / "whole")


def test_small_pictures_keep_none(recipe, picture, tmp_path):
    restored(recipe(), picture("a.png", 20, 24), tmp_path / "out", stop=3)
    assert not (tmp_path / "out" / ".tiles").exists()


def test_a_full_disk_keeps_none(recipe, picture, tmp_path, all_large, monkeypatch):
    monkeypatch.setattr(kept_tiles, "_SPARE", 1e-12)
    restored(recipe(), picture("a.png", 20, 24), tmp_path / "out", stop=3)
    assert not (tmp_path / "out" / ".tiles").exists()


def test_a_tile_that_cannot_be_kept_is_no_reason_to_stop(recipe, picture, tmp_path, all_large, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    path, photo = recipe(), picture("a.png", 20, 24)
    restored(path, photo, tmp_path / "whole")
    monkeypatch.setattr(kept_tiles, "write_atomic", full)
    restored(path, photo, tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_prior_without_tiles(tmp_path):
    prior = invdiff.load_prior("blindsr_x4_s")
    with tiles_kept(prior, tmp_path, "a", "key", 1) as earlier:
        assert not earlier
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_photo_whose_run_is_killed(arguments, recipe, picture, tmp_path):
    """Of 2048x2048, by a kill that nothing can answer."""
    path, photo = recipe(), picture("a.png", 512, 512)
    command, environment = arguments("run", path, photo, "-o", tmp_path / "out")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    limit = time.monotonic() + 120
    while len(list((tmp_path / "out").glob(".tiles/*/*/*.safetensors"))) < 7 and time.monotonic() < limit:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    again = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert b"goes on where it was stopped" in again.stderr
    command, _ = arguments("run", path, photo, "-o", tmp_path / "whole")
    subprocess.run(command, env=environment, capture_output=True, check=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert not (tmp_path / "out" / ".tiles").exists()
