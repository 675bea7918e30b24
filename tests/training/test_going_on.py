"""A run goes on where weights stand, is measured while it learns, cools down, and survives a bad photo."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

import invdiff
from invdiff.components.weights import save_prior
from invdiff.training.settings import TrainSettings, learning_rate


def tensors(path):
    return {name: value.clone() for name, value in safetensors.torch.load_file(path).items()}


def header(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# --- the rate


def test_a_trapezoid():
    settings = TrainSettings(steps=100, learning_rate=1.0, decay="none", warmup=10, cooldown=20)
    rates = [learning_rate(settings, step) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert set(rates[9:81]) == {1.0}
    np.testing.assert_allclose(rates[80:], np.arange(20, 0, -1) / 20)


def test_a_cooldown_is_on_top_of_a_decay():
    plain = TrainSettings(steps=100, learning_rate=1.0, decay="halve", halve_every=30)
    cooled = plain.model_copy(update={"cooldown": 10})
    assert learning_rate(plain, 95) == 0.125
    assert learning_rate(cooled, 95) == 0.125 * 0.5
    assert learning_rate(cooled, 89) == 0.25


# --- cooling down


def test_a_stable_run_is_cooled_down_and_goes_on_as_if_it_were_not(train, cli, tmp_path):
    stable, straight = tmp_path / "stable", tmp_path / "straight"
    train("straight", steps=6)
    train("stable", steps=3)
    before = (stable / "checkpoint.safetensors").read_bytes()
    done = train("stable", "--resume", "--cooldown", "4", steps=6)
    assert done.code == 0, done.err
    assert (stable / "checkpoint.safetensors").read_bytes() == before
    assert header(stable / "cooldown.safetensors")["step"] == "7"
    assert invdiff.load_prior(stable / "cooled.safetensors")
    rates = {r["step"]: r["learning_rate"] for r in records(stable)}
    assert rates[3] == pytest.approx(2e-3)
    np.testing.assert_allclose([rates[4], rates[5], rates[6], rates[7]], 2e-3 * np.array([1, 0.75, 0.5, 0.25]))
    train("stable", "--resume", steps=6)
    for name, value in tensors(straight / "weights.safetensors").items():
        assert torch.equal(tensors(stable / "weights.safetensors")[name], value), name
    assert [r["step"] for r in records(stable)] == [1, 2, 3, 4, 5, 6]
    assert (stable / "cooled.safetensors").exists()


def test_an_interrupted_cooldown_goes_on(train, tmp_path, monkeypatch):
    import signal

    from invdiff.cli.display import TrainDisplay

    for folder in ("whole", "halves"):
        train(folder, steps=2)
    train("whole", "--resume", "--cooldown", "4")
    with monkeypatch.context() as patch:
        patch.setattr(TrainDisplay, "show", lambda self, event: event.done == 4 and signal.raise_signal(signal.SIGINT))
        assert train("halves", "--resume", "--cooldown", "4").code == 130
    assert header(tmp_path / "halves" / "cooldown.safetensors")["step"] == "4"
    assert train("halves", "--resume", "--cooldown", "4").code == 0
    for name, value in tensors(tmp_path / "whole" / "cooled.safetensors").items():
        assert torch.equal(tensors(tmp_path / "halves" / "cooled.safetensors")[name], value), name


def test_cooldowns_that_make_no_sense(refused, train, training, photos, tmp_path):
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--quiet"]
    assert "goes with --resume" in refused(*command, "--cooldown", "3")
    train("a", steps=2, decay="cosine")
    message = refused(*command, "--set", "train.steps=2", "--set", "train.decay=cosine", "--resume", "--cooldown", "3")
    assert "has cooled down by itself" in message


# --- beginning from weights


def test_a_run_begins_where_weights_stand(train, tmp_path):
    """A step of nothing leaves them as they are; one with a rate does not."""
    train("first", steps=3)
    weights = tmp_path / "first" / "weights.safetensors"
    train("still", steps=1, start=weights, learning_rate=1e-30, ema=0)
    train("moved", steps=1, start=weights, ema=0)
    first, still, moved = (tensors(tmp_path / name / "weights.safetensors") for name in ("first", "still", "moved"))
    for name, value in first.items():
        torch.testing.assert_close(still[name].float(), value.float(), rtol=2e-3, atol=1e-6)
    assert any(not torch.equal(moved[name], value) for name, value in first.items())


def test_what_does_not_fit_is_said(cli, training, photos, train, tmp_path):
    """A wider kernel begins anew where it must, and takes over the rest."""
    train("first", steps=3)
    weights = tmp_path / "first" / "weights.safetensors"
    wider = tmp_path / "wider.yaml"
    wider.write_text(training.read_text().replace("kernel_size: 5", "kernel_size: 7"))
    done = cli(
        *("train", wider, "-o", tmp_path / "wide", "--data", photos, "--set", "train.steps=1", "--set", "train.ema=0"),
        *("--set", f"train.start={weights}", "--set", "train.learning_rate=1e-30"),
    )
    assert done.code == 0, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("start: ")]
    assert line.startswith("start: 3 tensors do not fit and begin anew: ")
    assert "network.estimator.head.logits.weight" in line
    first, wide = tensors(weights), tensors(tmp_path / "wide" / "weights.safetensors")
    torch.testing.assert_close(wide["network.stem.weight"], first["network.stem.weight"], rtol=2e-3, atol=1e-6)


def test_weights_that_are_no_beginning(refused, training, photos, weights, tmp_path, tiny_prior):
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--quiet", "--set"]
    assert "no weights 'none'" in refused(*command, "train.start=none")
    save_prior(tiny_prior(5), "somebody_elses", tmp_path / "other.safetensors")
    message = refused(*command, f"train.start={tmp_path / 'other.safetensors'}")
    assert message.endswith("weights of a 'somebody_elses', and this prior is a mcformer")
    safetensors.torch.save_file({"x": torch.zeros(2)}, tmp_path / "odd.safetensors", {"kind": "mcformer"})
    assert "not one of its tensors fits" in refused(*command, f"train.start={tmp_path / 'odd.safetensors'}")


# --- measured while it learns


def test_validation_is_what_one_step_gives(train, picture, tmp_path):
    """PSNR of the network's own answer at full noise, on the centre crops, against the same by hand."""
    from invdiff.metrics import psnr_y, round8
    from invdiff.seeds import Stream, stream
    from invdiff_blindsr.operator import BlindSR, BlindSRSettings

    for i in range(2):
        picture(f"{i}.png", 40, 44, seed=10 + i, folder=tmp_path / "validation")
    done = train("run", "--validate", tmp_path / "validation", steps=4, validate_every=2)
    assert done.code == 0, done.err
    measured = [r for r in records(tmp_path / "run") if "validation" in r]
    assert [r["step"] for r in measured] == [2, 4]
    from invdiff.io.decoding import load

    clean = [load(p).pixels[:, 4:36, 6:38] for p in sorted((tmp_path / "validation").iterdir())]
    kernels = {"family": "isotropic", "sigma": [0.2, 2.0]}
    operator = BlindSR(BlindSRSettings(scale=4, kernel_size=5, kernels=kernels))
    generator = stream(0, Stream.VALIDATION)
    y, _ = operator.degrade(torch.stack(clean), generator)
    eps = torch.randn(2, 3, 32, 32, generator=generator)
    prior = invdiff.load_prior(tmp_path / "run" / "weights.safetensors")  # rounded to half precision
    found = []
    for i in range(2):
        t = torch.tensor([len(prior.spec.schedule) - 1])
        x_t = prior.spec.schedule.add_noise(prior.from_unit(clean[i][None]), eps[i][None], t)
        with torch.no_grad():
            x0 = prior.predict(x_t, t, prior.from_unit(operator.lift(y[i][None]))).x0
        found.append(psnr_y(round8(prior.to_unit(x0)[0]), clean[i], 4))
    assert measured[-1]["validation"]["psnr_y"] == pytest.approx(np.mean(found), abs=0.02)
    bicubic = np.mean([psnr_y(round8(operator.baseline(y)[i]), clean[i], 4) for i in range(2)])
    assert measured[-1]["validation"]["gain"] == pytest.approx(np.mean(found) - bicubic, abs=0.02)
    assert {"kernel_l1", "psnr_y_at_0.1", "psnr_y_at_0.5"} <= set(measured[-1]["validation"])


