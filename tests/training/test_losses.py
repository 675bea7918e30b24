"""What a recipe can add to the loss of the picture, each term against its closed form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import torch

import invdiff
from invdiff.metrics.lpips import LPIPS
from invdiff.training.lesson import lesson
from invdiff.training.loss import losses
from invdiff.training.settings import ImageLosses, NoiseLevels, TrainSettings
from invdiff.training.terms import charbonnier, consistency, fourier
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from lpips_stand_in import write_weights


class Blur(invdiff.Degradation):
    """A gain that is the image's parameter, and noise."""

    parameters = invdiff.BoxSpace(("gain",), (0.0,), (9.0,))

    def sample_parameters(self, batch, generator):
        return torch.full((batch, 1), 3.0)

    def apply(self, x, theta):
        return theta[:, :, None, None] * x

    def lift(self, y):
        return y


class Off(invdiff.PriorNet):
    """Right but for a constant, in each kind of prediction."""

    def __init__(self, kind, by):
        super().__init__()
        self.by = torch.nn.Parameter(torch.tensor(by))
        self.spec = invdiff.PriorSpec(invdiff.NoiseSchedule.linear(), prediction=kind)

    def loss_weight(self, t):
        return torch.full((len(t),), 4.0)

    def knows(self, given):
        self.right = self.spec.schedule.target(self.spec.prediction, given.clean, given.eps, given.t)

    def forward(self, x_t, t, condition):
        return invdiff.Output(self.right + self.by)


def image_loss(prior, operator=None, *, slopes=False, side=8, lpips=None, **terms):
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    x = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(9))
    operator = operator or Blur()
    given = lesson(prior, operator, x, NoiseLevels(), generators)
    prior.knows(given)
    total, image, _ = losses(prior, prior, operator, given, TrainSettings(losses=ImageLosses(**terms)), lpips=lpips)
    assert torch.equal(total, image)
    return image.detach() if not slopes else image, given


