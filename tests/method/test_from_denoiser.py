"""Any denoiser as a prior: against the posterior of a Gaussian, where everything is known in closed form."""

from __future__ import annotations

import pytest
import torch

from invdiff import Pipeline, PriorNet, SamplerSettings, from_denoiser
from invdiff.schedule import NoiseSchedule
from invdiff.testing.subjects import ToyBlur

MEAN, SPREAD = 0.4, 0.1


def gaussian(x, sigma):
    """The exact denoiser of white Gaussian pixels."""
    sigma = sigma.view(-1, 1, 1, 1)
    return MEAN + SPREAD**2 / (SPREAD**2 + sigma**2) * (x - MEAN)


class Flat(ToyBlur):
    """A measurement that says nothing: everything comes from the prior."""

    def lift(self, y):
        return torch.full_like(y, 0.9)


def test_draws_follow_the_prior():
    """Many small stochastic steps draw from the Gaussian that the denoiser is exact for."""
    pipe = Pipeline(Flat(), from_denoiser(gaussian), (), SamplerSettings(steps=1000), device="cpu")
    x = pipe.restore(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))).image
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(x.std()) == pytest.approx(SPREAD, rel=0.05)


def test_the_denoiser_is_asked_on_0_to_1_with_the_noise_that_is_there():
    """Before each call, clean plus noise of ``sigma``: the residual to the clean image has that spread."""
    clean, asked = torch.full((2, 3, 32, 32), 0.5), []

    def denoise(x, sigma):
        asked.append((x, sigma))
        return x

    prior = from_denoiser(denoise)
    eps = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([100, 600])
    prior.predict(prior.spec.schedule.add_noise(prior.from_unit(clean), eps, t), t, clean)
    ((x, sigma),) = asked
    assert sigma.shape == (2,)
    torch.testing.assert_close((x - clean) / sigma.view(-1, 1, 1, 1), eps, rtol=1e-4, atol=1e-4)
    want = NoiseSchedule.linear().noise_to_signal(t, torch.empty(2))
    torch.testing.assert_close(sigma, want)


@pytest.mark.parametrize(("start", "grey"), [("measurement", 0.6), ("noise", 0.5), (None, 0.5)])
def test_where_the_first_step_begins(start, grey):
    """A prior of any noise begins with noise alone, or with the measurement where the sampler says so."""
    asked = []

    def denoise(x, sigma):
        asked.append(x.clone())
        return x.clamp(0, 1)

    sigmas = (0.2, 0.05) if start == "measurement" else (200, 0.2, 0.05)
    settings = SamplerSettings(sigmas=sigmas, start=start)
    Pipeline(ToyBlur(), from_denoiser(denoise), (), settings, device="cpu").restore(torch.full((3, 64, 64), 0.6))
    first = asked[0]
    assert float((first - grey).mean().abs()) < 5 * float(first.std()) / 64 / 3**0.5
    assert (float(first.std()) < 0.25) == (start == "measurement")


def test_a_limited_denoiser_starts_from_the_measurement_within_its_range():
    asked = []

    def denoise(x, sigma):
        asked.append((x.clone(), float(sigma.max())))
        return x

    prior = from_denoiser(denoise, sigma_max=50 / 255)
    assert prior.spec.start == "measurement"
    pipe = Pipeline(ToyBlur(), prior, (), SamplerSettings(steps=4), device="cpu")
    y = torch.full((3, 64, 64), 0.6)
    pipe.restore(y)
    assert len(asked) == 4
    first, sigma = asked[0]
    assert 0.9 * 50 / 255 < sigma <= 50 / 255
    assert all(later <= 50 / 255 for _, later in asked)
    assert float((first - y).mean()) == pytest.approx(0, abs=0.01)  # the measurement, and noise of that spread
    assert float((first - y).std()) == pytest.approx(sigma, rel=0.05)
    with pytest.raises(ValueError, match="sigma_max: 0 is below"):
        from_denoiser(denoise, sigma_max=0)


def test_a_module_is_a_part_of_the_prior():
    """Its weights move and freeze with the prior's; sides divide by what it asks for."""

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = torch.nn.Conv2d(3, 3, 3, padding=1)
            self.sides = []

        def forward(self, x, sigma):
            self.sides.append(tuple(x.shape[-2:]))
            return self.mix(x)

    network = Network()
    prior = from_denoiser(network, multiple=8)
    assert isinstance(prior, PriorNet)
    assert {id(p) for p in prior.parameters()} == {id(p) for p in network.parameters()}
    pipe = Pipeline(ToyBlur(), prior, (), SamplerSettings(steps=2), device="cpu")
    assert pipe.restore(torch.rand(3, 21, 9)).image.shape == (3, 21, 9)
    assert network.sides == [(24, 16)] * 2
    assert not any(p.requires_grad for p in network.parameters())
