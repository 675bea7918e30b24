"""Training: the objective, the streams of random numbers, and a run that stops and goes on as if it had not."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import invdiff
from invdiff.assembly import build_trainer
from invdiff.errors import TrainingError
from invdiff.prior import from_denoiser
from invdiff.training.lesson import draw_times, lesson
from invdiff.training.loss import losses
from invdiff.training.settings import NoiseLevels, TrainSettings, is_told, learning_rate
from invdiff.training.trainer import Trainer


def tensors(folder):
    return safetensors.torch.load_file(folder / "checkpoint.safetensors")


def step_of(folder):
    with safetensors.safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
        return int(file.metadata()["step"])


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses_of(folder):
    return [[r[k] for k in ("step", "loss", "image_loss", "parameter_loss", "learning_rate")] for r in log_of(folder)]


def assert_same_run(a, b):
    one, other = tensors(a), tensors(b)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert losses_of(a) == losses_of(b)
    assert step_of(a) == step_of(b)


def test_files_and_log(train, tmp_path):
    result = train("a")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "checkpoint.safetensors",
        "log.jsonl",
        "weights.safetensors",
    ]
    records = log_of(tmp_path / "a")
    assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6]
    for r in records:
        assert r["steps"] == 6
        assert r["loss"] == pytest.approx(r["image_loss"] + r["parameter_loss"], rel=1e-5)
        assert r["learning_rate"] == 2e-3
        assert r["images_per_second"] > 0
    assert step_of(tmp_path / "a") == 6


def test_log_holds_means_and_the_last_step(train, tmp_path):
    train("a")
    train("b", log_every=4)
    fine = log_of(tmp_path / "a")
    coarse = log_of(tmp_path / "b")
    assert [r["step"] for r in coarse] == [4, 6]
    assert coarse[0]["loss"] == pytest.approx(sum(r["loss"] for r in fine[:4]) / 4, rel=1e-5)
    assert coarse[1]["loss"] == pytest.approx(sum(r["loss"] for r in fine[4:]) / 2, rel=1e-5)


def test_speaks_unless_quiet(cli, training, photos, tmp_path):
    result = cli("train", training, "-o", tmp_path / "a", "--data", photos, "--set", "train.steps=1")
    assert result.code == 0
    assert f"{tmp_path / 'a' / 'weights.safetensors'}: step 1" in result.out
    assert "step 1/1" in result.err


def test_loss_falls(train, tmp_path):
    train("a", steps=70, learning_rate="5e-3")
    found = [r["loss"] for r in log_of(tmp_path / "a")]
    assert sum(found[-10:]) < 0.8 * sum(found[:10])


def test_trained_weights_restore(train, recipe, cli, training, tmp_path, report):
    train("a")
    path = tmp_path / "a" / "weights.safetensors"
    prior = invdiff.load_prior(path)
    averaged = {n.removeprefix("ema."): t for n, t in tensors(tmp_path / "a").items() if n.startswith("ema.")}
    assert prior.state_dict().keys() == averaged.keys()
    for name, value in prior.state_dict().items():
        assert torch.equal(value, averaged[name].half().float()), name
    with safetensors.safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["note"])["step"] == 6
    user = recipe(("kernel_size: 21", "kernel_size: 5"), weights=path)
    assert cli("run", user, "-o", tmp_path / "out").code == 0
    assert "psnr_y" in report(tmp_path / "out")["astronaut"]["metrics"]


def test_average_follows_the_weights(training, photos, tmp_path):
    trainer = build_trainer(training, tmp_path / "a", [str(photos)], ["train.steps=1"])
    start = {name: value.clone() for name, value in trainer.prior.state_dict().items()}
    trainer.run()
    found = tensors(tmp_path / "a")
    moved = 0
    for name, before in start.items():
        model = found[f"model.{name}"]
        torch.testing.assert_close(found[f"ema.{name}"], 0.1 * before + 0.9 * model, msg=name)  # (1 + 0) / (10 + 0)
        moved += not torch.equal(before, model)
    assert moved >= 3  # not all: the head starts at zero and holds back what lies before it


def test_resume_is_exact(train, tmp_path):
    train("straight")
    train("halves", steps=3)
    assert step_of(tmp_path / "halves") == 3
    result = train("halves", "--resume")
    assert (result.code, result.err) == (0, "")
    assert_same_run(tmp_path / "straight", tmp_path / "halves")


def test_resume_drops_log_lines_after_the_checkpoint(train, tmp_path):
    train("straight")
    train("halves", steps=3)
    with open(tmp_path / "halves" / "log.jsonl", "a") as log:
        log.write(json.dumps({"step": 4, "loss": 1.0}) + "\n")
    train("halves", "--resume")
    assert_same_run(tmp_path / "straight", tmp_path / "halves")


def test_resume_of_a_finished_run_changes_nothing(train, tmp_path):
    train("a", steps=2)
    before = tensors(tmp_path / "a")
    assert train("a", "--resume", steps=2).code == 0
    assert all(torch.equal(before[name], value) for name, value in tensors(tmp_path / "a").items())
    assert [r["step"] for r in log_of(tmp_path / "a")] == [1, 2]


def test_number_of_workers_does_not_matter(train, tmp_path):
    train("one", workers=1)
    train("four", workers=4)
    assert_same_run(tmp_path / "one", tmp_path / "four")


def test_seed_matters(train, tmp_path):
    train("one", steps=1)
    train("two", "--seed", 1, steps=1)
    assert losses_of(tmp_path / "one") != losses_of(tmp_path / "two")


def test_interrupted_between_steps(train, tmp_path, monkeypatch):
    from invdiff.cli.display import TrainDisplay

    def stop(self, event):
        if event.done == 3:
            signal.raise_signal(signal.SIGINT)

    train("straight")
    with monkeypatch.context() as patch:
        patch.setattr(TrainDisplay, "show", stop)
        result = train("stopped")
    assert (result.code, result.out, result.err.strip()) == (130, "", "interrupted")
    assert step_of(tmp_path / "stopped") == 3
    assert invdiff.load_prior(tmp_path / "stopped" / "weights.safetensors")
    train("stopped", "--resume")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("place", ["torch.optim.Adam.step", "invdiff.training.trainer.save_prior"])
def test_interrupted_at_a_bad_moment(train, tmp_path, monkeypatch, place):
    """Ctrl-C can land anywhere: just after the weights moved, or while averages are being written."""
    train("straight", checkpoint_every=3)
    module, _, name = place.rpartition(".")
    owner = torch.optim.Adam if module.endswith("Adam") else __import__(module, fromlist=[name])
    original, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(name)
        result = original(*args, **kwargs)
        if len(calls) == (3 if name == "step" else 1):
            signal.raise_signal(signal.SIGINT)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        assert train("stopped", checkpoint_every=3).code == 130
    assert step_of(tmp_path / "stopped") in (2, 3)
    assert train("stopped", "--resume", checkpoint_every=3).code == 0
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_resume_with_other_settings_is_refused(train, refused, training, photos, tmp_path):
    train("a", steps=2)
    before = (tmp_path / "a" / "checkpoint.safetensors").read_bytes()
    for change in ("train.learning_rate=1e-3", "train.batch=3", "degradation.kernels.sigma=[1, 2]", "seed=5"):
        command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--resume", "--set", change]
        message = refused(*command)
        assert message.startswith(f"{tmp_path / 'a' / 'checkpoint.safetensors'}: belongs to a run with other settings")
    assert (tmp_path / "a" / "checkpoint.safetensors").read_bytes() == before


def identified(path, change):
    """Rewrites what a checkpoint says of its run's settings."""
    with safetensors.safe_open(path, framework="pt") as file:
        header = file.metadata()
    values = safetensors.torch.load_file(path)
    identity = json.loads(header["identity"])
    safetensors.torch.save_file(values, path, {**header, "identity": json.dumps(change(identity))})


