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


def test_a_pipeline_made_where_gradients_are_off(recipe):
    y = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    outside = invdiff.load(recipe())
    want = outside.restore(y).image
    with torch.inference_mode():
        inside = invdiff.load(recipe())
        parts = outside.degradation, outside.prior, outside.guidance, outside.sampler
        again = invdiff.Pipeline(*parts, seed=outside.seed)
        for pipe in (inside, again):
            assert torch.equal(pipe.restore(y).image, want)
    assert torch.equal(inside.restore(y).image, want)


@pytest.mark.parametrize(
    "images",
    ["7", "null", "[1, null, {}]", '[{"stem": 4}]', '[{"stem": "a", "key": 1, "files": 3}]', '[{"stem": ["a"]}]', "{}"],
)
def test_a_report_that_somebody_edited(cli, recipe, picture, report, tmp_path, images):
    """What is none is done again, and what somebody wrote is kept aside."""
    photo, out = picture("a.png", 16, 16), tmp_path / "out"
    out.mkdir()
    text = f'{{"images": {images}}}'
    (out / "report.json").write_text(text)
    done = cli("run", recipe(), photo, "-o", out)
    assert done.code == 0, done.err
    assert done.err == (
        f"{out / 'report.json'}: not as a run writes it; kept as report.edited.json, and what it lacks is done again\n"
    )
    assert (out / "report.edited.json").read_text() == text
    assert "output" in report(out)["a"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", 7),
        ("metrics", {"psnr_y": "high"}),
        ("seconds", "long"),
        ("residual", []),
        ("files", 3),
        ("key", None),
    ],
)
def test_an_entry_that_somebody_edited(cli, recipe, picture, report, tmp_path, key, value):
    picture("a.png", 16, 16)
    picture("b.png", 16, 16, seed=1)
    command = ["run", recipe(), tmp_path / "in", "-o", tmp_path / "out"]
    cli(*command)
    whole = report(tmp_path / "out", whole=True)
    before = dict(whole["images"][0])
    whole["images"][0][key] = value
    (tmp_path / "out" / "report.json").write_text(json.dumps(whole))
    done = cli(*command)
    assert done.code == 0, done.err
    assert "1 restored, 1 already done" in done.out
    assert report(tmp_path / "out")["a"] == {**before, "seconds": report(tmp_path / "out")["a"]["seconds"]}


@pytest.mark.parametrize(
    "change",
    [
        {"trace": [{}]},
        {"trace": [{"step": "x", "t": "1"}]},
        {"trace": [{"step": "1", "t": "1", "psnr_y": None}]},
        {"trace": 7},
        {"values": {"psnr_y": True}},
        {"values": []},
        {"digest": []},
        {"picture": 3},
    ],
    ids=json.dumps,
)
def test_a_record_that_somebody_edited_is_made_again(cli, recipe, picture, tmp_path, change):
    data = picture("a.png", 64, 64, folder=tmp_path / "clean").parent
    command = ["eval", recipe(), data, "-o", tmp_path / "out", "--trace", "--quiet"]
    assert cli(*command).code == 0
    (record,) = (tmp_path / "out" / "pictures").glob("clean/tiny/*.json")
    good = json.loads(record.read_text())
    record.write_text(json.dumps({**good, **change}))
    done = cli(*command)
    assert (done.code, done.err) == (0, "")
    made = json.loads(record.read_text())
    assert made["trace"] == good["trace"]
    assert {**made["values"], "seconds": ""} == {**good["values"], "seconds": ""}


@pytest.mark.parametrize("text", ["[" * 100_000, "", "null", "{}", "\0"], ids=["deep", "empty", "null", "bare", "zero"])
def test_files_of_ours_that_are_none(cli, refused, recipe, picture, tmp_path, text):
    data = picture("a.png", 64, 64, folder=tmp_path / "clean").parent
    command = ["eval", recipe(), data, "-o", tmp_path / "out", "--quiet"]
    assert cli(*command).code == 0
    (record,) = (tmp_path / "out" / "pictures").glob("clean/tiny/*.json")
    good = record.read_text()
    record.write_text(text)
    assert cli(*command).code == 0
    assert json.loads(record.read_text()).keys() == json.loads(good).keys()
    (tmp_path / "out" / "evaluation.json").write_text(text)
    assert "not readable as an evaluation" in refused(*command)
    assert (tmp_path / "out" / "evaluation.json").read_text() == text


