"""BlindDPS: the kernel's denoiser against quadrature, its chain against its prior, its move by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from invdiff import Pipeline, SamplerSettings, from_denoiser
from invdiff.fit import MisfitError
from invdiff.guidance import Problem
from invdiff.metrics.kernel import kernel_l1
from invdiff.sampler import sample
from invdiff.testing import parametrize_with_checks
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_motion.operator import Motion, MotionSettings
from invdiff_rivals.blind_dps import BlindDPS, BlindDPSSettings, denoised
from invdiff_rivals.dps import DPS, DPSSettings
from linear_gaussian import SCHEDULE, Dense, White, gen, rand, still

UNEXPLAINED = {"agreement_with_the_measurement": "its chain starts from noise, whatever kernel the prior had"}


@parametrize_with_checks([BlindDPS()])
def test_conformance(component, check):
    check(component)


@parametrize_with_checks(
    [BlindDPS()], operator=BlindSR(BlindSRSettings(scale=2, kernel_size=7)), expected_failures=UNEXPLAINED
)
def test_conformance_in_super_resolution(component, check):
    check(component)


@pytest.mark.parametrize("sparsity", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("t", [3, 100, 400, 999])
def test_the_denoiser_is_the_conditional_mean(sparsity, t):
    """``E[k0 | k_t]`` of zero, or an exponential number, by a sum over a fine grid."""
    abar = float(SCHEDULE.alphas_cumprod[t])
    rate = np.sqrt(2 * sparsity - sparsity**2)
    levels = np.linspace(0, 40 / rate, 400_001)
    density = sparsity * rate * np.exp(-rate * levels) * (levels[1] - levels[0])
    density[0] = density[0] / 2
    masses, places = np.append(density, 1 - sparsity), np.append(levels, 0.0)
    assert masses @ places**2 - (masses @ places) ** 2 == pytest.approx(1, abs=1e-3)
    noisy = np.array([-3.0, -0.4, 0.0, 0.3, 1.0, 4.0])
    want = []
    for value in noisy:
        logs = -0.5 * (value - abar**0.5 * places) ** 2 / (1 - abar)
        weights = masses * np.exp(logs - logs.max())
        want.append(weights @ places / weights.sum())
    found = denoised(torch.from_numpy(noisy), t, sparsity).numpy()
    np.testing.assert_allclose(found, want, rtol=2e-3, atol=1e-4)


class Indifferent(Motion):
    """The photo says nothing of the kernel."""

    def apply(self, x, k):
        return x + 0 * k.sum()


def test_where_the_photo_says_nothing_it_draws_its_prior():
    """Of 4 x 961 pixels a tenth are more than nothing: a standard error of 0.005.

    A fiftieth of the largest hides a tenth of the exponential numbers.
    """
    operator = Indifferent(MotionSettings(kernel_size=31))
    problem = Problem(rand(4, 3, 32, 32).float(), operator, White(), [BlindDPS()])
    found = sample(problem, SamplerSettings(steps=200), [gen(i) for i in range(4)]).theta
    share = (found > found.amax((1, 2), keepdim=True) / 50).float().mean()
    assert float(share) == pytest.approx(0.09, abs=0.02)
    assert operator.parameters.contains(found)
    assert float((found[0] - found[1]).abs().sum()) > 1


@pytest.mark.parametrize("place", [3, 17])
def test_the_kernels_move_is_the_published_one(place):
    """Ancestral, then minus the strength times the slope of ``||y - k0(k_t) * x0||`` on [-1, 1], by differences."""
    operator = Motion(MotionSettings(kernel_size=5))
    x0, y = rand(2, 3, 12, 12), rand(2, 3, 12, 12, seed=1)
    state = torch.randn(2, 5, 5, generator=gen(3), dtype=torch.float64)
    times = SCHEDULE.spaced(20)
    t, t_next = times[place], times[place + 1]

    def distance(value):
        clean = denoised(value, t, 0.2).clamp_min(0) + 1e-12
        return 2 * (y - operator.apply(x0, clean / clean.sum((1, 2), keepdim=True))).flatten(1).norm(dim=1)

    slope = torch.zeros_like(state)
    for i in range(25):
        bump = torch.zeros(25, dtype=torch.float64)
        bump[i] = 1e-5
        slope.view(2, 25)[:, i] = (distance(state + bump.view(5, 5)) - distance(state - bump.view(5, 5))) / 2e-5
    plain = SCHEDULE.transition(state, denoised(state, t, 0.2), t, t_next, 1.0, torch.zeros_like(state))
    step = still(x0, y, operator)
    step.index, step.steps, step.memory["blind_dps"] = place, 20, state.clone()
    x_next = torch.zeros_like(x0)
    assert BlindDPS(BlindDPSSettings(strength=0.7, sparsity=0.2)).correct(step, x_next) is x_next
    torch.testing.assert_close(step.memory["blind_dps"], plain - 0.7 * slope, rtol=1e-5, atol=1e-7)
    assert float(slope.abs().max()) > 1e-4


def test_a_known_picture_gives_the_kernel():
    """Where the prior knows the picture, the chain arrives at the kernel that the measurement was made with."""
    operator = Motion(MotionSettings(kernel_size=7))
    k = operator.sample_parameters(1, gen(1))
    x = rand(1, 3, 48, 48).float()
    y = operator.apply(x, k)
    prior = from_denoiser(lambda noisy, sigma: x + 0 * noisy)
    errors = []
    guides = [BlindDPS(BlindDPSSettings(strength=1.0)), DPS(DPSSettings(strength=0.0))]
    sample(
        Problem(y, operator, prior, guides),
        SamplerSettings(steps=100),
        [gen()],
        lambda r: errors.append(kernel_l1(r.theta, k)),
    )
    assert errors[-1] < 0.3 < 0.8 < errors[0]


def test_an_operator_without_a_kernel():
    with pytest.raises(MisfitError, match="this operator's parameters are no kernel"):
        Pipeline(Dense(), White(), [BlindDPS()], device="cpu")