def test_settings_in_another_order_are_the_same(train, tmp_path):
    """As a checkpoint of before has them, where a release sorted a section anew."""

    def turned(value):
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    train("a", steps=2)
    identified(tmp_path / "a" / "checkpoint.safetensors", turned)
    assert train("a", "--resume", steps=3).code == 0
    assert step_of(tmp_path / "a") == 3


def test_settings_that_a_checkpoint_does_not_know_are_as_by_default(train, refused, training, photos, tmp_path):
    """A run goes on after an update that has more settings; not, where one of them is in force."""

    def earlier(identity):
        del identity["train"]["walked"], identity["train"]["losses"], identity["train"]["told"]
        return identity

    train("a", steps=2)
    path = tmp_path / "a" / "checkpoint.safetensors"
    identified(path, earlier)
    for change in ("train.told=0.5", "train.losses.charbonnier=1"):
        command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--resume", "--set", change]
        assert "belongs to a run with other settings" in refused(*command)
    assert train("a", "--resume", steps=3).code == 0


@pytest.mark.parametrize("identity", [[], {}, {"train": 3}, 5, None, "x"])
def test_a_checkpoint_of_no_settings_is_another_runs(train, refused, training, photos, tmp_path, identity):
    train("a", steps=2)
    identified(tmp_path / "a" / "checkpoint.safetensors", lambda _: identity)
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--resume"]
    assert "belongs to a run with other settings" in refused(*command)