def test_the_best_weights_are_kept_and_the_curve_drawn(train, picture, tmp_path):
    import xml.etree.ElementTree as ET

    picture("v.png", 40, 44, seed=10, folder=tmp_path / "validation")
    train("run", "--validate", tmp_path / "validation", steps=6, validate_every=1)
    measured = {r["step"]: r["validation"]["psnr_y"] for r in records(tmp_path / "run") if "validation" in r}
    best = max(measured, key=measured.get)
    assert json.loads(header(tmp_path / "run" / "best.safetensors")["note"])["step"] == best
    ET.parse(tmp_path / "run" / "log.svg")
    train("again", "--validate", tmp_path / "validation", steps=3, validate_every=1)
    train("again", "--validate", tmp_path / "validation", "--resume", steps=6, validate_every=1)
    assert {r["step"]: r["validation"]["psnr_y"] for r in records(tmp_path / "again") if "validation" in r} == measured


def test_looking_changes_nothing(train, picture, tmp_path):
    picture("v.png", 40, 44, seed=10, folder=tmp_path / "validation")
    train("watched", "--validate", tmp_path / "validation", steps=3, validate_every=1)
    train("alone", steps=3)
    for name, value in tensors(tmp_path / "alone" / "weights.safetensors").items():
        assert torch.equal(tensors(tmp_path / "watched" / "weights.safetensors")[name], value), name


