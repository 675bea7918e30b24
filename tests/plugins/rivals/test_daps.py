"""DAPS: its draws against a posterior in closed form, its flow against the Gaussian one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from invdiff import SamplerSettings
from invdiff.guidance import Problem, Step
from invdiff.metrics.cost import cost
from invdiff.prior import Output, PriorNet
from invdiff.sampler import sample
from invdiff_rivals.daps import DAPS, DAPSSettings, arrived
from linear_gaussian import NOISE, SCHEDULE, A, Dense, N, White, gen, one, posterior, rand


def walked(steps, count, temperature=1.0):
    y = rand(1, 3, 1, 1, seed=1)
    guide = DAPS(DAPSSettings(noise=NOISE, spread=White.SPREAD, ode_steps=1, kernel="given"))
    problem = Problem(y.expand(count, -1, -1, -1), Dense(), White(), [guide], one(count))
    settings = SamplerSettings(steps=steps, renewal=1.0, temperature=temperature)
    drawn = sample(problem, settings, [gen(i) for i in range(count)]).x0.flatten(1).numpy()
    return drawn, *posterior(y.flatten().numpy(), NOISE)


def test_few_steps_draw_the_posterior():
    """For white Gaussian images each step's draw is exact, so that five steps are as good as a thousand.

    3000 samples: means within five standard errors, and so are variances.
    """
    drawn, mean, covariance = walked(5, 3000)
    white = (drawn - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    assert np.abs(white.mean(0)).max() < 5 / 3000**0.5
    assert np.abs(np.cov(white.T) - np.eye(N)).max() < 5 * (2 / 3000) ** 0.5


def test_at_temperature_nothing_it_is_the_mean():
    drawn, mean, _ = walked(4, 1, temperature=0.0)
    np.testing.assert_allclose(drawn[0], mean, atol=1e-3)


def test_the_draw_of_one_step():
    """``N(x; x0, r^2) N(y; A x, noise^2)`` by dense algebra; the paper's r is the noise's own level."""
    count, t = 4000, 400
    y, x_t = rand(1, 3, 1, 1, seed=1), rand(1, 3, 2, 2, seed=2)
    generators = [gen(i) for i in range(count)]

    def draw(like):
        return torch.stack([torch.randn(like.shape[1:], generator=g, dtype=like.dtype) for g in generators])

    x0 = rand(1, 3, 2, 2).expand(count, -1, -1, -1)
    step = Step(
        0, 1, t, 300, x_t.expand(count, -1, -1, -1), x0, one(count), y.expand(count, -1, -1, -1), White(), Dense()
    )
    step.draw = draw
    found = DAPS(DAPSSettings(noise=NOISE, ode_steps=1)).refine(step).x0.flatten(1).numpy()
    abar = float(SCHEDULE.alphas_cumprod[t])
    precision = np.eye(N) * 4 * abar / (1 - abar) + A.T @ A / NOISE**2
    start = x0[0].flatten().numpy()
    mean = start + np.linalg.solve(precision, A.T @ (y.flatten().numpy() - A @ start) / NOISE**2)
    white = (found - mean) @ np.linalg.cholesky(precision)
    assert np.abs(white.mean(0)).max() < 5 / count**0.5
    assert np.abs(np.cov(white.T) - np.eye(N)).max() < 5 * (2 / count) ** 0.5


def test_it_goes_where_the_flow_leads():
    """A Gaussian stays whitened along the probability flow; each evaluation is one that it says it takes."""
    t, prior = 700, White()
    x_t = torch.randn(2, 3, 2, 2, generator=gen(2), dtype=torch.float64)
    ends = [float(SCHEDULE.alphas_cumprod[time]) for time in (t, 0)]
    mean, variance = 2 * White.MEAN - 1, (2 * White.SPREAD) ** 2
    widths = [(a * variance + 1 - a) ** 0.5 for a in ends]
    end = ends[1] ** 0.5 * mean + (x_t - ends[0] ** 0.5 * mean) * widths[1] / widths[0]
    want = prior.to_unit(prior.predict(end, torch.zeros(2, dtype=torch.long), end).x0)
    start = prior.to_unit(prior.predict(x_t, torch.full((2,), t), x_t).x0)
    errors = []
    for count in (1, 20, 40):
        step = Step(0, 1, t, 600, x_t, start, one(2), rand(2, 3, 1, 1), prior, Dense())
        errors.append(float((arrived(step, count) - want).abs().max()))
    assert errors[0] > 0.1
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.2)
    assert errors[2] < 0.05


class Counting(PriorNet):
    """Counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.inner, self.asked = White(), 0
        self.spec = self.inner.spec

    def forward(self, x_t, t, condition):
        self.asked += 1
        return Output(self.inner(x_t, t, condition).raw)


def test_evaluations_are_counted():
    prior = Counting()
    guide = DAPS(DAPSSettings(noise=NOISE, kernel="given"))
    problem = Problem(rand(1, 3, 1, 1), Dense(), prior, [guide], one(1))
    # The last step stands at time 0, from which no flow is left.
    found = sample(problem, SamplerSettings(steps=6, renewal=1.0), [gen()])
    assert found.evaluations == 30
    assert prior.asked == 5 * 5 + 1
    priced = cost(White(), [DAPS()], 6, 16)
    assert priced.step == 5 * priced.forward
