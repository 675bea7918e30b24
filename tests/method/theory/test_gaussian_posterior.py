"""The reverse loop against a posterior known in closed form.

A 2x2 colour block u (12 numbers in [0, 1] units) has the prior N(mu, S); its measurement is the three
numbers y = A u + s n. The posterior p(u | y) is Gaussian (Kalman's formula below), and so is p(u | x_t, y)
for a diffusion of u, whose mean is the perfect conditional denoiser. The loop with that denoiser and no
guidance must draw from the posterior; only the number of steps stands between.

What 1000 steps leave besides Monte-Carlo error, from the exact propagation below and in whitened units
(every direction of the posterior has variance one): the steps are not infinitely many, which costs at most
0.022 of a variance (eta = 1; 0.009 at eta = 0), and the loop starts from N(0, 1) although abar_T is 4e-5 and
not 0, which moves the mean by 0.013 at eta = 0 and by 0.0001 at eta = 1. The standard error of 4096 samples
is 0.016 in a mean and 0.022 in a variance, so both stay within one of them.
"""

import numpy as np
import pytest
import torch

from invdiff.degradation import BoxSpace, Degradation
from invdiff.guidance import Problem
from invdiff.prior import Output, PriorNet, PriorSpec
from invdiff.sampler import SamplerSettings, sample
from invdiff.schedule import NoiseSchedule

N = 12
rng = np.random.default_rng(3)
MU = rng.uniform(0.2, 0.8, N)
_mix = rng.normal(size=(N, N))
S = 0.1 * np.eye(N) + 0.2 * _mix @ _mix.T / N  # correlated, standard deviations of about 0.5
A = rng.normal(size=(3, N)) / np.sqrt(N)
SIGMA = 0.2
MEASURED = np.stack([A @ MU, A @ MU + 0.2, A @ MU + [-0.5, 0.3, 0.1]])  # one y an image

# Kalman: the posterior in [0, 1] units.
_gain = S @ A.T @ np.linalg.inv(A @ S @ A.T + SIGMA**2 * np.eye(3))
COV = S - _gain @ A @ S
MEANS = MU + (MEASURED - A @ MU) @ _gain.T
WHITEN = np.linalg.inv(np.linalg.cholesky(COV))  # makes COV the identity: every direction counts alike