def test_charbonnier():
    error = torch.tensor([[0.0, 3.0], [1e-4, -5.0]])
    expected = [(np.sqrt(9 + 16) - 4) / 2, (np.sqrt(1e-8 + 16) - 4 + np.sqrt(25 + 16) - 4) / 2]
    np.testing.assert_allclose(charbonnier(error, 4.0).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(charbonnier(error, 1e-6).numpy(), error.abs().mean(1).numpy(), atol=1e-5)


def test_fourier_of_a_wave():
    """A cosine is two frequencies of half its amplitude; the transform is scaled by the root of the pixels."""
    rows = torch.arange(16.0)[:, None].expand(16, 16)
    wave = torch.cos(2 * torch.pi * 3 * rows / 16).expand(1, 3, 16, 16)
    found = fourier(0.75 * wave, 0.25 * wave)
    assert float(found) == pytest.approx(0.5 * 2 * (16 * 16 / 2) / 16 / (16 * 16), rel=1e-5)


def test_fourier_does_not_see_where():
    x = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    assert float(fourier(x.roll((3, 4), (-2, -1)), x).max()) < 1e-6
    assert float(fourier(x.flip(-2, -1), x).max()) < 1e-6
    assert float(fourier(x.sqrt(), x).min()) > 1e-3
    numpy = np.abs(np.abs(np.fft.fft2(x.sqrt().numpy())) - np.abs(np.fft.fft2(x.numpy()))) / np.sqrt(120)
    np.testing.assert_allclose(fourier(x.sqrt(), x).numpy(), numpy.mean((1, 2, 3)), rtol=1e-4)


def test_consistency_is_that_of_the_measurements():
    """By the operator itself, told the kernel; for a gain, its square times the squared error."""
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    theta = torch.tensor([[2.0], [3.0]])
    np.testing.assert_allclose(consistency(Blur(), x + 0.1, x, theta).numpy(), [0.04, 0.09], rtol=1e-4)
    operator = BlindSR(BlindSRSettings(scale=4, kernel_size=5, noise_sigma=0.2))
    kernels = operator.sample_parameters(2, torch.Generator().manual_seed(1))
    flat = consistency(operator, x + 0.1, x, kernels)  # kernels sum to one
    np.testing.assert_allclose(flat.numpy(), [0.01, 0.01], rtol=1e-3)
    assert float(consistency(operator, x, x, kernels).max()) == 0


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_terms_add_up_with_their_weights(kind):
    """A network that is off by 0.2 everywhere: what each term of it is, by hand."""
    prior = Off(kind, 0.2)
    one, given = image_loss(prior)
    assert float(one) == pytest.approx(4 * 0.04, rel=1e-4)
    both, _ = image_loss(prior, charbonnier=0.5, softness=0.1)
    assert float(both - one) == pytest.approx(0.5 * (np.sqrt(4 * 0.04 + 0.01) - 0.1), rel=1e-4)
    alone, _ = image_loss(prior, squared=0, charbonnier=0.5, softness=0.1)
    assert float(alone) == pytest.approx(float(both - one), rel=1e-4)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)[given.t].numpy()
    off = 0.1 * {"eps": np.sqrt((1 - abar) / abar), "x0": np.ones(3), "v": np.sqrt(1 - abar)}[kind]  # of the picture
    counts = abar if kind == "eps" else np.ones(3)
    with_consistency, _ = image_loss(prior, consistency=2.0)
    assert float(with_consistency - one) == pytest.approx(np.mean(2 * counts * (3 * off) ** 2), rel=1e-3)
    x = (given.clean.double() + 1) / 2
    sign = 1 if kind == "x0" else -1
    moved = x + sign * torch.tensor(off)[:, None, None, None]
    spectra = [np.abs(np.fft.fft2(image.numpy())) / 8 for image in (moved, x)]
    by_hand = (counts * np.abs(spectra[0] - spectra[1]).mean((1, 2, 3))).mean()
    with_fourier, _ = image_loss(prior, fourier=3.0)
    assert float(with_fourier - one) == pytest.approx(3 * by_hand, rel=1e-3)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("by", [0.0, 1e-20, 0.3, 1e4])
def test_gradients_are_finite(kind, by):
    """Where the network is right as well, where roots and magnitudes have corners."""
    terms = {"charbonnier": 1.0, "fourier": 1.0, "consistency": 1.0}
    prior = Off(kind, by)
    value, _ = image_loss(prior, BlindSR(BlindSRSettings(scale=2, kernel_size=5)), slopes=True, **terms)
    (slope,) = torch.autograd.grad(value, prior.by)
    assert bool(value.isfinite())
    assert bool(slope.isfinite())
    assert abs(float(slope)) < 1e6
    flat = torch.zeros(1, 3, 8, 8, requires_grad=True)  # magnitudes of nothing
    (slope,) = torch.autograd.grad(fourier(flat, torch.zeros(1, 3, 8, 8)).sum(), flat)
    assert bool(slope.isfinite().all())


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_perceptual_is_the_metric(kind, tmp_path):
    """The distance that is measured, of the pictures that the answers stand for; flat where they are right."""
    write_weights(tmp_path, "vgg")
    lpips = LPIPS(tmp_path)
    one, given = image_loss(Off(kind, 0.2), side=32)
    both, _ = image_loss(Off(kind, 0.2), side=32, lpips=lpips, perceptual=2.0)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)[given.t]
    off = 0.1 * {"eps": -((1 - abar) / abar).sqrt(), "x0": torch.ones(3), "v": -(1 - abar).sqrt()}[kind]
    truth = (given.clean + 1) / 2
    moved = truth + off.float().view(-1, 1, 1, 1)
    counts = abar if kind == "eps" else torch.ones(3)
    by_hand = sum(float(c) * lpips(a, b) for a, b, c in zip(moved, truth, counts, strict=True)) / 3
    assert float(both - one) == pytest.approx(2 * by_hand, rel=0.02)
    right = Off(kind, 0.0)
    value, _ = image_loss(right, side=32, slopes=True, lpips=lpips, perceptual=2.0)
    (slope,) = torch.autograd.grad(value, right.by)
    assert bool(slope.isfinite())
    assert abs(float(slope)) < 0.1


