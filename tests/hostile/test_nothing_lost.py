"""Nothing wrong is written in silence, and nothing that is there is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.torch
import torch

import invdiff
from invdiff.errors import ImageError, InvdiffError, WeightsError
from invdiff.io.atomic import alone_in, write_atomic


def altered(weights, path, change):
    with safetensors.safe_open(weights, framework="pt") as file:
        header = file.metadata()
    tensors = safetensors.torch.load_file(weights)
    change(tensors)
    safetensors.torch.save_file(tensors, path, header)
    return path


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(refused, recipe, weights, training, photos, tmp_path, value):
    def spoil(tensors):
        tensors["network.stem.weight"].view(-1)[3] = value

    path = altered(weights, tmp_path / "w.safetensors", spoil)
    assert "'network.stem.weight' holds numbers that are not finite" in refused(
        "run", recipe(weights=path, name="w.yaml")
    )
    with pytest.raises(WeightsError, match="not finite"):
        invdiff.load_prior(path)
    command = ["train", training, "--data", photos, "-o", tmp_path / "t", "--quiet"]
    assert "not finite" in refused(*command, "--set", f"train.start={path}")


def test_a_result_that_is_not_finite_is_no_picture(cli, recipe, monkeypatch, tmp_path, report):
    from invdiff.schedule import NoiseSchedule

    monkeypatch.setattr(NoiseSchedule, "transition", lambda self, x, *rest: x * torch.nan)
    done = cli("run", recipe(), "-o", tmp_path / "out")
    assert done.code == 1
    assert "the result is not finite" in done.err
    assert not (tmp_path / "out" / "astronaut.png").exists()
    assert "not finite" in report(tmp_path / "out")["astronaut"]["error"]


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (255 * torch.rand(3, 16, 16), "an image lies in [0, 1], got"),
        (torch.rand(3, 16, 16) - 1, "an image lies in [0, 1], got -"),
        (torch.full((3, 16, 16), torch.nan), "must be finite"),
        (torch.full((3, 16, 16), torch.inf), "must be finite"),
        (torch.zeros(3, 0, 16), "a picture of no pixels"),
        (torch.zeros(0, 3, 16, 16), "an empty batch"),
        (torch.zeros(1, 16, 16), "an image tensor is float"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), "an image tensor is float"),
    ],
)
def test_tensors_that_are_no_images(recipe, tensor, words):
    with pytest.raises(ImageError) as caught:
        invdiff.load(recipe()).restore(tensor)
    assert words in str(caught.value)


def test_noise_may_lead_a_little_beyond(recipe):
    y = torch.rand(3, 16, 16) * 1.2 - 0.1
    assert invdiff.load(recipe()).restore(y).image.shape == (3, 64, 64)


def test_where_gradients_are_off(recipe):
    """The loop needs them, whatever is around it."""
    pipe, y = invdiff.load(recipe()), torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    want = pipe.restore(y).image
    with torch.no_grad():
        assert torch.equal(pipe.restore(y).image, want)
    with torch.inference_mode():
        assert torch.equal(pipe.restore(y.clone()).image, want)


@pytest.mark.parametrize(
    "images",
    ["7", "null", "[1, null, {}]", '[{"stem": 4}]', '[{"stem": "a", "key": 1, "files": 3}]', '[{"stem": ["a"]}]', "{}"],
)
def test_a_report_that_somebody_edited(cli, recipe, picture, report, tmp_path, images):
    photo, out = picture("a.png", 16, 16), tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text(f'{{"images": {images}}}')
    done = cli("run", recipe(), photo, "-o", out)
    assert done.code == 0, done.err
    assert "output" in report(out)["a"]


def test_a_link_to_nothing_is_a_failure(cli, recipe, picture, tmp_path):
    if not hasattr(os, "symlink"):
        pytest.skip("no links here")
    picture("a.png", 16, 16)
    os.symlink(tmp_path / "gone.png", tmp_path / "in" / "b.png")
    done = cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "out")
    assert done.code == 1
    assert "b.png: no such file" in done.err
    assert (tmp_path / "out" / "a.png").exists()


def test_a_full_disk_says_where(tmp_path, monkeypatch, cli, recipe):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomic(tmp_path / "a.txt", "x")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


# --- two at once


def test_a_folder_is_one_process_at_a_time(tmp_path, monkeypatch):
    locks = tmp_path / "locks"
    locks.mkdir()
    monkeypatch.setenv("TMPDIR", str(locks))
    monkeypatch.setattr("tempfile.tempdir", None)
    with alone_in(tmp_path), alone_in(tmp_path.parent):
        code = f"""
from pathlib import Path
from invdiff.io.atomic import alone_in
with alone_in(Path({str(tmp_path)!r})):
    pass
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"{tmp_path}: another process is writing here" in done.stderr
        with pytest.raises(InvdiffError), alone_in(tmp_path / "x" / ".."):
            pass
        assert len(list(locks.iterdir())) == 2
    with alone_in(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [locks]
    assert list(locks.iterdir()) == [], "a lock given back leaves no file"


@pytest.mark.skipif(sys.platform == "win32", reason="locks of Unix")
def test_a_second_run_says_so_and_loses_nothing(arguments, recipe, picture, tmp_path, report):
    """While one restores, another with other pictures is refused in a line; a killed one leaves no lock."""
    for name in "abcdef":
        picture(f"{name}.png", 32, 32)
    other = picture("z.png", 16, 16, folder=tmp_path / "other")
    path = recipe(("steps: 2", "steps: 40"))
    command, environment = arguments("run", path, tmp_path / "in", "-o", tmp_path / "out")
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        waiting = time.monotonic() + 60
        while not (tmp_path / "out" / "a.png").exists() and time.monotonic() < waiting:
            time.sleep(0.05)
        command, _ = arguments("run", path, other, "-o", tmp_path / "out")
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert second.returncode == 2, second.stdout + second.stderr
        assert "another process is writing here" in second.stderr
    finally:
        first.kill()
        first.wait()
    done = set(report(tmp_path / "out"))
    assert done
    third = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr
    assert set(report(tmp_path / "out")) == done | {"z"}


def test_the_report_is_read_again_where_another_run_was_first(recipe, picture, tmp_path, report):
    """Two runs made, one after the other carried out: both are in the report."""
    from invdiff.assembly import assemble, read
    from invdiff.restoring.jobs import jobs_of
    from invdiff.restoring.run import Run, RunOptions

    pipeline = assemble(read(recipe()))
    works = [
        Run(pipeline, jobs_of([picture(f"{name}.png", 16, 16)]), tmp_path / "out", RunOptions()) for name in ("a", "b")
    ]
    for work in works:
        work.run()
    assert set(report(tmp_path / "out")) == {"a", "b"}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["images"][0]["stem"] == "a"
    assert np.isfinite(report(tmp_path / "out")["b"]["seconds"])