def blocks(x):
    """``(B, 3, 2h, 2w)`` as ``(B, h, w, 12)``: channel, row, column in each 2x2 block."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h // 2, w // 2, N)


def picture(v):
    """The inverse of :func:`blocks`."""
    b, h, w, _ = v.shape
    return v.reshape(b, h, w, 3, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, 3, 2 * h, 2 * w)


class Blockwise(Degradation):
    """Every 2x2 block by itself through A. The lift repeats y over its block: nothing is lost."""

    scale = 2
    parameters = BoxSpace(("nothing",), (0.0,), (1.0,))

    def sample_parameters(self, batch, generator):
        return torch.zeros(batch, 1)

    def apply(self, x, theta):
        return (blocks(x) @ torch.from_numpy(A).T).permute(0, 3, 1, 2)

    def lift(self, y):
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2)


class GaussianPrior(PriorNet):
    """E[x_0 | x_t, y] of Gaussian blocks, in any parameterisation and value range.

    Found by conditioning x_0 on x_t and y jointly, in the prior's range; the posterior above plays no part.
    """

    def __init__(self, prediction="x0", value_range=(-1.0, 1.0), schedule=None):
        super().__init__()
        self.spec = PriorSpec(schedule or NoiseSchedule.linear(), value_range=value_range, prediction=prediction)
        low, high = value_range
        mean, cov = low + (high - low) * MU, (high - low) ** 2 * S
        abar = self.spec.schedule.alphas_cumprod.numpy()
        see_y = A / (high - low)  # y = A (x_0 - low) / (high - low) + noise
        see = np.stack([np.vstack([np.sqrt(a) * np.eye(N), see_y]) for a in abar])
        noise = np.stack([np.diag([*[1 - a] * N, *[SIGMA**2] * 3]) for a in abar])
        gain = cov @ see.transpose(0, 2, 1) @ np.linalg.inv(see @ cov @ see.transpose(0, 2, 1) + noise)
        self.gain_x, self.gain_y = torch.from_numpy(gain[..., :N]), torch.from_numpy(gain[..., N:])
        rest = mean - (gain[..., :N] @ mean) * np.sqrt(abar)[:, None] - gain[..., N:] @ (A @ MU)
        self.rest = torch.from_numpy(rest)

    def denoise(self, t, x, y):
        """Blocks to blocks, at one time."""
        return x @ self.gain_x[t].T + y @ self.gain_y[t].T + self.rest[t]

    def forward(self, x_t, t, condition):
        time = int(t[0])
        y = self.to_unit(condition)[..., ::2, ::2].permute(0, 2, 3, 1)
        x0 = picture(self.denoise(time, blocks(x_t), y))
        schedule = self.spec.schedule
        return Output(schedule.target(self.spec.prediction, x0, schedule.to_eps(x0, x_t, t), t))


def draw(prior, measured, side, steps, eta, seeds, **settings):
    """Sampled blocks ``(B, side^2, 12)`` of one image a seed, each pixel of its measurement the same ``y``."""
    y = torch.from_numpy(measured)[:, :, None, None].expand(-1, -1, side, side).contiguous()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    chosen = SamplerSettings(steps=steps, eta=eta, **settings)
    return blocks(sample(Problem(y, Blockwise(), prior), chosen, generators).x0).reshape(len(y), -1, N).numpy()


def propagate(prior, y, steps, eta, spacing="uniform"):
    """Exact mean and covariance ([0, 1] units) of what the loop draws: every step is affine in x and noise.

    The affine map is read off ``schedule.transition`` on the unit vectors.
    """
    mean, cov = np.zeros(N), np.eye(N)
    times = prior.spec.schedule.spaced(steps, spacing)
    probes = torch.cat([torch.zeros(1, N), torch.eye(N)]).double()
    y = torch.from_numpy(y)
    for t, t_next in zip(times, [*times[1:], -1], strict=True):
        x0 = prior.denoise(t, probes, y)
        out = prior.spec.schedule.transition(probes, x0, t, t_next, eta, torch.zeros_like(probes)).numpy()
        noisy = prior.spec.schedule.transition(probes, x0, t, t_next, eta, torch.ones_like(probes)).numpy()
        step = (out[1:] - out[0]).T
        mean = step @ mean + out[0]
        cov = step @ cov @ step.T + np.diag((noisy - out)[0] ** 2)
    low, high = prior.spec.value_range
    return (mean - low) / (high - low), cov / (high - low) ** 2


def whitened_error(mean, cov, true_mean):
    """Length of the whitened error of the mean, and largest entry of the whitened covariance's."""
    return np.linalg.norm(WHITEN @ (mean - true_mean)), np.abs(WHITEN @ cov @ WHITEN.T - np.eye(N)).max()


def check_moments(samples, mean, cov, errors=5.0):
    """Whitened sample mean and covariance within ``errors`` standard errors of 0 and the identity.

    Standard errors of n normal draws: 1 / sqrt(n) of a mean, sqrt(2 / n) of a variance, 1 / sqrt(n) of a
    covariance. 5 standard errors over 12 + 78 numbers fail by chance once in 20000 seeds, and seeds are fixed.
    """
    n = len(samples)
    white = (samples - mean) @ np.linalg.inv(np.linalg.cholesky(cov)).T
    found = np.cov(white.T) - np.eye(N)
    assert np.abs(white.mean(0)).max() < errors / np.sqrt(n)
    assert np.abs(np.diag(found)).max() < errors * np.sqrt(2 / n)
    assert np.abs(found - np.diag(np.diag(found))).max() < errors / np.sqrt(n)


@pytest.mark.parametrize(("eta", "images"), [(1.0, 3), (0.5, 1), (0.0, 1)])
def test_thousand_steps_draw_the_posterior(eta, images):
    """4096 samples a measurement, all 1000 steps: five standard errors (0.08 in a mean, 0.11 in a variance)."""
    samples = draw(GaussianPrior(), MEASURED[-images:], 64, 1000, eta, range(images))
    for found, mean in zip(samples, MEANS[-images:], strict=True):
        check_moments(found, mean, COV)