def test_a_link_to_nothing_is_a_failure(cli, recipe, picture, tmp_path):
    if not hasattr(os, "symlink"):
        pytest.skip("no links here")
    picture("a.png", 16, 16)
    os.symlink(tmp_path / "gone.png", tmp_path / "in" / "b.png")
    done = cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "out")
    assert done.code == 1
    assert "b.png: no such file" in done.err
    assert (tmp_path / "out" / "a.png").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_waited_for_nowhere(cli, refused, recipe, picture, tmp_path):
    photo = picture("a.png", 16, 16)
    (tmp_path / "out").mkdir()
    for name in ("in/b.png", "pipe.npy", "pipe.safetensors", "pipe.pth", "pipe.yaml", "out/report.json"):
        os.mkfifo(tmp_path / name)
    assert "report.json: not a report" in refused("compare", tmp_path / "out", tmp_path / "out")
    done = cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "out", "--quiet")
    failed = f"failed: {tmp_path / 'in' / 'b.png'}: not a file\n"
    assert done.code == 1
    assert done.err.endswith(failed)
    assert (tmp_path / "out" / "a.png").exists()
    command = ["run", recipe(), photo, "-o", tmp_path / "out"]
    assert "pipe.npy: not a file" in refused(*command, "--kernel", tmp_path / "pipe.npy")
    assert "pipe.yaml: cannot be read as a recipe (not a file)" in refused("info", tmp_path / "pipe.yaml")
    assert "no such file" in refused(*command, "--set", f"prior.weights={tmp_path / 'pipe.safetensors'}")
    assert "pipe.pth: not a file" in refused("weights", "import", tmp_path / "pipe.pth", "-o", tmp_path / "x")


def test_a_log_goes_on_as_if_it_had_not_stopped(train, tmp_path):
    """Where checkpoints fall between the log's lines, a mean that was begun before the stop is ended after it."""
    every = {"log_every": 3, "checkpoint_every": 2}
    train("whole", steps=6, **every)
    with pytest.MonkeyPatch.context() as patch:
        from invdiff.training.trainer import Trainer

        one_step = Trainer._one_step

        def killed(self, x):
            if self.step == 5:
                raise OSError(5, "pulled", "plug")
            return one_step(self, x)

        patch.setattr(Trainer, "_one_step", killed)
        assert train("halves", steps=6, **every).code == 2
    assert train("halves", "--resume", steps=6, **every).code == 0
    whole, halves = (records(tmp_path / name / "log.jsonl") for name in ("whole", "halves"))
    assert [record["step"] for record in whole] == [3, 6]
    assert halves == whole


def records(path):
    """A log without its times."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("images_per_second", "seconds")} for record in found]


@pytest.mark.parametrize(
    "line",
    ["", "x", "[" * 50_000, '{"step": 1, "validation": 7}', '{"step": 1, "validation": {"psnr_y": "x"}}', "\0"],
    ids=["empty", "word", "deep", "number", "text", "zero"],
)
def test_a_log_that_somebody_edited(train, photos, tmp_path, line):
    train("a", "--validate", photos, steps=1)
    with (tmp_path / "a" / "log.jsonl").open("a") as file:
        file.write(f"{line}\n")
    done = train("a", "--validate", photos, "--resume", steps=2, validate_every=1)
    assert done.code == 0, done.err
    assert records(tmp_path / "a" / "log.jsonl")[-1]["step"] == 2


@pytest.fixture
def edited(train, tmp_path):
    """Takes up a run of one step after somebody changed its checkpoint's tensors and header; how that ends."""
    train("a", steps=1)
    path = tmp_path / "a" / "checkpoint.safetensors"
    whole = path.read_bytes()

    def go_on(change, steps=2):
        path.write_bytes(whole)
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata()
        tensors = safetensors.torch.load_file(path)
        change(tensors, header)
        safetensors.torch.save_file(tensors, path, header)
        return train("a", "--resume", steps=steps)

    return go_on


@pytest.fixture
def damaged(edited, tmp_path):
    """The same, of a change that must be refused in a short line."""

    def refuse(change):
        done = edited(change)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        path = tmp_path / "a" / "checkpoint.safetensors"
        assert done.err.startswith(f"error: {path}: damaged (")
        assert len(done.err) < len(str(path)) + 250

    return refuse


