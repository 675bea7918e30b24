"""TensorBoard shows what the log says: the same numbers at the same steps, read by its own reader."""

from __future__ import annotations

import json
import sys

import pytest

from invdiff.training.board import Board
from invdiff.training.log import Log


def shown(folder):
    """Curves by name, as TensorBoard's reader finds them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def logged(records, above=""):
    curves = {}
    for record in records:
        for name, value in record.items():
            if isinstance(value, dict):
                inner = {f"{name}/{k}": v for k, v in value.items()} | {"step": record["step"]}
                for k, found in logged([inner]).items():
                    curves.setdefault(k, []).extend(found)
            elif name not in ("step", "steps"):
                curves.setdefault(name, []).append((record["step"], pytest.approx(value, rel=1e-6)))
    return curves


def test_a_run_on_the_board_is_that_of_the_log(train, picture, tmp_path):
    pytest.importorskip("tensorboard")
    picture("v.png", 40, 44, seed=10, folder=tmp_path / "validation")
    options = ["--validate", tmp_path / "validation", "--tensorboard", tmp_path / "board"]
    done = train("run", *options, steps=2, validate_every=1)
    assert done.code == 0, done.err
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = shown(tmp_path / "board")
    assert found == logged(records)
    assert {"loss", "image_loss", "learning_rate", "validation/psnr_y"} <= found.keys()


def test_what_is_written_again_replaces_what_was_there(tmp_path):
    """A run that stops after step 5, and goes on from its checkpoint at step 3."""
    pytest.importorskip("tensorboard")
    (tmp_path / "run").mkdir()
    for begin, end, value in ((0, 5, 1.0), (3, 6, 2.0)):
        log = Log(tmp_path / "run", Board(tmp_path / "board"))
        with log.after(begin):
            for step in range(begin + 1, end + 1):
                log.append({"step": step, "steps": 6, "loss": value, "validation": {"psnr_y": value}})
    expected = [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]
    assert shown(tmp_path / "board") == {"loss": expected, "validation/psnr_y": expected}
    assert [(r["step"], r["loss"]) for r in log.records()] == expected


def test_without_the_package(refused, training, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--tensorboard", tmp_path / "board"]
    assert refused(*command) == "--tensorboard needs its package: pip install 'invdiff[tensorboard]'"


def test_a_board_that_is_a_file(refused, training, photos, tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "board").write_text("")
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--tensorboard", tmp_path / "board"]
    assert refused(*command).startswith(f"{tmp_path / 'board'}: cannot write to this folder")
