"""The noise schedule against numpy, Bayes' rule for Gaussians, and the papers' formulas."""

import numpy as np
import pytest
import torch

from invdiff.schedule import NoiseSchedule

T = 1000
BETAS = np.linspace(1e-4, 2e-2, T)
ABAR = np.exp(np.log1p(-BETAS).cumsum())  # the product of 1 - beta, by another road than cumprod
PAIRS = [(999, 998), (500, 499), (1, 0), (999, 947), (520, 260), (37, 0), (999, 0)]  # adjacent, then respaced


@pytest.fixture(scope="module")
def schedule():
    return NoiseSchedule.linear()


def image(seed=0, batch=3):
    return torch.randn(batch, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(schedule, x, x0, t, t_next, eta, fraction=None):
    """Mean and standard deviation of a transition: it is affine in the noise, so two calls tell both."""
    still = schedule.transition(x, x0, t, t_next, eta, torch.zeros_like(x), fraction)
    return still, schedule.transition(x, x0, t, t_next, eta, torch.ones_like(x), fraction) - still


# --- tables ------------------------------------------------------------------------------------------


def test_linear_betas(schedule):
    """Ho et al. 2020: 1000 betas on a line from 1e-4 to 0.02, in float64."""
    assert len(schedule) == T
    assert schedule.betas.dtype == schedule.alphas_cumprod.dtype == torch.float64
    np.testing.assert_allclose(schedule.betas.numpy(), BETAS, rtol=1e-14)
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), ABAR, rtol=1e-11)
    assert float(schedule.alphas_cumprod[-1]) == pytest.approx(4.036e-5, rel=1e-3)  # a known number of this schedule


def test_other_ends():
    """Every argument of ``linear`` counts: the sum of betas on a line is length times the middle."""
    schedule = NoiseSchedule.linear(50, 0.01, 0.05)
    assert len(schedule) == 50
    assert float(schedule.betas.sum()) == pytest.approx(50 * 0.03)
    assert float(schedule.betas[0]) == pytest.approx(0.01)


def test_tables_stay_float64_from_float32_betas():
    """float32 betas are lifted before the product, so that the product adds no rounding of its own."""
    betas = torch.from_numpy(BETAS).float()
    expected = np.exp(np.log1p(-betas.double().numpy()).cumsum())
    np.testing.assert_allclose(NoiseSchedule(betas).alphas_cumprod.numpy(), expected, rtol=1e-11)


@pytest.mark.parametrize("betas", [[[0.1, 0.2]], [0.1, 0.0], [0.1, 1.0], [-0.1, 0.5], [float("nan"), 0.5]])
def test_impossible_betas(betas):
    with pytest.raises(ValueError, match="betas"):
        NoiseSchedule(torch.tensor(betas))


def test_lookups(schedule):
    """One value a sample, shaped to multiply the image, of its dtype; time -1 is the clean image."""
    t = torch.tensor([0, 999, -1])
    like = image().float()
    abar = schedule.abar(t, like)
    assert abar.shape == (3, 1, 1, 1)
    assert abar.dtype == torch.float32
    np.testing.assert_allclose(abar.flatten().numpy(), [ABAR[0], ABAR[999], 1.0], rtol=1e-6)
    sigma = schedule.noise_to_signal(t, image())
    expected = [np.sqrt(1 / ABAR[0] - 1), np.sqrt(1 / ABAR[999] - 1), 0.0]
    np.testing.assert_allclose(sigma.flatten().numpy(), expected, rtol=1e-9, atol=1e-12)


# --- conversions -------------------------------------------------------------------------------------