STEM, ADAM = "network.stem.weight", "adam.0.exp_avg"
CHANGED = {
    "step": ["0", "-1", "2", "1.5", "9" * 30, "9" * 5000, "x"],
    "seconds": ["-1", "nan", "inf", "x"],
    "best": ["nan", "inf", "x"],
    "losses": ["-1", "2", "x"],
    "optimized": ["0", "-1", "1", "x"],
    f"model.{STEM}": [lambda t: t[:1], lambda t: t * torch.nan, torch.Tensor.double],
    f"ema.{STEM}": [lambda t: t[:1], lambda t: t.flatten(), lambda t: t / 0, torch.Tensor.long],
    ADAM: [lambda t: t[:1], lambda t: t.double(), lambda t: t * torch.nan],
    "adam.0.exp_avg_sq": [lambda t: t - 1],
    "adam.0.step": [lambda t: -t, lambda t: t + 1, lambda t: t[None]],
    "losses.sums": [lambda t: t[:2], lambda t: t * torch.nan],
}


@pytest.mark.parametrize("part", CHANGED)
def test_a_checkpoint_that_somebody_edited(damaged, part):
    """One line, whatever was changed; above all what torch itself takes for good, or finds out steps later."""
    for to in CHANGED[part]:

        def change(tensors, header, to=to):
            if callable(to):
                tensors[part] = to(tensors[part]).contiguous()
            else:
                header[part] = to

        damaged(change)


def test_a_checkpoint_that_lacks_something(damaged):
    for name in ("step", "seconds", "losses"):
        damaged(lambda tensors, header, name=name: header.pop(name))
    for name in (f"model.{STEM}", f"ema.{STEM}", ADAM):
        damaged(lambda tensors, header, name=name: tensors.pop(name))
    damaged(lambda tensors, header: [tensors.pop(f"adam.0.{part}") for part in ("step", "exp_avg", "exp_avg_sq")])


def test_a_checkpoint_that_holds_more(damaged):
    for name in ("model.more", "ema.more", "adam.999.step", "adam.-1.step", "adam.x.step"):
        damaged(lambda tensors, header, name=name: tensors.update({name: torch.ones(())}))


def test_averaged_weights_of_nothing_are_not_written(edited, tmp_path):
    """A run that has ended would only write them again."""

    def spoil(tensors, header):
        tensors[f"ema.{STEM}"][0] = torch.nan

    done = edited(spoil, steps=1)
    assert done.code == 2
    assert f"'ema.{STEM}' holds numbers that are not finite" in done.err
    invdiff.load_prior(tmp_path / "a" / "weights.safetensors")


@pytest.mark.parametrize(("rate", "words"), [("1e30", "not finite in float16"), ("1e38", "after step 1")])
def test_steps_that_lead_beyond_all_numbers_leave_no_weights(train, tmp_path, rate, words):
    """The loss is that of the weights before the step: at the last one nobody would look at what it made."""
    done = train("a", steps=1, learning_rate=rate)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert words in done.err
    assert not (tmp_path / "a" / "weights.safetensors").exists()


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


@pytest.fixture
def locks(tmp_path, monkeypatch):
    """Where locks lie: in a folder of this test's own."""
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_file_system_that_counts_no_links(tmp_path, locks, monkeypatch):
    counted = os.fstat
    monkeypatch.setattr(os, "fstat", lambda handle: os.stat_result([*counted(handle)[:3], 0, *counted(handle)[4:]]))
    with alone_in(tmp_path):
        assert len(list(locks.iterdir())) == 1
    assert list(locks.iterdir()) == []


def test_a_lock_that_was_just_removed_is_taken_anew(tmp_path, locks, monkeypatch):
    """Between opening and locking, whoever had the folder may end and take the file away."""
    fcntl = pytest.importorskip("fcntl")
    lock, taken = fcntl.flock, []

    def late(file, how):
        if not taken:
            next(locks.iterdir()).unlink()
        taken.append(how)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with alone_in(tmp_path):
        assert len(taken) == 2
        with pytest.raises(InvdiffError, match="another process is writing here"), alone_in(tmp_path):
            pass
    assert list(locks.iterdir()) == []


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