def test_resume_with_other_workers_is_allowed(train, tmp_path):
    train("a", steps=2, workers=1)
    assert train("a", "--resume", workers=2).err == ""


def test_resume_without_a_checkpoint(refused, training, photos, tmp_path):
    message = refused("train", training, "-o", tmp_path / "a", "--data", photos, "--resume")
    assert (
        message
        == f"{tmp_path / 'a' / 'checkpoint.safetensors'}: no checkpoint to resume from; leave --resume out to begin"
    )


def test_resume_from_a_damaged_checkpoint(train, refused, training, photos, tmp_path):
    train("a", steps=1)
    path = tmp_path / "a" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    message = refused("train", training, "-o", tmp_path / "a", "--data", photos, "--resume")
    assert message.startswith(f"{path}: not a readable safetensors file")


def test_existing_run_is_not_overwritten(train, refused, training, photos, tmp_path):
    train("a", steps=1)
    before = (tmp_path / "a" / "checkpoint.safetensors").read_bytes()
    message = refused("train", training, "-o", tmp_path / "a", "--data", photos)
    assert "--resume" in message
    assert (tmp_path / "a" / "checkpoint.safetensors").read_bytes() == before


def test_non_finite_loss_keeps_the_last_checkpoint(train, tmp_path, monkeypatch):
    import invdiff.training.trainer

    train("straight", steps=3)
    original, calls = invdiff.training.trainer.losses, []

    def broken(*args, **kwargs):
        calls.append(1)
        total, image, parameter = original(*args, **kwargs)
        return (total * math.nan if len(calls) == 4 else total), image, parameter

    with monkeypatch.context() as patch:
        patch.setattr(invdiff.training.trainer, "losses", broken)
        result = train("a", checkpoint_every=1)
    assert result.code == 2
    assert result.err == (
        f"error: the loss is not finite at step 4; {tmp_path / 'a' / 'checkpoint.safetensors'} is the last good state\n"
    )
    assert step_of(tmp_path / "a") == 3
    straight = tensors(tmp_path / "straight")
    assert all(torch.equal(straight[name], value) for name, value in tensors(tmp_path / "a").items())


def test_non_finite_loss_before_the_first_checkpoint(train, tmp_path):
    result = train("a", learning_rate="1e30")
    assert result.code == 2
    assert result.err.startswith("error: the loss is not finite at step 2")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "a" / "checkpoint.safetensors").exists()
    assert "checkpoint.safetensors" not in result.err  # which is not there


def test_second_start_without_a_checkpoint_has_a_log_of_its_own(train, tmp_path):
    train("a", learning_rate="1e30")
    assert train("a", steps=2).code == 0
    assert [r["step"] for r in log_of(tmp_path / "a")] == [1, 2]


def test_clip_limits_the_step(training, photos, tmp_path):
    def moved(clip):
        trainer = build_trainer(training, tmp_path / str(clip), [str(photos)], ["train.steps=1", f"train.clip={clip}"])
        start = {name: value.clone() for name, value in trainer.prior.state_dict().items()}
        trainer.run()
        return max(float((value - start[name]).abs().max()) for name, value in trainer.prior.state_dict().items())

    assert moved(1.0) == pytest.approx(2e-3, rel=0.01)  # Adam's first step is the learning rate
    assert moved(1e-12) < 2e-3 * 1e-12 / 1e-8 * 1.01  # unless gradients are below its epsilon


def test_rate_halves():
    settings = TrainSettings(learning_rate=4e-4, halve_every=100)
    assert [learning_rate(settings, s) for s in (0, 99, 100, 199, 200)] == [4e-4, 4e-4, 2e-4, 2e-4, 1e-4]


def test_rate_cosine():
    settings = TrainSettings(learning_rate=1.0, decay="cosine", steps=100)
    for step, expected in ((0, 1.0), (25, 0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2), (50, 0.505), (100, 0.01)):
        assert learning_rate(settings, step) == pytest.approx(expected, abs=1e-9)


