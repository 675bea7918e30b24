"""Training in the loop: the samples are what the loop shows, and what they count for."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

import invdiff
from invdiff.sampler import SamplerSettings
from invdiff.training.lesson import lesson
from invdiff.training.loss import losses
from invdiff.training.settings import NoiseLevels, TrainSettings
from invdiff.training.walk import Loop, walk
from invdiff_motion.operator import Motion, MotionSettings

SAMPLER = SamplerSettings(sigmas=(0.3, 0.1, 0.02), start="measurement", renewal=1, temperature=0)
RECIPE = """\
name: walked
degradation: {kind: motion, kernel_size: 5, noise_sigma: 0.01}
prior: {kind: unet, channels: [8, 8], blocks: 1, sees_measurement: true}
guidance:
  - {kind: mistaken}
  - {kind: diffpir, iterations: 3}
sampler: {sigmas: [0.3, 0.1, 0.02], start: measurement, renewal: 1, temperature: 0}
"""


class Grey(invdiff.PriorNet):
    """Says grey, in each kind of prediction, and keeps what it was shown."""

    def __init__(self, kind="x0"):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.spec = invdiff.PriorSpec(invdiff.NoiseSchedule.linear(), prediction=kind)
        self.settings, self.shown = None, []

    def forward(self, x_t, t, condition):
        self.shown.append((x_t, t, condition))
        grey = torch.zeros_like(x_t)
        schedule, kind = self.spec.schedule, self.spec.prediction
        return invdiff.Output(schedule.target(kind, grey, schedule.to_eps(grey, x_t, t), t) + self.weight)


@pytest.fixture
def walking(training, tmp_path):
    """Writes that recipe, changed, with the settings that the others train with."""

    def write(old="", new=""):
        path = tmp_path / "walked.yaml"
        settings = training.read_text().partition("train:\n")[2]
        path.write_text(RECIPE.replace(old, new) + "train:\n  walked: true\n" + settings)
        return path

    return write


def generators(seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(2)]


def walked(prior, *guidance, sampler=SAMPLER):
    operator = Motion(MotionSettings(kernel_size=5, noise_sigma=0.01))
    x = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(9))
    drawn = generators()
    given = lesson(prior, operator, x, NoiseLevels(), drawn)
    return operator, x, given, walk(prior, operator, Loop(guidance, sampler), given, drawn)


def test_samples_are_what_the_loop_shows():
    """Without guidance and noise: the measurement first, and then the prior's grey, each as its time scales it."""
    prior = Grey()
    _, x, given, found = walked(prior)
    times = SAMPLER.times(prior.spec)
    assert found.t.tolist() == [t for t in times for _ in range(2)]
    abar = prior.spec.schedule.abar(torch.tensor(times[:1]), x)
    torch.testing.assert_close(found.x_t[:2], abar.sqrt() * prior.from_unit(given.y))
    torch.testing.assert_close(found.x_t[2:], torch.zeros_like(found.x_t[2:]), rtol=0, atol=1e-6)
    assert torch.equal(found.clean, prior.from_unit(x).repeat(3, 1, 1, 1))
    assert torch.equal(found.y, given.y.repeat(3, 1, 1, 1))
    assert torch.equal(found.condition, prior.from_unit(found.y))
    assert torch.equal(found.theta, given.theta.repeat(3, 1, 1))
    assert [torch.equal(c, prior.from_unit(given.y)) for _, _, c in prior.shown] == [True] * 3


def test_the_truth_lies_where_the_loop_has_it():
    """A prior that says the picture one pixel lower and two to the left is not taught to say it elsewhere."""

    class Elsewhere(Grey):
        def forward(self, x_t, t, condition):
            moved = self.from_unit(self.picture).roll((1, -2), (2, 3))
            return invdiff.Output(moved + self.weight)

    prior = Elsewhere()
    prior.picture = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(9))
    _, x, _, found = walked(prior)
    expected = prior.from_unit(x).roll((1, -2), (2, 3))
    assert torch.equal(found.clean[..., 3:-3, 3:-3], expected.repeat(3, 1, 1, 1)[..., 3:-3, 3:-3])