def test_targets(schedule):
    """Definitions: eps, x0, and v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans and Ho 2022)."""
    x0, eps, t = image(1), image(2), torch.tensor([0, 400, 999])
    a = torch.from_numpy(ABAR)[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(schedule.target("eps", x0, eps, t), eps)
    torch.testing.assert_close(schedule.target("x0", x0, eps, t), x0)
    torch.testing.assert_close(schedule.target("v", x0, eps, t), a.sqrt() * eps - (1 - a).sqrt() * x0)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_round_trip(schedule, kind):
    """Each parameterisation stands for the same clean image and the same noise, at all noise levels of a batch."""
    x0, eps, t = image(3), image(4), torch.tensor([1, 500, 999])
    a = torch.from_numpy(ABAR)[t].view(-1, 1, 1, 1)
    x_t = a.sqrt() * x0 + (1 - a).sqrt() * eps
    found = schedule.to_x0(kind, schedule.target(kind, x0, eps, t), x_t, t)
    # At t = 999 the division by sqrt(abar) = 0.0064 costs about three digits of float64.
    torch.testing.assert_close(found, x0, rtol=0, atol=1e-11)
    torch.testing.assert_close(schedule.to_eps(found, x_t, t), eps, rtol=0, atol=1e-11)


def test_add_noise_moments(schedule):
    """Mean sqrt(abar) x0 and variance 1 - abar, within five standard errors of 40000 draws."""
    n, x0 = 40000, 0.7
    eps = torch.randn(3, 1, 200, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = [20, 300, 999]
    noisy = schedule.add_noise(torch.full_like(eps, x0), eps, torch.tensor(times)).flatten(1)
    for row, t in zip(noisy, times, strict=True):
        var = 1 - ABAR[t]
        assert float(row.mean()) == pytest.approx(np.sqrt(ABAR[t]) * x0, abs=5 * np.sqrt(var / n))
        assert float(row.var()) == pytest.approx(var, rel=5 * np.sqrt(2 / n))


def test_add_noise_is_the_forward_chain(schedule):
    """The t-fold step x <- sqrt(1 - beta) x + sqrt(beta) eps: its mean factor and variance by recursion."""
    factor, var = 1.0, 0.0
    zero, one = torch.zeros(1, 3, 1, 1, dtype=torch.float64), torch.ones(1, 3, 1, 1, dtype=torch.float64)
    for t, beta in enumerate(BETAS):
        factor, var = factor * np.sqrt(1 - beta), (1 - beta) * var + beta
        if t in (0, 10, 499, 999):
            when = torch.tensor([t])
            assert float(schedule.add_noise(one, zero, when)[0, 0]) == pytest.approx(factor, rel=1e-9)
            assert float(schedule.add_noise(zero, one, when)[0, 0]) ** 2 == pytest.approx(var, rel=1e-9)


# --- the reverse transition --------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "t_next"), PAIRS)
def test_ddpm_is_bayes(schedule, t, t_next):
    """eta = 1 is p(x_next | x_t, x_0): the prior N(sqrt(b) x0, 1 - b) meets the likelihood of x_t given x_next.

    Of the chain respaced to these times a step multiplies by sqrt(r), r = abar_t / abar_next, and adds
    variance 1 - r; precisions add, means weigh by precision.
    """
    x, x0 = image(5), image(6)
    b, r = ABAR[t_next], ABAR[t] / ABAR[t_next]
    precision = 1 / (1 - b) + r / (1 - r)
    mean = (np.sqrt(b) * x0 / (1 - b) + np.sqrt(r) * x / (1 - r)) / precision
    found, spread = moved(schedule, x, x0, t, t_next, 1.0)
    torch.testing.assert_close(found, mean, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(spread, torch.full_like(x, precision**-0.5), rtol=1e-8, atol=1e-10)
    small, large = schedule.transition_variances(t, t_next)
    assert small == pytest.approx(1 / precision, rel=1e-8)
    assert large == pytest.approx(1 - r, rel=1e-8)


@pytest.mark.parametrize("t", [1, 2, 250, 999])
def test_ddpm_adjacent_is_as_printed(schedule, t):
    """Ho et al. 2020, Eq. 7, with beta_t itself; t = 1 is the least noisy step that draws noise."""
    x, x0 = image(7), image(8)
    a, b, beta = ABAR[t], ABAR[t - 1], BETAS[t]
    mean = (np.sqrt(b) * beta * x0 + np.sqrt(1 - beta) * (1 - b) * x) / (1 - a)
    found, spread = moved(schedule, x, x0, t, t - 1, 1.0)
    torch.testing.assert_close(found, mean, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(spread, torch.full_like(x, np.sqrt(beta * (1 - b) / (1 - a))), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("t", "t_next"), PAIRS)
def test_ddim_is_deterministic(schedule, t, t_next):
    """eta = 0 keeps the noise that separates x_t from x_0 and only turns it down (Song et al. 2021, Eq. 12)."""
    x0, eps = image(9), image(10)
    x = np.sqrt(ABAR[t]) * x0 + np.sqrt(1 - ABAR[t]) * eps
    found, spread = moved(schedule, x, x0, t, t_next, 0.0)
    expected = np.sqrt(ABAR[t_next]) * x0 + np.sqrt(1 - ABAR[t_next]) * eps
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert bool((spread == 0).all())


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.85, 1.0])
@pytest.mark.parametrize(("t", "t_next"), PAIRS)
def test_every_eta_keeps_the_marginal(schedule, t, t_next, eta):
    """Song et al. 2021, Lemma 1: from x_t ~ q(x_t | x_0) each member lands on q(x_next | x_0).

    With x_t = sqrt(a) x0 + sqrt(1 - a) e the step is affine in x0, e and fresh noise: read off the coefficients.
    """
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    a, b = ABAR[t], ABAR[t_next]
    of_x0 = float(schedule.transition(np.sqrt(a) * one, one, t, t_next, eta, zero))
    of_e = float(schedule.transition(np.sqrt(1 - a) * one, zero, t, t_next, eta, zero))
    of_noise = float(schedule.transition(zero, zero, t, t_next, eta, one))
    assert of_x0 == pytest.approx(np.sqrt(b), rel=1e-9)
    assert of_e**2 + of_noise**2 == pytest.approx(1 - b, rel=1e-8)
    r = a / b  # Song et al., Eq. 16: sigma = eta sqrt((1 - b) / (1 - a)) sqrt(1 - a / b)
    assert of_noise == pytest.approx(eta * np.sqrt((1 - b) / (1 - a) * (1 - r)), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_last_step_is_the_clean_image(schedule, eta):
    x, x0 = image(11), image(12)
    for t in (0, 999):
        torch.testing.assert_close(schedule.transition(x, x0, t, -1, eta, image(13)), x0, rtol=0, atol=0)


@pytest.mark.parametrize(("t", "t_next"), PAIRS)
def test_kept_shift(schedule, t, t_next):
    """Move x_t by one and keep x_0: Ho et al. 2020, Eq. 7, has x_t with the factor sqrt(alpha) (1 - b) / (1 - a)."""
    x, x0, zero = image(16), image(17), torch.zeros(3, 3, 4, 5, dtype=torch.float64)
    a, b = ABAR[t], ABAR[t_next]
    kept = schedule.kept_shift(t, t_next)
    assert kept == pytest.approx(np.sqrt(a / b) * (1 - b) / (1 - a), rel=1e-8)
    moved_by = schedule.transition(x + 1, x0, t, t_next, 1.0, zero) - schedule.transition(x, x0, t, t_next, 1.0, zero)
    torch.testing.assert_close(moved_by, torch.full_like(x, kept), rtol=1e-8, atol=1e-10)


def test_kept_shift_of_two_steps(schedule):
    """Two steps keep the product of what each keeps; no step keeps all, the step to the clean image nothing."""
    two = schedule.kept_shift(900, 400) * schedule.kept_shift(400, 30)
    assert schedule.kept_shift(900, 30) == pytest.approx(two, rel=1e-12)
    assert schedule.kept_shift(400, 400) == 1
    assert schedule.kept_shift(400, -1) == 0


@pytest.mark.parametrize(("t", "t_next"), PAIRS)
def test_learned_variance(schedule, t, t_next):
    """Nichol and Dhariwal 2021, Eq. 15: v = 0 is beta-tilde, v = 1 is beta, between them the logs are mixed."""
    x, x0 = image(14, 4), image(15, 4)
    beta = 1 - ABAR[t] / ABAR[t_next]
    small = beta * (1 - ABAR[t_next]) / (1 - ABAR[t])
    v = torch.tensor([0.0, 1.0, 0.5, 0.2], dtype=torch.float64).view(-1, 1, 1, 1).expand(x.shape)
    mean, spread = moved(schedule, x, x0, t, t_next, 1.0, v)
    expected = np.array([small, beta, np.sqrt(small * beta), small**0.8 * beta**0.2]) ** 0.5
    np.testing.assert_allclose(spread.numpy(), np.broadcast_to(expected[:, None, None, None], x.shape), rtol=1e-7)
    torch.testing.assert_close(mean, moved(schedule, x, x0, t, t_next, 1.0)[0], rtol=0, atol=0)


# --- respacing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "karras"])
def test_every_count_of_steps(schedule, spacing):
    """Each count up to 100, and every seventh up to T: that many distinct times, descending, from T - 1 to 0."""
    for steps in (*range(1, 100), *range(100, T, 7), T):
        times = np.array(schedule.spaced(steps, spacing))
        assert len(times) == steps
        assert times[0] == T - 1
        assert times[-1] == (0 if steps > 1 else T - 1)
        assert (np.diff(times) < 0).all()


@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "karras"])
@pytest.mark.parametrize("length", [1, 2, 3, 17])
def test_short_schedules(length, spacing):
    """No count of steps falls off the ends of a short diffusion; all of them are all times."""
    schedule = NoiseSchedule(torch.full((length,), 0.1))
    for steps in range(1, length + 1):
        times = schedule.spaced(steps, spacing)
        assert len(set(times)) == steps
        assert set(times) <= set(range(length))
    assert times == list(range(length))[::-1]


def test_uniform_follows_the_line(schedule):
    """Rounded to the next integer, so never more than half a step off the even line."""
    for steps in (2, 3, 20, 100, 500, 999, 1000):
        line = np.linspace(T - 1, 0, steps)
        assert np.abs(np.array(schedule.spaced(steps)) - line).max() <= 0.5 + 1e-9


def test_quadratic_follows_the_parabola(schedule):
    """999 u^2: while neighbours of the parabola lie more than one apart, only rounding moves a time.

    20 steps: the smallest gap is 999 / 19^2 = 2.8. For 500 the end is denser than integers, the start is not.
    """
    for steps, part in ((2, 2), (20, 20), (500, 100)):
        curve = (T - 1) * np.linspace(1, 0, steps) ** 2
        assert np.abs(np.array(schedule.spaced(steps, "quadratic")) - curve)[:part].max() <= 0.5 + 1e-9
    gaps = -np.diff(schedule.spaced(20, "quadratic"))
    assert gaps[0] > 5 * gaps[-1]  # most of the steps are where there is little noise


def test_karras_follows_the_published_levels(schedule):
    """Eq. 5 of EDM with rho = 7, from the schedule's largest level to its least: the nearest time of each."""
    abar = np.cumprod(1 - np.linspace(1e-4, 2e-2, T))
    sigmas = np.sqrt((1 - abar) / abar)
    for steps in (5, 20):
        ramp = np.arange(steps) / (steps - 1)
        levels = (sigmas[-1] ** (1 / 7) + ramp * (sigmas[0] ** (1 / 7) - sigmas[-1] ** (1 / 7))) ** 7
        want = [int(np.abs(np.log(sigmas / level)).argmin()) for level in levels]
        assert schedule.spaced(steps, "karras") == want


def test_the_nearest_time(schedule):
    """Of a level between two: the nearer one by its logarithm; beyond the ends the end."""
    abar = np.cumprod(1 - np.linspace(1e-4, 2e-2, T))
    sigmas = np.sqrt((1 - abar) / abar)
    assert schedule.nearest(sigmas[[999, 500, 3, 0]]) == [999, 500, 3, 0]
    between = np.sqrt(sigmas[20] * sigmas[21])
    assert schedule.nearest([between * 1.001, between * 0.999, 1e6, 1e-6]) == [21, 20, 999, 0]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("t", "t_next"), PAIRS)
