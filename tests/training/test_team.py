"""Several processes train what one would: the same losses and weights, each with its own photos of a batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from invdiff.training.crops import PhotoCrops
from invdiff.training.lesson import lesson
from invdiff.training.settings import NoiseLevels

STEPS = 20


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights_of(folder):
    return {k: v.float().clone() for k, v in safetensors.torch.load_file(folder / "checkpoint.safetensors").items()}


@pytest.fixture
def launch(training, photos, tmp_path):
    """Trains in processes of their own, started by PyTorch's launcher where there are several: accelerate's own starts
    only one on a processor without MPI, whatever it is asked."""
    pytest.importorskip("accelerate")

    def run(folder, processes, *options, steps=STEPS, batch=4, code=0):
        start = [sys.executable, "-m"]
        if processes > 1:
            start += ["torch.distributed.run", "--nproc_per_node", str(processes), "--module"]
        changes = [x for change in (f"steps={steps}", f"batch={batch}") for x in ("--set", f"train.{change}")]
        command = [*start, "invdiff", "train", training, "-o", tmp_path / folder, "--data", photos, *changes, *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def assert_same(one, other):
    """Losses and averaged weights to 1e-5: sums in another order, and nothing else."""
    assert [r["step"] for r in records(one)] == [r["step"] for r in records(other)]
    for a, b in zip(records(one), records(other), strict=True):
        for name in ("loss", "image_loss", "parameter_loss", "learning_rate"):
            assert a[name] == pytest.approx(b[name], rel=1e-5, abs=1e-6), (a["step"], name)
    mine, theirs = weights_of(one), weights_of(other)
    for name in mine:
        if name.startswith("ema."):
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(launch, tmp_path):
    launch("one", 1)
    done = launch("two", 2)
    assert_same(tmp_path / "one", tmp_path / "two")
    assert done.stdout.count("weights.safetensors: step 20") == 1  # the leader alone speaks


def test_two_processes_go_on_where_one_stopped(launch, tmp_path):
    """And one goes on where two stopped, with the steps in parts: a batch is a batch."""
    launch("straight", 1, steps=6)
    launch("mixed", 1, steps=2)
    launch("mixed", 2, "--resume", steps=4)
    launch("mixed", 1, "--resume", "--set", "train.accumulate=2", steps=6)
    assert_same(tmp_path / "straight", tmp_path / "mixed")


def test_they_are_several(launch):
    """Three photos are not shared by two, which one process alone would not mind."""
    done = launch("two", 2, steps=1, batch=3, code=1)  # the launcher's code
    assert "train.batch: 3 does not divide by 2 processes with 1 parts each" in done.stderr


def test_parts_of_a_batch_are_the_batch(train, tmp_path):
    train("whole", steps=5, batch=4)
    train("parts", steps=5, batch=4, accumulate=4)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_batch_that_cannot_be_shared(refused, training, photos, tmp_path):
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--quiet"]
    message = refused(*command, "--set", "train.batch=3", "--set", "train.accumulate=2")
    assert message == "train.batch: 3 does not divide by 1 processes with 2 parts each"


def test_several_processes_without_the_library(refused, training, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    message = refused("train", training, "-o", tmp_path / "a", "--data", photos)
    assert message == "several processes need accelerate: pip install 'invdiff[train]'"


def test_what_an_image_becomes_is_its_own(tiny_prior, photos):
    """Neither neighbours nor the place in the batch matter: crops and lessons follow from an image's number."""
    from invdiff.seeds import Stream, stream
    from invdiff_blindsr.operator import BlindSR, BlindSRSettings

    crops = PhotoCrops(sorted(photos.iterdir()), 32, (0.8, 1.0), seed=0)
    prior, operator = tiny_prior(21), BlindSR(BlindSRSettings(noise_sigma=0.1))

    def lessons(numbers):
        generators = [stream(0, Stream.TRAINING_STEP, number) for number in numbers]
        return lesson(prior, operator, crops.batch(numbers), NoiseLevels(lognormal_share=0.5), generators)

    whole, some = lessons([4, 5, 6, 7]), lessons([7, 5])
    for name, value in vars(whole).items():
        assert torch.equal(getattr(some, name), value[[3, 1]]), name
