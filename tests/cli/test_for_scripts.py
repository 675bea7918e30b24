"""What scripts rely on: JSON alone on the standard output, no colours where none are wanted, threads as allowed."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import types

import pytest
import torch

from invdiff.cli import machine
from invdiff.training import trainer


@pytest.fixture
def said(cli):
    """What a command says as JSON; the whole of its standard output must be that."""

    def run(*arguments, code=0):
        done = cli(*arguments, "--json")
        assert done.code == code, done.err
        return json.loads(done.out)

    return run


def test_run_and_compare(said, cli, recipe, picture, tmp_path, report):
    picture("a.png")
    (picture("b.png", seed=1).parent / "broken.png").write_text("no picture")
    a = said("run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "a", code=1)
    assert a["folder"] == str(tmp_path / "a")
    assert {image["stem"]: image for image in a["images"]} == report(tmp_path / "a")
    assert a["left"] == 0
    assert "error" in a["images"][2]
    cli("run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "b", "--set", "sampler.steps=1", "--quiet")
    found = said("compare", tmp_path / "a", tmp_path / "b")
    assert {"key": "sampler.steps", "before": "2", "now": "1"} in found["settings"]
    assert found["alone"] == []
    (lines,) = found["groups"].values()
    residual = next(line for line in lines if line["metric"] == "residual")
    assert residual["pairs"] == 2
    want = [sum(e["residual"] for e in report(tmp_path / f).values() if "error" not in e) / 2 for f in ("a", "b")]
    assert [residual["a"], residual["b"]] == pytest.approx(want)
    assert set(found["psnr_rgb_of_a_beside_b"]) == {"a", "b"}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="such names are not possible")
def test_a_name_that_is_no_text_is_still_that_name(said, recipe, picture, tmp_path):
    """What is printed leads to the file: no letter of it is a question mark."""
    photo = tmp_path / "in" / os.fsdecode(b"caf\xe9.png")
    os.rename(picture("a.png"), photo)
    (image,) = said("run", recipe(), photo, "-o", tmp_path / "out")["images"]
    assert image["input"] == str(photo)
    assert all((tmp_path / "out" / name).is_file() for name in image["files"])


def test_json_for_an_output_of_few_letters():
    from invdiff.io.plain import as_json

    for encoding in ("utf-8", "latin-1", "ascii"):
        text = as_json({"hübsch": "猫"}, encoding)
        assert json.loads(text.encode(encoding)) == {"hübsch": "猫"}


def test_eval_and_compare(said, recipe, picture, tmp_path):
    folder = picture("a.png", 64, 64).parent
    common = ["--kernels", "gaussian8", "--repeat", "1", "--method", "bicubic", "--set", "input.crop=32"]
    a = said("eval", recipe(), folder, "-o", tmp_path / "a", *common)
    assert [(row["method"], row["rows"]) for row in a["means"]] == [("bicubic", 1), ("tiny", 1)]
    assert a["failures"] == []
    said("eval", recipe(), folder, "-o", tmp_path / "b", *common, "--set", "sampler.steps=1")
    found = said("compare", tmp_path / "a", tmp_path / "b")
    assert [d for d in found["settings"] if d["key"].endswith("sampler.steps")] == [
        {"key": "methods.tiny.sampler.steps", "before": "2", "now": "1"}
    ]
    same = {line["metric"]: line for line in next(g for name, g in found["groups"].items() if "bicubic" in name)}
    assert same["psnr_y"]["difference"] == 0
    assert same["psnr_y"]["a"] == pytest.approx(a["means"][0]["psnr_y"])
    assert same["psnr_y"]["better"] == 0


def test_the_others(said, refused, training, photos, tmp_path):
    assert said("info", "blindsr_x4")["steps"] == 2
    assert "blindsr_x4" in {recipe["name"] for recipe in said("recipes")}
    assert {c["status"] for c in said("check", "tv")[0]["checks"]} == {"passed", "skipped"}
    trained = said("train", training, "-o", tmp_path / "out", "--data", photos, "--set", "train.steps=1")
    assert (trained["step"], os.path.exists(trained["weights"])) == (1, True)
    assert "no such recipe" in refused("info", "nothing.yaml", "--json")  # errors stay a line


def test_compare_in_words(cli, recipe, picture, tmp_path):
    """A table against clean pictures, and what only one has."""
    picture("a.png", 32, 32)
    run = ["run", recipe(), "-i", tmp_path / "in", "--synthesize", "--quiet"]
    cli(*run, "-o", tmp_path / "a")
    picture("b.png", 32, 32, seed=1)
    cli(*run, "-o", tmp_path / "b", "--set", "sampler.eta=0")
    out = cli("compare", tmp_path / "a", tmp_path / "b").out
    assert "sampler.eta: 1.0 in A, 0.0 in B" in out
    assert "only in B: b" in out
    assert "PSNR-RGB ↑" in out
    assert "of 1 " in out
    assert "standard error" in out


def test_compare_refuses_what_does_not_go_together(cli, refused, recipe, picture, tmp_path):
    for name in ("a", "b"):
        picture(f"{name}.png", 32, 32, folder=tmp_path / f"in_{name}")
        cli("run", recipe(), "-i", tmp_path / f"in_{name}", "-o", tmp_path / name, "--quiet")
    assert refused("compare", tmp_path / "a", tmp_path / "b").endswith("give two results of the same pictures")
    (tmp_path / "b" / "evaluation.json").write_text("{}")
    assert refused("compare", tmp_path / "a", tmp_path / "b").endswith("give two of one kind")
    (tmp_path / "a" / "report.json").write_text('{"settings": {}, "images": [3]}')
    assert "not a report" in refused("compare", tmp_path / "a", tmp_path / "a")
    assert "not readable as a results.csv" in refused("compare", tmp_path / "b", tmp_path / "b")


# --- doctor


def test_doctor(cli, said):
    done = cli("doctor")
    assert (done.code, done.err) == (0, "")
    abouts = [line.split()[0] for line in done.out.splitlines()]
    for about in ("system", "packages", "device", "threads", "plugins", "weights", "self-test"):
        assert about in abouts
    for weights in ("blindsr_x4_s", "natural_s", "kernel_s"):  # a guidance's, too
        assert f"{weights}: " in done.out
    assert f"torch {torch.__version__.partition('+')[0]}" in done.out
    assert "twice the same" in done.out
    assert done.out.endswith("everything is in order\n")
    assert all(finding["remedy"] == "" for finding in said("doctor"))


def test_doctor_finds_what_is_wrong(cli, plant, tmp_path, monkeypatch):
    """A plugin that does not load, too many threads, weights that are damaged: each with what to do."""
    plant("broken", "import module_that_nobody_has\n")
    plant("holder", "from invdiff_tv.prior import TV\nfrom invdiff.hookspecs import hookimpl\n")
    package = tmp_path / "site" / "planted_weights"
    (package / "weights").mkdir(parents=True)
    (package / "weights" / "cut.safetensors").write_bytes(b"not weights")
    (package / "__init__.py").write_text(
        "from invdiff.hookspecs import hookimpl\nfrom invdiff_tv.prior import TV\n\n\n"
        "class Own(TV):\n    '''Like TV.'''\n\n\n"
        "@hookimpl\ndef register_priors(register):\n    register('own', Own)\n"
    )
    info = tmp_path / "site" / "more-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[invdiff]\nmore = planted_weights\n")
    monkeypatch.setattr("invdiff.cli.doctor.allowed_cpus", lambda: 0)
    done = cli("doctor")
    assert done.code == 1
    wrong = [line for line in done.out.splitlines() if "WRONG: " in line]
    assert [line.split()[0] for line in wrong] == ["threads", "plugin", "weights"]
    assert "set OMP_NUM_THREADS" in wrong[0]
    assert "module_that_nobody_has" in wrong[1]
    assert wrong[1].endswith("pip install --upgrade broken, or uninstall it")
    assert "cut.safetensors" in wrong[2]
    assert done.out.endswith("3 not in order\n")


# --- the machine


@pytest.mark.parametrize(
    ("quota", "allowed"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("odd", 8), (None, 8)]
)
def test_a_containers_share_limits_the_threads(tmp_path, monkeypatch, quota, allowed):
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota)
    monkeypatch.setattr(machine, "_QUOTA", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert machine.allowed_cpus() == allowed


def test_threads_are_set_unless_the_environment_says(monkeypatch):
    told = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(machine, "allowed_cpus", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    machine.use_allowed_cpus()
    monkeypatch.delenv("OMP_NUM_THREADS")
    machine.use_allowed_cpus()
    assert told == [3]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("told", [{}, {"NO_COLOR": "1"}], ids=["terminal", "NO_COLOR"])
def test_colours(arguments, recipe, tmp_path, told):
    """On a terminal there may be some, with NO_COLOR there are none."""
    import pty

    command, environment = arguments("run", recipe(), "-o", tmp_path / "out")
    environment = {k: v for k, v in environment.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"} | told
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs, stdin=theirs) as running:
        os.close(theirs)
        seen = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            seen += chunk
        running.wait(120)
    os.close(ours)
    assert running.returncode == 0, seen
    assert b"1 restored" in seen
    coloured = [code for code in (b"\x1b[3%dm" % n for n in range(8)) if code in seen] or b"\x1b[38;" in seen
    assert bool(coloured) == (not told)


def test_a_log_says_how_long_is_left(cli, training, photos, tmp_path, monkeypatch):
    """By a clock that goes on by ten minutes whenever it is looked at: about as much a step, or a multiple of it."""
    clock = types.SimpleNamespace(monotonic=itertools.count(0, 600).__next__)
    monkeypatch.setattr(trainer, "time", clock)
    done = cli("train", training, "-o", tmp_path / "out", "--data", photos, "--set", "train.steps=9")
    lines = [line for line in done.err.splitlines() if line.startswith("step ")]
    left = [re.fullmatch(r"step \d/9 image .* img/s(?: about ([\d.]+ (?:h|min|s)) left)?", line)[1] for line in lines]
    assert len(left) == 9
    assert left[0].endswith(" h")
    assert left[-2].endswith(" min")
    assert left[-1] is None