def test_a_folder_that_does_not_serve(refused, training, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--quiet", "--validate"]
    assert "no pictures in this folder" in refused(*command, tmp_path / "empty")
    assert "no such file or folder" in refused(*command, tmp_path / "nowhere")


# --- photos that cannot be used


def test_a_broken_photo_costs_a_line_and_not_the_run(cli, training, photos, picture, tmp_path):
    (photos / "1b.png").write_bytes(b"not a picture")
    picture("2b.png", 8, 8, folder=photos)
    done = cli("train", training, "-o", tmp_path / "run", "--data", photos, "--set", "train.steps=6")
    assert done.code == 0, done.err
    failed = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    assert any("1b.png: not a picture that can be read" in line for line in failed)
    assert any("2b.png: 8x8 is smaller than a crop of 32" in line for line in failed)


def test_a_torn_line_of_the_log_is_left_out(train, tmp_path):
    train("run", steps=3)
    log = tmp_path / "run" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 3, "los')
    assert train("run", "--resume", steps=5).code == 0
    assert [r["step"] for r in records(tmp_path / "run")] == [1, 2, 3, 4, 5]


def test_weights_that_a_kill_left_behind_are_made_again(train, tmp_path):
    """Between checkpoint and weights: what is said at the end is what is there."""
    train("run", steps=3)
    older = (tmp_path / "run" / "weights.safetensors").read_bytes()
    train("run", "--resume", steps=5)
    newer = tensors(tmp_path / "run" / "weights.safetensors")
    (tmp_path / "run" / "weights.safetensors").write_bytes(older)
    assert train("run", "--resume", steps=5).code == 0
    for name, value in tensors(tmp_path / "run" / "weights.safetensors").items():
        assert torch.equal(newer[name], value), name


def test_precision_is_measured_where_there_are_units(tiny_prior, monkeypatch):
    from invdiff.training import precision

    prior, settings, here = tiny_prior(5), TrainSettings(batch=8, crop=32), torch.device("cpu")
    monkeypatch.setattr(precision, "_has_units", lambda device: False)
    plain = (False, "precision: float32 (no units for bfloat16 here)")
    assert precision.choose_bfloat16(prior, settings, here, 2) == plain
    monkeypatch.setattr(precision, "_has_units", lambda device: True)
    asked = []
    for seconds, chosen in (({True: 1.0, False: 2.0}, True), ({True: 1.9, False: 2.0}, False)):
        monkeypatch.setattr(
            precision,
            "_seconds_of_a_pass",
            lambda prior, model, x, kind, s=seconds: asked.append(tuple(x.shape)) or s[kind],
        )
        found, why = precision.choose_bfloat16(prior, settings, here, 2)
        assert found is chosen
        assert ("bfloat16 (a pass" if chosen else "float32 (a pass") in why
    assert set(asked) == {(2, 3, 32, 32)}  # what the device is given at once, not the batch of all
    monkeypatch.undo()
    assert precision._seconds_of_a_pass(prior, prior, torch.zeros(1, 3, 32, 32), True) > 0
    assert all(p.grad is None for p in prior.parameters())


def test_compiling_is_tried_and_measured(tiny_prior, monkeypatch):
    """What is compiled is slower by itself here: a model that is told from the prior."""
    from invdiff.training import precision

    prior, here = tiny_prior(5), torch.device("cpu")
    settings = {kind: TrainSettings(batch=8, crop=32, compile=kind) for kind in (False, True, "auto")}
    monkeypatch.setattr(torch, "compile", lambda model: (model,))
    for seconds, chosen in ((0.5, True), (0.95, False)):
        monkeypatch.setattr(
            precision, "_seconds_of_a_pass", lambda prior, model, x, kind, s=seconds: 1 if model is prior else s
        )
        found, why = precision.choose_compiled(prior, settings["auto"], here, 2, False)
        assert found is chosen
        assert why.startswith(f"compile: {'yes' if chosen else 'no'} (a compiled pass takes {seconds:.2f} of one")
    assert precision.choose_compiled(prior, settings[True], here, 2, False)[0]
    assert precision.choose_compiled(prior, settings[False], here, 2, False) == (False, "")

    def broken(model):
        raise RuntimeError("no C++ compiler\nfound here")

    monkeypatch.setattr(torch, "compile", broken)
    for kind in (True, "auto"):
        found, why = precision.choose_compiled(prior, settings[kind], here, 2, False)
        assert not found
        assert why == "compile: no, it fails here (no C++ compiler found here)"


def test_a_run_goes_on_without_a_compiler(cli, training, photos, tmp_path, monkeypatch):
    def broken(model):
        raise RuntimeError("none")

    monkeypatch.setattr(torch, "compile", broken)
    command = ["train", training, "-o", tmp_path / "run", "--data", photos, "--set", "train.compile=auto"]
    first = cli(*command, "--set", "train.steps=1")
    again = cli(*command, "--set", "train.steps=2", "--resume")
    assert (first.code, again.code) == (0, 0), first.err + again.err
    assert "compile: no, it fails here (none)" in first.err
    assert "compile:" not in again.err
    assert header(tmp_path / "run" / "checkpoint.safetensors")["compiled"] == "no"


@pytest.mark.slow
def test_a_compiled_run_learns_the_same(cli, training, photos, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler here")
    for name in ("plain", "compiled"):
        changes = ["--set", "train.steps=4", "--set", f"train.compile={'true' if name == 'compiled' else 'false'}"]
        done = cli("train", training, "-o", tmp_path / name, "--data", photos, *changes)
        assert done.code == 0, done.err
        assert ("compile: yes" in done.err) == (name == "compiled")
    one, other = (records(tmp_path / name) for name in ("plain", "compiled"))
    np.testing.assert_allclose([r["loss"] for r in one], [r["loss"] for r in other], rtol=1e-3)


def test_the_choice_of_precision_is_made_once_a_run(cli, training, photos, tmp_path, monkeypatch):
    from invdiff.training import trainer

    asked = []
    monkeypatch.setattr(trainer, "choose_bfloat16", lambda *a: (asked.append(a) or True, "precision: bfloat16"))
    command = ["train", training, "-o", tmp_path / "run", "--data", photos, "--set", "train.precision=auto"]
    first = cli(*command, "--set", "train.steps=1")
    again = cli(*command, "--set", "train.steps=2", "--resume")
    assert (first.code, again.code, len(asked)) == (0, 0, 1), first.err + again.err
    assert "precision: bfloat16" in first.err
    assert "precision:" not in again.err
    assert header(tmp_path / "run" / "checkpoint.safetensors")["precision"] == "bfloat16"


def test_a_cooldown_leaves_the_best_weights_alone(train, picture, tmp_path):
    picture("v.png", 40, 44, seed=10, folder=tmp_path / "validation")
    options = ["--validate", tmp_path / "validation"]
    train("run", *options, steps=3, validate_every=1)
    before = (tmp_path / "run" / "best.safetensors").read_bytes()
    train("run", *options, "--resume", "--cooldown", "3", steps=3, validate_every=1)
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == before
    assert len([r for r in records(tmp_path / "run") if "validation" in r]) == 6


def test_pictures_to_validate_on_that_are_all_too_small(refused, training, photos, picture, tmp_path):
    for i in range(30):
        picture(f"{i:02}.png", 20, 20, folder=tmp_path / "small")
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--quiet", "--validate", tmp_path / "small"]
    assert "no picture there has 32 pixels a side" in refused(*command)
    picture("z.png", 40, 40, folder=tmp_path / "small")
    from invdiff.assembly import build_trainer

    trainer = build_trainer(training, tmp_path / "b", [str(photos)], validate=tmp_path / "small")
    assert len(trainer.validation.clean) == 1


def test_a_second_training_changes_nothing(refused, train, training, photos, tmp_path):
    """It is refused before it writes: the log and the weights of the first are as they were."""
    from invdiff.io.atomic import alone_in

    train("run", steps=2)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    command = ["train", training, "-o", tmp_path / "run", "--data", photos, "--quiet"]
    with alone_in(tmp_path / "run"):
        for more in ([], ["--resume"], ["--resume", "--cooldown", "2"]):
            assert "another process is writing here" in refused(*command, *more)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