def test_perceptual_goes_with_weights(train, refused, training, photos, tmp_path):
    asked = ["--set", "train.losses.perceptual=1"]
    command = ["train", training, "-o", tmp_path / "a", "--data", photos]
    assert "train.losses.perceptual: needs weights: --lpips FOLDER" in refused(*command, *asked)
    assert "vgg16_features" in refused(*command, *asked, "--lpips", tmp_path)
    write_weights(tmp_path, "vgg")
    assert "no loss that asks for it" in refused(*command, "--lpips", tmp_path)
    small = ["--set", "train.crop=16"]
    assert "train.crop: LPIPS needs 32 pixels" in refused(*command, *asked, *small, "--lpips", tmp_path)
    assert not (tmp_path / "a").exists()
    done = train("b", *asked, "--lpips", tmp_path, steps=2, crop=32)
    assert done.code == 0, done.err
    assert train("c", steps=2, crop=32).code == 0
    first = [json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0]) for name in ("b", "c")]
    assert first[0]["image_loss"] > first[1]["image_loss"]


def test_a_constant_that_is_noise_predicted_counts_no_more_near_pure_noise():
    """There a small error of the noise is a huge one of the picture."""
    prior = Off("eps", 0.2)
    generators = [torch.Generator().manual_seed(0)]
    given = lesson(prior, Blur(), torch.rand(1, 3, 8, 8), NoiseLevels(), generators)
    found = []
    for t in (100, 500, 999):
        times = torch.tensor([t])
        x_t = prior.spec.schedule.add_noise(given.clean, given.eps, times)
        late = replace(given, t=times, x_t=x_t)
        prior.knows(late)
        settings = TrainSettings(losses=ImageLosses(consistency=1.0))
        found.append(float(losses(prior, prior, Blur(), late, settings)[1].detach()))
    assert max(found) < 0.16 + (3 * 0.1) ** 2 * 1.01


def test_a_recipe_names_its_losses(train, refused, training, photos, tmp_path):
    """They change what is learned, stand beside the weights, and a run does not go on with others."""
    options = ["--set", "train.losses={squared: 0, charbonnier: 1, fourier: 0.1, consistency: 1}"]
    assert train("plain", steps=2).code == 0
    done = train("with", *options, steps=2)
    assert done.code == 0, done.err
    records = {
        name: [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("plain", "with")
    }
    assert records["plain"][0]["image_loss"] != records["with"][0]["image_loss"]
    for record in records["with"]:
        assert record["loss"] == pytest.approx(record["image_loss"] + record["parameter_loss"], rel=1e-5)
    for name, expected in (("with", {"squared": 0, "charbonnier": 1, "fourier": 0.1}), ("plain", None)):
        with safetensors.safe_open(tmp_path / name / "weights.safetensors", framework="pt") as file:
            noted = json.loads(file.metadata()["note"]).get("losses")
        assert noted is None if expected is None else expected.items() <= noted.items()
    assert train("with", "--resume", *options, steps=3).code == 0
    again = ["train", training, "-o", tmp_path / "with", "--data", photos, "--quiet", "--resume"]
    assert "belongs to a run with other settings" in refused(*again)


def test_losses_without_a_picture(refused, training, photos, tmp_path):
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--set"]
    message = refused(*command, "train.losses={squared: 0, fourier: 1}")
    assert "squared or charbonnier must count" in message
    assert "train.losses" in refused(*command, "train.losses.fourier=-1")
