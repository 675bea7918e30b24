"""kill -9 at any moment, many pictures, several threads and processes: nothing is lost, nothing grows."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import subprocess
import threading
import time

import pytest
import torch

import invdiff

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of Unix")]


def killed_until_done(command, environment, seed, kills, longest):
    """Start a command and kill it at some moment, again and again; then let it end. How often it was killed."""
    moments, count = random.Random(seed), 0
    for _ in range(kills):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(moments.uniform(0.2 * longest, 0.9 * longest))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            count += 1
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return count


def seconds_of(command, environment):
    started = time.monotonic()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.monotonic() - started


def contents(folder, *patterns):
    """Files by name; what a kill leaves beside a file that was being written is hidden, and ends otherwise."""
    return {path.relative_to(folder): path.read_bytes() for pattern in patterns for path in folder.rglob(pattern)}


def without_times(entry):
    return {name: value for name, value in entry.items() if name != "seconds"}


def test_runs_that_are_killed(arguments, recipe, picture, tmp_path):
    for i in range(12):
        picture(f"{i}.png", 24, 24, seed=i)
    path, ends = recipe(("steps: 2", "steps: 10")), {}
    for name in ("whole", "killed"):
        command, environment = arguments("run", path, tmp_path / "in", "-o", tmp_path / name)
        if name == "whole":
            longest = seconds_of(command, environment)
        else:
            assert killed_until_done(command, environment, 1, 16, longest) >= 4
        images = json.loads((tmp_path / name / "report.json").read_text())["images"]
        ends[name] = contents(tmp_path / name, "*.png", "*.npy"), [without_times(entry) for entry in images]
    assert ends["killed"] == ends["whole"]


def test_evaluations_that_are_killed(arguments, recipe, picture, tmp_path):
    for i in range(6):
        picture(f"{i}.png", 64, 64, seed=i, folder=tmp_path / "clean")
    path, ends = recipe(("steps: 2", "steps: 10")), {}
    for name in ("whole", "killed"):
        command, environment = arguments("eval", path, tmp_path / "clean", "-o", tmp_path / name, "--method", "bicubic")
        if name == "whole":
            longest = seconds_of(command, environment)
        else:
            assert killed_until_done(command, environment, 2, 16, longest) >= 4
        found = [json.loads(path.read_text()) for path in sorted((tmp_path / name / "pictures").glob("*/*/*.json"))]
        for record in found:
            record["values"].pop("seconds")
        ends[name] = contents(tmp_path / name, "pictures/**/*.png", "*.npy"), found
    assert ends["killed"] == ends["whole"]


def test_trainings_that_are_killed(arguments, training, photos, tmp_path):
    changes = ["steps=40", "log_every=3", "checkpoint_every=2", "warmup=4"]
    given = [word for change in changes for word in ("--set", f"train.{change}")]
    ends = {}
    for name in ("whole", "killed"):
        command, environment = arguments("train", training, "-o", tmp_path / name, "--data", photos, *given)
        if name == "whole":
            longest = seconds_of(command, environment)
        else:
            moments, count = random.Random(3), 0
            while count < 16:
                going_on = ["--resume"] if (tmp_path / name / "checkpoint.safetensors").exists() else []
                process = subprocess.Popen([*command, *going_on], env=environment, stderr=subprocess.DEVNULL)
                try:
                    process.wait(moments.uniform(0.4 * longest, longest))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                count += 1
            subprocess.run([*command, "--resume"], env=environment, check=True, stderr=subprocess.DEVNULL)
        log = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for record in log:
            del record["seconds"], record["images_per_second"]
        ends[name] = log, invdiff.load_prior(tmp_path / name / "weights.safetensors").state_dict()
    assert ends["killed"][0] == ends["whole"][0]
    for key, value in ends["whole"][1].items():
        assert torch.equal(ends["killed"][1][key], value), key


def test_memory_is_flat_over_many_pictures(recipe):
    """Five hundred small pictures of different sizes through one pipeline."""
    pipe = invdiff.load(recipe(), overrides=["sampler.steps=1"])

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    for number in range(500):
        if number == 100:
            before = peak()
        pipe.restore(torch.rand(3, 8 + number % 23, 8 + number % 19))
    assert peak() - before < 50, "MiB more than after the first hundred"


def measurements():
    return [torch.rand(3, 16, 20, generator=torch.Generator().manual_seed(i)) for i in range(6)]


def test_threads_that_share_a_pipeline(recipe):
    pipe = invdiff.load(recipe())
    want = [pipe.restore(y).image for y in measurements()]
    found = [None] * len(want)

    def work(number):
        found[number] = pipe.restore(measurements()[number]).image

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(want))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


def restored_there(path, queue):
    torch.set_num_threads(1)
    queue.put(invdiff.load(path).restore(measurements()[0]).image.numpy())


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_give_the_same(recipe, method):
    """Also where the parent has restored before: its threads do not live on in a fork."""
    path, context = recipe(), multiprocessing.get_context(method)
    want = invdiff.load(path).restore(measurements()[0]).image
    queue = context.Queue()
    process = context.Process(target=restored_there, args=(path, queue))
    process.start()
    found = queue.get(timeout=120)
    process.join(60)
    assert torch.equal(torch.from_numpy(found), want)
    assert process.exitcode == 0
