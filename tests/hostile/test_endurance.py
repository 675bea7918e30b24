"""kill -9 at any moment, many pictures, several threads and processes: nothing is lost, nothing grows."""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of Unix")]


KILLS = 13  # of each of four commands: fifty moments and two


def same_end(arguments, given, folder, end, seed, resumed=lambda place: ()):
    """Run a command to its end, and again in another folder, killed at ``KILLS`` moments: what ``end`` makes of the
    two folders is the same, each time that the second gets to its end. Returns that of the first.

    ``arguments`` and ``given`` make the command, but for its folder; ``resumed`` are words to add to a later start.
    """
    command, environment = arguments(*given, folder / "whole")
    started = time.monotonic()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    longest, whole = time.monotonic() - started, end(folder / "whole")
    place, moments, count = folder / "killed", random.Random(seed), 0
    command, _ = arguments(*given, place)
    while True:
        begun = [*command, *resumed(place)]
        process = subprocess.Popen(begun, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            patience = moments.uniform(0.2, 1) * longest if count < KILLS else 600
            _, said = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            count += 1
            assert count <= KILLS, "it hangs"
            continue
        assert process.returncode == 0, said.decode()
        assert end(place) == whole
        if count == KILLS:
            return whole
        shutil.rmtree(place)


def contents(folder, *patterns):
    """Files by name; what a kill leaves beside a file that was being written is hidden, and ends otherwise."""
    return {path.relative_to(folder): path.read_bytes() for pattern in patterns for path in folder.rglob(pattern)}


def without_times(entry):
    return {name: value for name, value in entry.items() if name != "seconds"}


def test_runs_that_are_killed(arguments, recipe, picture, tmp_path):
    for i in range(12):
        picture(f"{i}.png", 24, 24, seed=i)

    def end(folder):
        images = json.loads((folder / "report.json").read_text())["images"]
        return contents(folder, "*.png", "*.npy"), [without_times(entry) for entry in images]

    given = ["run", recipe(("steps: 2", "steps: 10")), tmp_path / "in", "-o"]
    assert len(same_end(arguments, given, tmp_path, end, seed=1)[1]) == 12


def test_evaluations_that_are_killed(arguments, recipe, picture, tmp_path):
    for i in range(6):
        picture(f"{i}.png", 64, 64, seed=i, folder=tmp_path / "clean")

    def end(folder):
        found = [json.loads(path.read_text()) for path in sorted((folder / "pictures").glob("*/*/*.json"))]
        for record in found:
            record["values"].pop("seconds")
        return contents(folder, "pictures/**/*.png", "*.npy"), found

    given = ["eval", recipe(("steps: 2", "steps: 10")), tmp_path / "clean", "--method", "bicubic", "-o"]
    assert len(same_end(arguments, given, tmp_path, end, seed=2)[1]) == 12


def test_trainings_that_are_killed(arguments, training, photos, tmp_path):
    def end(folder):
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for record in log:
            del record["seconds"], record["images_per_second"]
        weights = invdiff.load_prior(folder / "weights.safetensors").state_dict()
        return log, {name: value.tolist() for name, value in weights.items()}

    def resumed(place):
        return ["--resume"] if (place / "checkpoint.safetensors").exists() else []

    changes = ["steps=40", "log_every=3", "checkpoint_every=2", "warmup=4"]
    given = ["train", training, "--data", photos, *(word for c in changes for word in ("--set", f"train.{c}")), "-o"]
    same_end(arguments, given, tmp_path, end, seed=3, resumed=resumed)


class Page:
    """``invdiff app`` in a process of its own, with tiny weights, and what a browser asks of it."""

    def __init__(self, arguments, recipe, folder):
        self.kept = folder / "kept"
        given = ["app", "--port", "0", "--no-browser", "--keep", self.kept, "--enlarge", recipe]
        command, environment = arguments(*given)
        (folder / "temporary").mkdir(exist_ok=True)
        environment = {**environment, "TMPDIR": str(folder / "temporary")}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[0].rstrip("/").rpartition(":")[2])

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, body)
        return json.loads(connection.getresponse().read())

    def restore(self, photo):
        """Bring a photo, and wait until its page is told that it is done."""
        order = self.ask("POST", f"/orders?task=enlarge&name={photo.name}", photo.read_bytes())["order"]
        while (state := self.ask("GET", f"/orders/{order}")["state"]) != "done":
            assert state in ("waiting", "working")
            time.sleep(0.02)

    def close(self):
        self.process.kill()
        self.process.communicate()


def results(kept):
    """What is kept of each photo, but for the report's times; a report is whole, and names what is there."""
    found = {}
    for folder in kept.glob("*"):
        for path in folder.glob("report.json"):
            for entry in json.loads(path.read_text())["images"]:
                assert all((folder / name).is_file() for name in entry["files"])
        found.setdefault(folder.name.rpartition("_")[2], []).append(contents(folder, "[!.]*.png", "[!.]*.npy"))
    return found


def test_pages_that_are_killed(arguments, recipe, picture, tmp_path):
    """What a page was told is done is kept, and whole; nothing is there by half; the next one opens all the same."""
    photos = [picture(f"{i}.png", 24, 24, seed=i) for i in range(4)]
    path, moments = recipe(("steps: 2", "steps: 10")), random.Random(4)
    page = Page(arguments, path, tmp_path)
    started = time.monotonic()
    for photo in photos:
        page.restore(photo)
    longest = time.monotonic() - started
    page.close()
    whole = {stem: files for stem, (files,) in results(page.kept).items()}
    assert [len(files) for files in whole.values()] == [4] * len(photos)
    shutil.rmtree(page.kept)
    for _ in range(KILLS):
        page, done = Page(arguments, path, tmp_path), []
        kill = threading.Timer(moments.uniform(0, 1) * longest, page.process.kill)
        kill.start()
        with contextlib.suppress(OSError, http.client.HTTPException):  # nobody is there any more
            for photo in photos:
                page.restore(photo)
                done.append(photo.stem)
        kill.join()
        page.close()
        found = results(page.kept)
        assert all(whole[stem] in found[stem] for stem in done)
        for stem, several in found.items():
            assert all(files.items() <= whole[stem].items() for files in several)
        shutil.rmtree(page.kept)


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


def test_the_same_number_of_threads_gives_the_same_bytes(arguments, tmp_path):
    """And another number hardly any other: what docs/concepts.md promises, of a bundled recipe."""
    found = []
    for i, threads in enumerate((1, 2, 2)):
        out = tmp_path / str(i)
        command, environment = arguments("run", "deblur_ffhq", "-o", out, "--quiet", "--set", "input.crop=128")
        subprocess.run(command, env={**environment, "OMP_NUM_THREADS": str(threads)}, check=True)
        found.append(contents(out, "*.png", "*.npy"))
    assert found[1] == found[2]
    assert found[0].keys() == found[1].keys()
    (picture,) = (name for name in found[0] if name.suffix == ".png" and name.stem.count(".") == 0)
    one, two = (np.asarray(Image.open(tmp_path / str(i) / picture)).astype(int) for i in (0, 1))
    apart = np.abs(one - two)
    assert apart.max() <= 1
    assert apart.mean() < 1e-3