def test_rate_warms_up():
    settings = TrainSettings(learning_rate=1.0, decay="none", warmup=4)
    assert [learning_rate(settings, s) for s in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_rate_is_logged(train, tmp_path):
    train("a", decay="halve", halve_every=2, learning_rate="8e-4")
    assert [r["learning_rate"] for r in log_of(tmp_path / "a")] == [8e-4, 8e-4, 4e-4, 4e-4, 2e-4, 2e-4]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_times(tiny_prior, share):
    prior = tiny_prior(kernel_size=5)
    levels = NoiseLevels(lognormal_share=share, median=0.2, spread=0.5)
    t = draw_times(prior, levels, 20_000, torch.Generator().manual_seed(0))
    assert int(t.min()) >= 0
    assert int(t.max()) < 1000
    abar = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)
    sigma = ((1 - abar) / abar).sqrt()
    for factor in (0.5, 1.0, 2.0):
        below_uniform = float((sigma < 0.2 * factor).double().mean())
        below_normal = 0.5 * (1 + math.erf(math.log(factor) / 0.5 / math.sqrt(2)))
        expected = share * below_normal + (1 - share) * below_uniform
        assert float((sigma[t] < 0.2 * factor).double().mean()) == pytest.approx(expected, abs=0.02)


class Shrink(invdiff.Degradation):
    """Every second pixel, with two parameters that are always 0.25 and 0.75 of an image's number."""

    scale = 2
    parameters = invdiff.BoxSpace(("a", "b"), (0.0, 0.0), (9.0, 9.0))

    def sample_parameters(self, batch, generator):
        return torch.arange(1.0, batch + 1)[:, None] * torch.tensor([0.25, 0.75])

    def apply(self, x, theta):
        return x[..., ::2, ::2]

    def lift(self, y):
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2)


class Constant(invdiff.PriorNet):
    """Says the same whatever it sees, and remembers what it saw."""

    spec = invdiff.PriorSpec(invdiff.NoiseSchedule.linear(), parameter_shape=(2,))

    def forward(self, x_t, t, condition):
        self.seen = x_t, condition
        return invdiff.Output(torch.full_like(x_t, 0.3), torch.full((len(x_t), 2), 0.5))


def test_objective_of_a_noise_prior():
    """Eq. 13: mean squared error of the noise plus weight times the L1 error of the parameters."""
    x = torch.rand(3, 3, 8, 8)
    prior, settings = Constant(), TrainSettings(parameter_weight=0.7)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    given = lesson(prior, Shrink(), x, settings.noise, generators)
    total, image, parameter = losses(prior, prior, Shrink(), given, settings)

    (x_t, condition), t = prior.seen, given.t
    assert torch.equal(condition, 2 * Shrink().lift(x[..., ::2, ::2]) - 1)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)[t].float()[:, None, None, None]
    eps = (x_t - abar.sqrt() * (2 * x - 1)) / (1 - abar).sqrt()
    assert float(eps.mean()) == pytest.approx(0, abs=0.15)
    assert float(eps.std()) == pytest.approx(1, abs=0.15)
    expected_image = float((eps - 0.3).square().mean())
    # Each image is a batch of its own to the operator, which then draws (0.25, 0.75).
    expected_parameter = (0.25 + 0.25) / 1
    assert float(image) == pytest.approx(expected_image, rel=1e-4)
    assert float(parameter) == pytest.approx(expected_parameter, rel=1e-6)
    assert float(total) == pytest.approx(expected_image + 0.7 * expected_parameter, rel=1e-4)


class Taking(Constant):
    """Takes parameters, and remembers which."""

    spec = replace(Constant.spec, takes_parameters=True)

    def forward(self, x_t, t, condition, told=None):
        self.told = told
        return super().forward(x_t, t, condition)


def test_a_prior_that_is_told_the_truth_is_still_asked_for_its_own():
    prior, settings = Taking(), TrainSettings()
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    given = lesson(prior, Shrink(), torch.rand(2, 3, 8, 8), settings.noise, generators)
    alone = losses(prior, prior, Shrink(), given, settings)
    assert prior.told is None
    told = losses(prior, prior, Shrink(), given, settings, told=True)
    assert torch.equal(prior.told, torch.tensor([[0.25, 0.75]] * 2))
    assert told == alone  # this one's picture does not depend on them, and its estimate is measured as before


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_told_steps_are_spread_evenly(share):
    chosen = [is_told(TrainSettings(told=share), step) for step in range(1000)]
    assert sum(chosen) == round(share * 1000)
    places = [step for step, one in enumerate(chosen) if one]
    assert {after - before for before, after in pairwise(places)} <= {round(1 / share) if share else 0}


