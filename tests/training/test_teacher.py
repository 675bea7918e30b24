"""A teacher sees what its pupil sees, in its own units, and its picture takes the truth's place in part."""

from __future__ import annotations

import json

import pytest
import safetensors
import safetensors.torch
import torch

import invdiff
from invdiff.components.weights import save_prior
from invdiff.schedule import NoiseSchedule
from invdiff.training.lesson import lesson
from invdiff.training.loss import losses
from invdiff.training.settings import ImageLosses, NoiseLevels, TrainSettings
from invdiff.training.teacher import Teacher
from invdiff_blindsr.operator import BlindSR, BlindSRSettings


class Told(invdiff.PriorNet):
    """On [0, 1], by a schedule of its own: half of what it is shown, and keeps that."""

    def __init__(self, kind="x0", takes=True):
        super().__init__()
        schedule = NoiseSchedule.linear(400, 1e-4, 4e-2)
        self.spec = invdiff.PriorSpec(schedule, value_range=(0.0, 1.0), prediction=kind, takes_parameters=takes)

    def forward(self, x_t, t, condition, *told):
        self.shown = (x_t, t, condition, told)
        schedule = self.spec.schedule
        half = 0.5 * x_t / schedule.abar(t, x_t).sqrt()
        return invdiff.Output(schedule.target(self.spec.prediction, half, schedule.to_eps(half, x_t, t), t))


class Pupil(invdiff.PriorNet):
    """On [-1, 1], by the usual schedule: says nothing but a weight."""

    def __init__(self, kind):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.spec = invdiff.PriorSpec(invdiff.NoiseSchedule.linear(), prediction=kind)

    def forward(self, x_t, t, condition):
        return invdiff.Output(torch.zeros_like(x_t) + self.weight)