def test_guidance_leads_the_walk():
    """Told the true kernels, a data step shows the second step a picture that explains the measurement better."""
    from invdiff_kernel_guidance.proximal import Proximal, ProximalSettings

    data_step = Proximal(ProximalSettings(kernel="given", noise=0.01, spread=1.0))
    operator, _, given, found = walked(Grey(), data_step)
    schedule = Grey().spec.schedule
    shown = Grey().to_unit(found.x_t[2:4] / schedule.abar(found.t[2:4], found.x_t[2:4]).sqrt())
    left = (operator.apply(shown, given.theta) - given.y).square().mean().sqrt()
    assert left < 0.03 < (0.5 - given.y).square().mean().sqrt()


def test_noise_of_the_walk_is_each_photos_own():
    loud = SAMPLER.model_copy(update={"temperature": 1.0})
    first, again = (walked(Grey(), sampler=loud)[3] for _ in range(2))
    assert torch.equal(first.x_t, again.x_t)
    assert not torch.equal(first.x_t[0], first.x_t[1])
    assert first.x_t[2:].std() > 0.01


def test_a_picture_that_is_off_counts_the_same_in_each_kind_of_prediction():
    """0.1 off on [0, 1] at the least noise: 1 / (1 / w + 0.1^2) of the squared error, with w the kind's own weight."""
    for kind in ("x0", "eps", "v"):
        prior = Grey(kind)
        operator, _, _, found = walked(prior)
        last = [slice(4, 6)] * 8
        names = ("clean", "condition", "eps", "x_t", "t", "theta", "y", "weight")
        found = type(found)(**{n: getattr(found, n)[s] for n, s in zip(names, last, strict=True)})
        total, _, _ = losses(prior, prior, operator, found, TrainSettings())
        sigma2 = prior.spec.schedule.noise_to_signal(found.t, found.x_t)[0].double().squeeze().square()
        own = {"x0": 1.0, "eps": 1 / sigma2, "v": 1 + 1 / sigma2}[kind]  # of the picture's squared error
        error = found.clean.double().square().mean()  # of grey, in the prior's range
        torch.testing.assert_close(total.double(), error / (1 / own + 0.1**2), rtol=1e-4, atol=0)


def test_a_run_walks_and_goes_on_as_if_it_had_not_stopped(cli, photos, walking, tmp_path):
    path = walking()

    def train(folder, *more):
        done = cli("train", path, "--data", photos, "-o", tmp_path / folder, "--device", "cpu", *more)
        assert done.code == 0, done.err
        return safetensors.torch.load_file(tmp_path / folder / "checkpoint.safetensors")

    whole = train("whole")
    train("halves", "--set", "train.steps=3")
    halves = train("halves", "--resume")
    assert [name for name in whole if not torch.equal(whole[name], halves[name])] == []
    plain = train("plain", "--set", "train.walked=false")
    assert not torch.equal(plain["model.network.head.weight"], whole["model.network.head.weight"])
    assert plain["model.network.beside.weight"].any()  # plain lessons show the measurement, too


def test_a_loop_that_tells_the_prior_is_not_walked(refused, walking, tmp_path):
    path = walking("{sigmas", "{feedback: true, sigmas")
    assert "sampler.feedback" in refused("train", path, "--data", tmp_path, "-o", tmp_path / "run")


def test_a_loop_that_does_not_fit_is_refused(refused, walking, tmp_path):
    path = walking("start: measurement, ")
    assert "sampler.sigmas" in refused("train", path, "--data", tmp_path, "-o", tmp_path / "run")


def test_a_loop_of_several_orientations_is_not_walked(refused, walking, tmp_path):
    """What it shows from the second on would be learned from with the truth of the first."""
    path = walking("{sigmas", "{orientations: 2, sigmas")
    assert "sampler.orientations" in refused("train", path, "--data", tmp_path, "-o", tmp_path / "run")