def test_that_the_posterior_is_not_the_prior():
    """The check above can tell: S instead of the posterior's covariance, or another y, is many standard errors off."""
    assert np.abs(WHITEN @ S @ WHITEN.T - np.eye(N)).max() > 10 * 0.11
    assert np.abs(WHITEN @ (MEANS[1] - MEANS[0])).max() > 5 * 0.08
    assert np.abs(WHITEN @ (MEANS[2] - MU)).max() > 5 * 0.08


@pytest.mark.parametrize(
    ("steps", "eta", "spacing"), [(20, 1.0, "uniform"), (12, 0.5, "quadratic"), (12, 0.0, "uniform")]
)
def test_few_steps_draw_what_propagation_says(steps, eta, spacing):
    """One generator a sample; the loop at a step count that is far from the posterior, without discretisation error."""
    prior, n = GaussianPrior(), 3000
    samples = draw(prior, np.repeat(MEASURED[2:], n, 0), 1, steps, eta, range(n), spacing=spacing)[:, 0]
    mean, cov = propagate(prior, MEASURED[2], steps, eta, spacing)
    assert whitened_error(mean, cov, MEANS[2])[1] > 0.25  # far: the posterior itself would not pass
    check_moments(samples, mean, cov)


def test_temperature_scales_the_spread():
    """Every step is affine here, so a temperature leaves the mean and multiplies the covariance by its square."""
    prior = GaussianPrior()
    mean, cov = propagate(prior, MEASURED[2], 20, 1.0)
    samples = draw(prior, MEASURED[2:], 48, 20, 1.0, [0], temperature=0.6)[0]
    check_moments(samples, mean, 0.36 * cov)
    certain = draw(prior, MEASURED[2:], 1, 20, 1.0, [0], temperature=0.0)[0, 0]
    np.testing.assert_allclose(certain, mean, atol=1e-10)


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_more_steps_come_closer(eta, spacing):
    """Exact propagation: the covariance's error falls with the step, and ends below 0.025 of each variance.

    The loop is a first-order method, so ten times the steps (100 to 1000) divide its error by about ten until
    the schedule's own first step, beta_0 = 1e-4, is what is left; a factor of 3.5 is asked for.
    """
    prior = GaussianPrior()
    errors = [whitened_error(*propagate(prior, MEASURED[2], n, eta, spacing), MEANS[2])[1] for n in (5, 20, 100, 1000)]
    assert errors[0] > 1.7 * errors[1]
    assert errors[1] > 2.5 * errors[2]
    assert errors[2] > 3.5 * errors[3]
    assert errors[3] < 0.025


@pytest.mark.parametrize("steps", [5, 20, 100, 1000])
def test_the_mean_needs_no_steps(steps):
    """With eta = 1 the mean is right at any step count: a DDPM step keeps E[x_next | y] where E[x_0 | x_t, y] is exact.

    What is left is the start's missing sqrt(abar_T) E[x_0] = 0.0064 E[x_0], forgotten almost wholly.
    """
    mean, cov = propagate(GaussianPrior(), MEASURED[2], steps, 1.0)
    assert whitened_error(mean, cov, MEANS[2])[0] < 2e-4


def test_ddim_remembers_its_start():
    """eta = 0 follows the probability flow, which keeps whitened lengths: the start's error stays as it is.

    At time T the marginal is N(sqrt(abar_T) E[x_0], about 1) and the loop starts at 0, so the whitened mean ends
    sqrt(abar_T) |E[x_0]| off (E[x_0] in [-1, 1] units). 5 % for the 1000 steps.
    """
    prior = GaussianPrior()
    error, _ = whitened_error(*propagate(prior, MEASURED[2], 1000, 0.0), MEANS[2])
    start = np.sqrt(float(prior.spec.schedule.alphas_cumprod[-1])) * np.linalg.norm(2 * MEANS[2] - 1)
    assert error == pytest.approx(start, rel=0.05)