@pytest.fixture
def teaching(tiny_prior, tmp_path):
    """A file with the weights of a prior for kernels as the recipe has them."""
    save_prior(tiny_prior(kernel_size=5, seed=7), "mcformer", tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


def given_to(pupil):
    operator = BlindSR(BlindSRSettings(scale=2, kernel_size=5))
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    return operator, lesson(pupil, operator, x, NoiseLevels(lognormal_share=0.7), generators)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_the_teacher_sees_the_same_in_its_own_units(kind):
    pupil, teacher = Pupil(kind), Told()
    operator, given = given_to(pupil)
    Teacher(teacher, 0.5).mixed(pupil, given)
    x_t, t, condition, (theta,) = teacher.shown
    torch.testing.assert_close(condition, operator.lift(given.y), atol=1e-6, rtol=0)
    assert torch.equal(theta, given.theta)
    noise, theirs = (
        s.noise_to_signal(times, torch.empty(4, dtype=torch.float64))
        for s, times in ((pupil.spec.schedule, given.t), (teacher.spec.schedule, t))
    )
    within = noise / 2 < 1.01 * teacher.spec.schedule.noise_to_signal(torch.tensor([399]), theirs[:1])
    assert within.sum() >= 3
    torch.testing.assert_close(theirs[within], noise[within] / 2, rtol=0.1, atol=0.005)  # the range is half as wide
    clean = (given.clean + 1) / 2
    seen = x_t / teacher.spec.schedule.abar(t, x_t).sqrt()
    expected = clean + noise.float().view(-1, 1, 1, 1) / 2 * given.eps
    torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("of_the_teacher", ["eps", "x0", "v"])
def test_its_picture_is_the_answer_in_part(kind, of_the_teacher):
    """By hand: three parts of the truth and one of half of what was seen; the error is of that."""
    pupil, teacher = Pupil(kind), Told(of_the_teacher)
    operator, given = given_to(pupil)
    mixed = Teacher(teacher, 0.25).mixed(pupil, given)
    abar = pupil.spec.schedule.abar(given.t, given.x_t)
    seen = (given.x_t / abar.sqrt() + 1) / 2
    expected = 0.75 * given.clean + 0.25 * (2 * 0.5 * seen - 1)
    torch.testing.assert_close(mixed, expected, rtol=1e-3, atol=2e-3)
    settings = TrainSettings(losses=ImageLosses(consistency=0))
    _, found, _ = losses(pupil, pupil, operator, given, settings, teacher=Teacher(teacher, 0.25))
    noise = (given.x_t - abar.sqrt() * mixed) / (1 - abar).sqrt()
    answer = {"x0": mixed, "eps": noise, "v": abar.sqrt() * noise - (1 - abar).sqrt() * mixed}[kind]
    assert float(found.detach()) == pytest.approx(float(answer.square().mean()), rel=1e-4)


def test_a_teacher_that_takes_no_parameters_is_told_none():
    pupil, teacher = Pupil("x0"), Told(takes=False)
    _, given = given_to(pupil)
    Teacher(teacher, 1.0).mixed(pupil, given)
    assert teacher.shown[3] == ()


def test_other_terms_look_at_the_truth():
    """A pupil that says the truth pays the teacher's part of the squared error, and nothing for its measurements."""
    pupil, teacher = Pupil("x0"), Teacher(Told(), 1.0)
    operator, given = given_to(pupil)
    right = lambda *_: invdiff.Output(given.clean + pupil.weight)  # noqa: E731
    found = [
        float(losses(pupil, right, operator, given, TrainSettings(losses=terms), teacher=teacher)[1].detach())
        for terms in (ImageLosses(), ImageLosses(consistency=1.0, fourier=1.0))
    ]
    assert found[0] > 1e-3
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_recipe_names_its_teacher(train, refused, training, teaching, photos, tmp_path):
    """It changes what is learned, stands beside the weights, is itself left as it is, and belongs to the run."""
    before = teaching.read_bytes()
    teacher = ["--set", f"train.teacher={{prior: {{kind: mcformer, weights: {teaching}}}, share: 0.75}}"]
    assert train("plain", steps=2).code == 0
    done = train("taught", *teacher, steps=2)
    assert done.code == 0, done.err
    plain, taught = (safetensors.torch.load_file(tmp_path / n / "weights.safetensors") for n in ("plain", "taught"))
    assert any(not torch.equal(plain[name], taught[name]) for name in plain)
    with safetensors.safe_open(tmp_path / "taught" / "weights.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["note"])["teacher"]["share"] == 0.75
    assert teaching.read_bytes() == before
    assert train("taught", "--resume", *teacher, steps=3).code == 0
    again = ["train", training, "-o", tmp_path / "taught", "--data", photos, "--quiet", "--resume"]
    assert "belongs to a run with other settings" in refused(*again)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("{prior: {kind: mcformre}}", "did you mean 'mcformer'"),
        ("{prior: {weights: a.safetensors}}", "train.teacher.prior.kind: missing"),
        ("{prior: {kind: mcformer, weights: WEIGHTS, patch_size: 9}}", "train.teacher.prior"),
        ("{prior: {kind: mcformer, weights: WEIGHTS}, share: 0}", "greater than 0, got 0"),
        ("{prior: {kind: mcformer}}", "train.teacher.prior: names no weights"),
        ("{share: 0.5}", "train.teacher.prior"),
    ],
)
def test_a_teacher_that_cannot_be(refused, training, teaching, photos, tmp_path, teacher, said):
    change = f"train.teacher={teacher.replace('WEIGHTS', str(teaching))}"
    assert said in refused("train", training, "-o", tmp_path / "a", "--data", photos, "--set", change)
    assert not (tmp_path / "a").exists()


def test_a_teacher_for_other_kernels(refused, training, weights, photos, tmp_path):
    change = f"train.teacher={{prior: {{kind: mcformer, weights: {weights}}}}}"
    message = refused("train", training, "-o", tmp_path / "a", "--data", photos, "--set", change)
    assert "train.teacher.prior: the prior estimates 21x21 parameters, the recipe's degradation has 5x5" in message