def test_the_eta_that_draws_a_share_of_the_noise_anew(schedule, t, t_next, share):
    """DiffPIR's transition: sqrt(1 - zeta) of the predicted noise and sqrt(zeta) of fresh noise."""
    x, x0, noise = torch.randn(3, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = schedule.transition(x, x0, t, t_next, schedule.eta_of(share, t, t_next), noise)
    abar = np.append(np.cumprod(1 - np.linspace(1e-4, 2e-2, T)), 1.0)
    eps = (x - abar[t] ** 0.5 * x0) / (1 - abar[t]) ** 0.5
    direction = (1 - share) ** 0.5 * eps + share**0.5 * noise
    torch.testing.assert_close(found, abar[t_next] ** 0.5 * x0 + (1 - abar[t_next]) ** 0.5 * direction)


def test_a_step_of_second_order_is_the_published_one(schedule):
    """DPM-Solver++(2M), Algorithm 2 of Lu et al. (2022), as printed; the last step is of first order."""
    x, before, now = torch.randn(3, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    abar = np.cumprod(1 - np.linspace(1e-4, 2e-2, T))
    alpha, sigma = np.sqrt(abar), np.sqrt(1 - abar)
    lam = np.log(alpha / sigma)
    for earlier, t, t_next in ((999, 500, 300), (300, 299, 10), (10, 5, 0)):
        h, r = lam[t_next] - lam[t], (lam[t] - lam[earlier]) / (lam[t_next] - lam[t])
        d = (1 + 1 / (2 * r)) * now - 1 / (2 * r) * before
        want = sigma[t_next] / sigma[t] * x - alpha[t_next] * (np.exp(-h) - 1) * d
        ahead = now + schedule.lookahead(earlier, t, t_next) * (now - before)
        torch.testing.assert_close(schedule.transition(x, ahead, t, t_next, 0.0, x), want)
    assert schedule.lookahead(10, 0, -1) == 0


def test_the_authors_500_steps(schedule):
    """guided-diffusion's respacing, which the authors use: a cursor from 0 that adds 999 / 499 and is rounded."""
    cursor, kept = 0.0, []
    for _ in range(500):
        kept.append(round(cursor))
        cursor += (T - 1) / (500 - 1)
    assert schedule.spaced(500) == kept[::-1]


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_counts(schedule, steps):
    with pytest.raises(ValueError, match="between 1 and 1000"):
        schedule.spaced(steps)
