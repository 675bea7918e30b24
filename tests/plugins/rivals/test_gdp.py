"""GDP: the published move by hand, its blind half against least squares, and both in the loop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from invdiff import SamplerSettings
from invdiff.guidance import Problem
from invdiff.metrics.kernel import kernel_l1
from invdiff.prior import DenoiserPrior
from invdiff.sampler import sample
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_motion.operator import Motion, MotionSettings
from invdiff_rivals.gdp import GDP, GDPSettings, ParameterDescent, ParameterDescentSettings
from linear_gaussian import A, Dense, gen, one, rand, still


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_gdp_is_the_published_move(value_range):
    """On [-1, 1]: minus s times the slope of ``mean((A (x0 + 1) / 2 - y)^2)`` in x0, over 3 x 256 x 256 numbers."""
    x0, y = rand(2, 3, 2, 2), rand(2, 3, 1, 1, seed=1)
    step = still(x0, y, Dense(), one(2), value_range=value_range)
    moved = GDP(GDPSettings(strength=6000)).correct(step, torch.zeros(2, 3, 4, 2, dtype=torch.float64))
    residual = x0.flatten(1).numpy() @ A.T - y.flatten(1).numpy()
    want = -6000 * 2 * residual @ A / 2 / (3 * 256**2)  # a half, since x0 on [0, 1] is half as long
    half = (value_range[1] - value_range[0]) / 2
    np.testing.assert_allclose(moved[..., :2, :].flatten(1).numpy() / half, want, rtol=1e-10)
    assert float(moved[..., 2:, :].abs().max()) == 0  # the padding


def test_a_scale_counts_the_measurements_numbers():
    """At x4 the mean is over a sixteenth as many."""
    x0 = rand(1, 3, 32, 32)
    moves = {}
    for scale in (2, 4):
        operator = BlindSR(BlindSRSettings(scale=scale, kernel_size=7))
        k, y = torch.full((1, 7, 7), 1 / 49).double(), rand(1, 3, 32 // scale, 32 // scale, seed=1)
        leaf = x0.clone().requires_grad_()
        (slope,) = torch.autograd.grad((operator.apply(leaf, k) - y).square().sum() / (3 * (256 // scale) ** 2), leaf)
        moves[scale] = GDP().correct(still(x0, y, operator, k), torch.zeros_like(x0)), -2000 * slope / 2
    for found, want in moves.values():
        torch.testing.assert_close(found, want)


def test_descent_finds_a_gain():
    """One unknown number: least squares, and the box's end where that lies beyond it."""
    x0 = rand(3, 3, 2, 2)
    gains = torch.tensor([[0.8], [1.7], [2.6]]).double()
    y = Dense().apply(x0, gains)
    found = ParameterDescent(ParameterDescentSettings(rounds=20)).refine(still(x0, y, Dense())).theta
    torch.testing.assert_close(found, gains.clamp(0.5, 2.0), rtol=1e-4, atol=1e-4)


def test_no_step_makes_it_worse():
    """The sum of squares falls at every round, and the kernels stay kernels."""
    operator = Motion(MotionSettings(kernel_size=9))
    k = operator.sample_parameters(2, gen(1)).double()
    x0 = rand(2, 3, 48, 48)
    y = operator.apply(x0, k / k.sum((1, 2), keepdim=True))
    theta, sums = None, []
    for _ in range(40):
        theta = ParameterDescent(ParameterDescentSettings(rounds=5)).refine(still(x0, y, operator, theta)).theta
        assert operator.parameters.contains(theta)
        sums.append((operator.apply(x0, theta) - y).square().flatten(1).sum(1))
    assert all(bool((b <= a * (1 + 1e-9)).all()) for a, b in pairwise(sums))
    assert float((sums[-1] / sums[0]).max()) < 0.02
    assert max(kernel_l1(a, b) for a, b in zip(theta, k, strict=True)) < 0.2


class Known(DenoiserPrior):
    """Knows the picture the better, the less noise there is."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def denoise(self, x, sigma):
        trust = 1 / (1 + 0.3 * sigma.view(-1, 1, 1, 1) ** 2)
        return trust * self.picture + (1 - trust) * x.mean((-2, -1), keepdim=True)


def test_blind_in_the_loop():
    operator = Motion(MotionSettings(kernel_size=7))
    k = operator.sample_parameters(1, gen(1)).double()
    x = rand(1, 3, 48, 48)
    y = operator.apply(x, k)
    seen = []
    problem = Problem(y, operator, Known(x), [ParameterDescent(), GDP()])
    sample(problem, SamplerSettings(steps=20, temperature=0), [gen()], lambda r: seen.append(kernel_l1(r.theta, k)))
    assert seen[-1] < 0.3 < 0.5 < seen[0]