def test_one_step_is_the_conditional_mean():
    """A single network evaluation answers E[x_0 | y], but for the whisper sqrt(abar_T) = 0.0064 of its start.

    x_T = noise moves E[x_0 | x_T, y] by sqrt(abar_T) times the posterior covariance in [-1, 1] units.
    """
    samples = draw(GaussianPrior(), MEASURED, 8, 1, 1.0, range(3))
    scatter = 0.00635 * 2 * np.sqrt(np.diag(COV @ COV))  # standard deviation in [0, 1] units
    for found, mean in zip(samples, MEANS, strict=True):
        np.testing.assert_array_less(np.abs(found - mean).max(0), 5 * scatter)
        np.testing.assert_allclose(found.std(0), scatter, rtol=0.35)  # 64 samples: four standard errors of 9 %


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_parameterisation_does_not_matter(kind, eta):
    """The same denoiser, answering noise or velocity: the same samples from the same seeds."""
    there = draw(GaussianPrior(kind), MEASURED, 4, 30, eta, range(3))
    here = draw(GaussianPrior("x0"), MEASURED, 4, 30, eta, range(3))
    np.testing.assert_allclose(there, here, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_value_range_does_not_matter(eta):
    """One diffusion written in [-1, 1] and in [0, 1] draws the same samples from the same seeds.

    Halving the range halves the image, so the same noise-to-signal ratio in [0, 1] units needs
    abar' / (1 - abar') = 4 abar / (1 - abar). The loop then does the same to (x_t / sqrt(abar) - low) / (high - low).
    The schedule ends at abar = 4e-10, so that the missing sqrt(abar_T) E[x_0] of the start is no difference either.
    """
    wide = NoiseSchedule.linear(200, 1e-3, 0.2)
    abar = 4 * wide.alphas_cumprod / (1 + 3 * wide.alphas_cumprod)
    before = torch.cat([torch.ones(1).double(), abar[:-1]])
    unit = NoiseSchedule(1 - abar / before)
    here = draw(GaussianPrior("x0", (-1.0, 1.0), wide), MEASURED, 4, 40, eta, range(3))
    there = draw(GaussianPrior("x0", (0.0, 1.0), unit), MEASURED, 4, 40, eta, range(3))
    np.testing.assert_allclose(there, here, atol=1e-4)
    assert here[0].std(0).min() > 0.1  # they are samples, not one point


def flow(prior, start, y):
    """Where the probability flow takes ``start (B, 12)`` at time T to at time 0, and the denoiser's answer there.

    Along it a Gaussian stays whitened: x_t - m_t = L_t z, with L_t the symmetric root of abar_t C + (1 - abar_t) I.
    """
    abar = prior.spec.schedule.alphas_cumprod.numpy()
    values, axes = np.linalg.eigh(4 * COV)
    mean = 2 * MEANS[2] - 1
    widths = [np.sqrt(abar[t] * values + 1 - abar[t]) for t in (len(abar) - 1, 0)]
    z = (start - np.sqrt(abar[-1]) * mean) @ axes / widths[0]
    end = np.sqrt(abar[0]) * mean + (z * widths[1]) @ axes.T
    x0 = prior.denoise(0, torch.from_numpy(end), torch.from_numpy(y)).numpy()
    return (x0 + 1) / 2


@pytest.mark.parametrize(("solver", "order"), [("first_order", 1), ("dpm_2m", 2)])
def test_the_order_of_the_solver(solver, order):
    """Doubling the steps divides the error at the end of the flow by 2, or by 4.

    The noise that a sample starts with decides where the flow takes it, and that is known in closed form. The
    schedule's levels are even in log sigma, and so are every 48th, 24th and 12th of them.
    """
    sigma = np.geomspace(0.01, 100, 961)
    abar = 1 / (1 + sigma**2)
    prior = GaussianPrior(schedule=NoiseSchedule(torch.from_numpy(1 - abar / np.append(1.0, abar[:-1]))))
    seeds = range(20)
    noise = torch.stack([torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    want = flow(prior, blocks(noise.double()).reshape(-1, N).numpy(), MEASURED[2])
    errors = []
    for steps in (21, 41, 81):
        drawn = draw(prior, np.repeat(MEASURED[2:], len(seeds), 0), 1, steps, 0.0, seeds, solver=solver)[:, 0]
        errors.append(np.sqrt(np.mean((drawn - want) ** 2)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders == pytest.approx(order, abs=0.2)