def test_being_told_changes_what_is_learned_and_goes_on_exactly(train, tmp_path):
    train("own", steps=4)
    train("told", steps=4, told=0.5)
    own, told = tensors(tmp_path / "own"), tensors(tmp_path / "told")
    assert [name for name in own if not torch.equal(own[name], told[name])] != []
    train("stopped", steps=3, told=0.5)
    assert train("stopped", "--resume", steps=4, told=0.5).code == 0
    assert_same_run(tmp_path / "told", tmp_path / "stopped")


def test_a_prior_that_takes_no_parameters_cannot_be_told(refused, training, photos, tmp_path):
    deaf = ("--set", "prior.network.modulation=level", "--set", "train.told=0.5")
    message = refused("train", training, "--data", photos, "-o", tmp_path / "deaf", *deaf)
    assert message.endswith("train.told: this prior takes no parameters, it can only restore with its own")


READS = ("--set", "prior.network.estimator.reads=measurement")


def test_learning_parameters_alone_leaves_the_picture_as_it_is(train, tmp_path):
    """And goes on exactly: what it names is the parameters' loss alone."""
    train("before", *READS, steps=1)
    more = {"start": tmp_path / "before" / "weights.safetensors", "learns": "parameters", "learning_rate": 2e-2}
    assert train("after", *READS, **more).code == 0
    before, after = tensors(tmp_path / "before"), tensors(tmp_path / "after")
    names = [name for name in after if name.startswith("model.")]
    start = {name: before[name.replace("model.", "ema.")].half().float() for name in names}
    moved = {name for name in names if not torch.equal(start[name], after[name])}
    assert moved == {name for name in names if name.startswith("model.network.estimator.")}
    assert all(
        r["image_loss"] == 0 and r["loss"] == pytest.approx(r["parameter_loss"]) for r in log_of(tmp_path / "after")
    )
    train("stopped", *READS, steps=3, **more)
    assert train("stopped", "--resume", *READS, **more).code == 0
    assert_same_run(tmp_path / "after", tmp_path / "stopped")


def test_a_prior_that_estimates_none_learns_no_parameters(tmp_path):
    given = {"kind": "none", "seed": 0, "device": torch.device("cpu"), "note": {}}
    prior = from_denoiser(torch.nn.Bilinear(1, 1, 1))
    with pytest.raises(TrainingError, match="this prior estimates none"):
        Trainer(prior, Shrink(), TrainSettings(learns="parameters"), tmp_path, **given)


def test_folders_of_photos_that_are_not_there_or_hold_only_hidden_files(refused, training, tmp_path):
    message = refused("train", training, "--data", tmp_path / "nowhere", "-o", tmp_path / "run")
    assert (
        message == f"{tmp_path / 'nowhere'}: no such folder or .tar; --data names folders of photos, and shards of them"
    )
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "._p.png").write_bytes(b"a note of another system")
    message = refused("train", training, "--data", tmp_path / "hidden", "-o", tmp_path / "run")
    assert "no pictures in this folder" in message


def test_photos_are_read_as_run_reads_them(tmp_path):
    """16 bit, alpha, palettes and CMYK: a crop of the whole picture is what ``io.pictures`` makes of it, in 8 bits."""
    from PIL import Image

    from invdiff.io.decoding import load
    from invdiff.training.crops import PhotoCrops

    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    noise = rng.integers(0, 255, (32, 32, 4), dtype=np.uint8)
    pictures = {
        "deep.png": Image.fromarray(ramp),
        "alpha.png": Image.fromarray(noise, "RGBA"),
        "palette.png": Image.fromarray(noise[..., :3]).quantize(16),
        "print.jpg": Image.fromarray(noise, "CMYK"),
        "turned.jpg": Image.fromarray(noise[..., :3]),
    }
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, picture in pictures.items():
        picture.save(tmp_path / name, **({"exif": exif} if name == "turned.jpg" else {}))
    assert float(load(tmp_path / "deep.png").pixels.mean()) == pytest.approx(0.5, abs=1e-3)
    for name in pictures:
        want = (load(tmp_path / name).pixels * 255).round()
        crop = PhotoCrops([tmp_path / name], 32, (1.0, 1.0), seed=0).batch([0])[0] * 255
        turned = [torch.rot90(flipped, k, (1, 2)) for flipped in (want, want.flip(2)) for k in range(4)]
        assert any(torch.equal(crop, one) for one in turned), name
