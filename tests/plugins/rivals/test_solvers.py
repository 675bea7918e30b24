"""Published solvers against closed forms: dense linear algebra, Gaussian posteriors, finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff import Pipeline, SamplerSettings
from invdiff.degradation import Degradation
from invdiff.errors import RecipeError
from invdiff.fit import MisfitError
from invdiff.guidance import Problem, Step
from invdiff.metrics import noise_level
from invdiff.metrics.kernel import kernel_l1
from invdiff.prior import DenoiserPrior, Output, PriorNet, PriorSpec
from invdiff.sampler import sample
from invdiff.testing import parametrize_with_checks
from invdiff.testing.subjects import ToyBlur
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_motion.operator import Motion, MotionSettings
from invdiff_rivals.daps import DAPS, DAPSSettings
from invdiff_rivals.ddnm import DDNM, DDNMSettings
from invdiff_rivals.diffpir import DiffPIR, DiffPIRSettings
from invdiff_rivals.dps import DPS, DPSSettings
from invdiff_rivals.fast_em import FastEM, FastEMSettings
from invdiff_rivals.gdp import GDP, ParameterDescent
from invdiff_rivals.pigdm import PiGDM, PiGDMSettings
from invdiff_tv.prior import TV
from linear_gaussian import NOISE, SCHEDULE, A, Dense, M, N, White, gen, one, posterior, rand, still

EVERYONE = [DPS(), DiffPIR(), DDNM(), PiGDM(), FastEM(), GDP(), ParameterDescent()]
EVERYONE += [DAPS(), DAPS(DAPSSettings(ode_steps=1, spread=0.5))]

rng = np.random.default_rng(5)


class Affine(PriorNet):
    """``x0 = J x_t + c`` in the prior's range, at every time."""

    def __init__(self, jacobian, value_range=(-1.0, 1.0)):
        super().__init__()
        self.spec = PriorSpec(SCHEDULE, value_range=value_range, prediction="x0")
        self.jacobian = jacobian

    def forward(self, x_t, t, condition):
        return Output((x_t.flatten(1) @ self.jacobian.T + 0.1).view_as(x_t))


# --- conformance


@parametrize_with_checks(EVERYONE)
def test_conformance(component, check):
    check(component)


@parametrize_with_checks(EVERYONE, operator=BlindSR(BlindSRSettings(scale=2, kernel_size=7)))
def test_conformance_in_super_resolution(component, check):
    check(component)


@parametrize_with_checks(EVERYONE, operator=Motion(MotionSettings(kernel_size=9, padding="valid")))
def test_conformance_beyond_the_frame(component, check):
    check(component)


# --- DPS


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_dps_is_the_published_update(value_range):
    """Written down on [-1, 1] for x0 = J x_t + c: minus zeta times J^T A^T (A x0 - y) / ||A x0 - y||."""
    jacobian = torch.from_numpy(rng.normal(size=(N, N))) / 4
    prior, guide, y = Affine(jacobian, value_range), DPS(DPSSettings(strength=0.3, kernel="given")), rand(4, 3, 1, 1)
    x_t, half = rand(4, 3, 2, 2, seed=1).requires_grad_(), (value_range[1] - value_range[0]) / 2
    x0 = prior.to_unit(prior.predict(x_t, torch.full((4,), 300), x_t).x0)
    step = Step(0, 1, 300, 200, x_t, x0, None, y, prior, Dense(), one(4))
    moved = guide.correct(step, torch.zeros_like(x_t)).flatten(1).numpy() / half  # a move on [-1, 1]
    residual = 2 * (x0.detach().flatten(1).numpy() @ A.T - y.flatten(1).numpy())
    slope = residual @ A @ jacobian.numpy() / np.linalg.norm(residual, axis=1, keepdims=True)
    np.testing.assert_allclose(moved, -0.3 * slope, rtol=1e-10)


# --- the data steps


@pytest.mark.parametrize("t", [20, 500])
@pytest.mark.parametrize("spread", [None, 0.3])
def test_diffpir_is_its_minimiser(t, spread):
    """``argmin ||y - A x||^2 + rho ||x - x0||^2`` by dense algebra, rho = lambda noise^2 / sigma^2, sigma on [0, 1].

    With a spread of the prior's, ``1 / sigma^2`` is ``1 / sigma^2 + 1 / spread^2``.
    """
    x0, y, theta = rand(2, 3, 2, 2), rand(2, 3, 1, 1, seed=1), torch.tensor([[0.7], [1.5]]).double()
    guide = DiffPIR(DiffPIRSettings(strength=2.0, noise=NOISE, spread=spread))
    found = guide.refine(still(x0, y, Dense(), theta, t)).x0.flatten(1).numpy()
    abar = np.prod(1 - np.linspace(1e-4, 2e-2, 1000)[: t + 1])
    rho = 2.0 * NOISE**2 * (4 * abar / (1 - abar) + (0 if spread is None else 1 / spread**2))
    for i in range(2):
        a = float(theta[i]) * A
        right = a.T @ y[i].flatten().numpy() + rho * x0[i].flatten().numpy()
        np.testing.assert_allclose(found[i], np.linalg.solve(a.T @ a + rho * np.eye(N), right), rtol=1e-6)


def test_diffpir_leaves_clipped_pixels_out():
    """Their rows of the sum are not there, or weigh a fiftieth where the picture has less light than they saw;
    ``believed`` and where nothing is clipped they are."""
    x0, y, theta = rand(1, 3, 2, 2), rand(1, 3, 1, 1, seed=1).clamp_max(0.9), one(1)
    left_out, believed = (DiffPIR(DiffPIRSettings(noise=NOISE, clipped=how)) for how in ("left_out", "believed"))
    assert torch.equal(*(guide.refine(still(x0, y, Dense(), theta)).x0 for guide in (left_out, believed)))
    y[0, 1] = 1.0
    rho = 1.75 * NOISE**2 * still(x0, y, Dense(), theta).precision(None)
    a, seen = float(theta) * A, y.flatten().numpy()
    bright = x0 * float(1.1 / (a[1] @ x0.flatten().numpy()))
    for guide, x, weight in ((left_out, bright, 0), (left_out, bright / 2, 0.02), (believed, bright, 1)):
        weighed = a.T * [1, weight, 1]
        found = guide.refine(still(x, y, Dense(), theta)).x0.flatten().numpy()
        want = np.linalg.solve(weighed @ a + rho * np.eye(N), weighed @ seen + rho * x.flatten().numpy())
        np.testing.assert_allclose(found, want, rtol=1e-6)


def test_a_lamp_that_was_shaken_leaves_fewer_rings():
    """Of a dark wall with lamps that no photo can hold, seen through a diagonal shake, kernel told."""
    scene = torch.full((1, 3, 64, 64), 0.2)
    scene[..., 32:] = 0.3
    scene[..., 20:23, 20:23], scene[..., 44:46, 40:42] = 8.0, 5.0
    kernel = torch.eye(9) / 9
    operator = Motion(MotionSettings(kernel_size=9))
    y = operator.apply(scene, kernel[None]).clamp(0, 1)[0]
    far = {}
    for how in ("left_out", "believed"):
        guide = DiffPIR(DiffPIRSettings(noise=0.01, clipped=how))
        pipe = Pipeline(operator, TV(), [guide], SamplerSettings(steps=6, temperature=0, renewal=0.3))
        far[how] = float((pipe.restore(y, kernel=kernel).image - scene[0].clamp(0, 1)).abs().mean())
    assert far["left_out"] < 0.9 * far["believed"]


def test_diffpir_leaves_the_last_estimate_to_the_prior():
    x0 = rand(1, 3, 2, 2)
    assert DiffPIR().refine(still(x0, rand(1, 3, 1, 1), Dense(), one(1), 0, -1)).x0 is x0


def test_diffpir_takes_the_operators_noise():
    """Where the recipe names none; and never none at all."""
    x0, y = rand(1, 3, 16, 16), rand(1, 3, 16, 16, seed=1)
    noisy, k = Motion(MotionSettings(kernel_size=5, noise_sigma=0.07)), torch.full((1, 5, 5), 0.04).double()
    want = DiffPIR(DiffPIRSettings(noise=0.07)).refine(still(x0, y, noisy, k)).x0
    assert torch.equal(DiffPIR().refine(still(x0, y, noisy, k)).x0, want)
    clean = Motion(MotionSettings(kernel_size=5))
    want = DiffPIR(DiffPIRSettings(noise=0.001)).refine(still(x0, y, clean, k)).x0
    assert torch.equal(DiffPIR().refine(still(x0, y, clean, k)).x0, want)


def test_diffpir_measures_each_photos_noise():
    """``noise: measured`` is the photo's own where that is more than the operator's, for each of a batch."""
    flat = torch.full((2, 3, 32, 32), 0.5).double()
    y = flat + torch.tensor([0.1, 0.004]).double().view(2, 1, 1, 1) * torch.randn(flat.shape, generator=gen()).double()
    operator = Motion(MotionSettings(kernel_size=5, noise_sigma=0.02))
    k, guide = torch.full((2, 5, 5), 0.04).double(), DiffPIR(DiffPIRSettings(noise="measured"))
    found = guide.refine(still(flat, y, operator, k)).x0
    for i, noise in enumerate([float(noise_level(y[:1])), 0.02]):
        want = DiffPIR(DiffPIRSettings(noise=noise)).refine(still(flat[i : i + 1], y[i : i + 1], operator, k[:1])).x0
        torch.testing.assert_close(found[i : i + 1], want)
    assert float(noise_level(y[:1])) == pytest.approx(0.1, rel=0.1)


def test_what_compression_did_is_noise_beside_the_photos_own():
    """Variances add; a number that is given stands as it is."""
    flat = torch.full((1, 3, 32, 32), 0.5).double()
    y = flat + 0.03 * torch.randn(flat.shape, generator=gen()).double()
    operator, k = Motion(MotionSettings(kernel_size=5)), torch.full((1, 5, 5), 0.04).double()
    step = replace(still(flat, y, operator, k), compression=0.04)
    both = float(noise_level(y).square() + 0.04**2) ** 0.5
    found = DiffPIR(DiffPIRSettings(noise="measured")).refine(step).x0
    torch.testing.assert_close(found, DiffPIR(DiffPIRSettings(noise=both)).refine(step).x0)
    alone = DiffPIR(DiffPIRSettings(noise=0.03)).refine(step).x0
    assert torch.equal(alone, DiffPIR(DiffPIRSettings(noise=0.03)).refine(still(flat, y, operator, k)).x0)


def test_ddnm_replaces_what_the_operator_sees():
    """The measurement is met exactly, and nothing else moves: pinv by SVD."""
    x0, y, theta = rand(2, 3, 2, 2), rand(2, 3, 1, 1, seed=1), torch.tensor([[0.7], [1.5]]).double()
    found = DDNM(DDNMSettings(floor=0.0)).refine(still(x0, y, Dense(), theta)).x0
    torch.testing.assert_close(Dense().apply(found, theta), y, rtol=1e-9, atol=1e-9)
    unseen = np.eye(N) - np.linalg.pinv(A) @ A
    np.testing.assert_allclose(found.flatten(1).numpy() @ unseen, x0.flatten(1).numpy() @ unseen, atol=1e-9)


def test_ddnm_leaves_out_what_is_hardly_seen():
    """Each singular direction comes back by ``s^2 / (s^2 + floor^2)`` of its way."""
    x0, y = rand(1, 3, 2, 2), rand(1, 3, 1, 1, seed=1)
    found = DDNM(DDNMSettings(floor=0.5)).refine(still(x0, y, Dense(), one(1))).x0
    left, values, _ = np.linalg.svd(A)
    before, after = (y.flatten().numpy() - A @ x.flatten().numpy() for x in (x0, found))
    np.testing.assert_allclose(left.T @ after, left.T @ before * 0.5**2 / (values**2 + 0.5**2), rtol=1e-8)


# --- PiGDM


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("t", [5, 300, 999])
def test_pigdm_is_the_conditional_mean(t, value_range):
    """``E[x0 | x_t, y]`` of white Gaussian pixels, by conditioning on x_t and y jointly, at every noise level."""
    prior, guide = White(value_range), PiGDM(PiGDMSettings(noise=NOISE))
    (low, high), y = value_range, rand(2, 3, 1, 1, seed=1)
    x_t = torch.randn(2, 3, 2, 2, generator=gen(2), dtype=torch.float64).requires_grad_()
    x0 = prior.to_unit(prior.predict(x_t, torch.full((2,), t), x_t).x0)
    found = guide.refine(Step(0, 1, t, t - 1, x_t, x0, one(2), y, prior, Dense())).x0.detach().flatten(1).numpy()
    abar = float(SCHEDULE.alphas_cumprod[t])
    see = np.vstack([np.sqrt(abar) * (high - low) * np.eye(N), A])
    noise = np.diag([*[1 - abar] * N, *[NOISE**2] * M])
    covariance, mean = White.SPREAD**2 * np.eye(N), np.full(N, White.MEAN)
    gain = covariance @ see.T @ np.linalg.inv(see @ covariance @ see.T + noise)
    for i in range(2):
        seen = np.concatenate([x_t[i].detach().flatten() - np.sqrt(abar) * low, y[i].flatten()])
        np.testing.assert_allclose(found[i], mean + gain @ (seen - see @ mean), rtol=1e-7, atol=1e-9)


def test_pigdm_draws_the_posterior():
    """An unconditional prior, the whole loop, 2000 samples of 200 steps: moments within five standard errors.

    The posterior is told from the prior by its variance along the operator's directions, and from its neighbours by
    its mean. 200 steps leave 2 % of a variance.
    """
    count, y = 2000, rand(1, 3, 1, 1, seed=1)
    problem = Problem(
        y.expand(count, -1, -1, -1), Dense(), White(), [PiGDM(PiGDMSettings(noise=NOISE, kernel="given"))], one(count)
    )
    drawn = sample(problem, SamplerSettings(steps=200), [gen(i) for i in range(count)]).x0.flatten(1).numpy()
    mean, covariance = posterior(y.flatten().numpy(), NOISE)
    white = (drawn - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    assert np.abs(white.mean(0)).max() < 5 / count**0.5
    assert np.abs(np.cov(white.T) - np.eye(N)).max() < 5 * (2 / count) ** 0.5 + 0.02
    assert np.abs(np.linalg.inv(np.linalg.cholesky(covariance)) * White.SPREAD - np.eye(N)).max() > 1  # it can tell


# --- Fast EM


def blurred(operator=None, side=48, batch=1):
    operator = operator or Motion(MotionSettings(kernel_size=7, noise_sigma=0.002))
    k = operator.sample_parameters(batch, gen(1)).double()
    x, k = rand(batch, 3, side, side), k / k.sum((1, 2), keepdim=True)
    return operator, x, k, operator.apply(x, k)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_true_image_gives_the_true_kernel(scale):
    """From no estimate at all; in super-resolution the kernel that half of the frequencies show."""
    family = {"family": "isotropic", "sigma": [0.8, 1.2]}
    operator, x, k, y = blurred(
        BlindSR(BlindSRSettings(scale=2, kernel_size=7, kernels=family)) if scale == 2 else None, batch=2
    )
    guide = FastEM(FastEMSettings(coupling=1.0, noise=0.002, threshold=0.001, iterations=100))
    found = guide.refine(still(x, y, operator)).theta
    assert operator.parameters.contains(found)
    assert max(kernel_l1(a, b) for a, b in zip(found, k, strict=True)) < 0.01


def test_the_first_round_is_the_printed_minimiser():
    """``argmin_k ||y - A_k(x0)||^2 + noise^2 beta ||k - z||^2`` with A_k(x0) as a dense matrix in k."""
    operator, x, k, y = blurred(side=12)
    basis = torch.eye(49, dtype=torch.float64).view(49, 7, 7)
    dense = operator.apply(x.expand(49, -1, -1, -1), basis).flatten(1).numpy().T
    z = torch.full((1, 7, 7), 1 / 49, dtype=torch.float64)
    ratio = 0.05**2 * 1e4
    right = dense.T @ y.flatten().numpy() + ratio * z.flatten().numpy()
    want = torch.from_numpy(np.linalg.solve(dense.T @ dense + ratio * np.eye(49), right)).view(1, 7, 7)
    guide = FastEM(FastEMSettings(coupling=1e4, noise=0.05, threshold=0.0, rounds=1, iterations=200))
    found = guide.refine(still(x, y, operator, z)).theta
    assert float((want - k).abs().max()) > 0.01  # held back on the way
    torch.testing.assert_close(found, operator.parameters.project(want), rtol=1e-6, atol=1e-8)


class Remembered(DenoiserPrior):
    """Knows the picture the better, the less noise there is, and nothing of the operator."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def denoise(self, x, sigma):
        trust = 1 / (1 + 0.3 * sigma.view(-1, 1, 1, 1) ** 2)
        return trust * self.picture + (1 - trust) * x.mean((-2, -1), keepdim=True)


def test_a_prior_that_makes_no_estimate_restores_blind():
    """Each step goes on from the kernel of the one before: the error falls along the loop."""
    operator, x, k, y = blurred()
    seen = []
    problem = Problem(y, operator, Remembered(x), [FastEM(FastEMSettings(iterations=5, rounds=1)), DiffPIR()])
    found = sample(problem, SamplerSettings(steps=12, temperature=0), [gen()], lambda r: seen.append(r.theta))
    errors = [kernel_l1(theta, k) for theta in seen]
    assert errors[-1] < 0.1 < 0.5 < errors[0]
    assert torch.equal(found.theta, seen[-1])


def test_a_threshold_takes_small_numbers_for_none():
    operator, x, _, y = blurred()
    found = FastEM(FastEMSettings(threshold=0.3)).refine(still(x, y, operator)).theta
    kept = found[found > 0]
    assert float(kept.min()) > 0.3 * float(kept.max()) * 0.999
    assert float(found.sum()) == pytest.approx(1)


def test_a_flat_black_picture_is_no_kernels_fault():
    operator = Motion(MotionSettings(kernel_size=7))
    black = torch.zeros(1, 3, 16, 16)
    found = FastEM().refine(still(black, black, operator)).theta
    assert operator.parameters.contains(found)


# --- what does not fit


class Square(ToyBlur):
    linear = False


class Bare(ToyBlur):
    adjoint = Degradation.adjoint


class Silent(ToyBlur):
    noise_level = None


REFUSED = [
    (DiffPIR, Square, "this operator is not linear"),
    (DDNM, Bare, "this operator has no adjoint"),
    (PiGDM, Silent, "this operator does not say how noisy its measurements are: set noise"),
    (DiffPIR, Silent, "this operator does not say how noisy its measurements are: set noise"),
    (FastEM, Dense, "this operator's parameters are no kernel"),
]


@pytest.mark.parametrize(("guide", "operator", "words"), REFUSED)
def test_an_operator_that_it_cannot_serve(guide, operator, words):
    """Before anything is restored, with the place in the recipe."""
    with pytest.raises(MisfitError) as caught:
        Pipeline(operator(), White(), [DPS(), guide()], device="cpu")
    assert (caught.value.key, caught.value.reason) == ("guidance.1", words)


def test_where_a_recipe_said_it(recipe, refused):
    path = recipe(
        ("  - kind: kernel_aware\n    strength: 1.0", "  - kind: pigdm"), ("_size: 21", "_size: 21\n  camera: {}")
    )
    assert (
        refused("run", path)
        == f"{path}:13: guidance.0: this operator does not say how noisy its measurements are: set noise"
    )


@pytest.mark.parametrize("guide", [DPS, DiffPIR, DDNM, PiGDM])
def test_parameters_that_nobody_knows(guide):
    act = guide().correct if guide is DPS else guide().refine
    given = (rand(1, 3, 1, 1),) if guide is DPS else ()
    with pytest.raises(
        RecipeError,
        match=rf"^{guide.__name__.lower()}: this prior estimates no kernel: put a guidance that does before it",
    ):
        act(still(rand(1, 3, 2, 2), rand(1, 3, 1, 1), Dense()), *given)
    told = guide(guide.Settings(kernel="given"))
    act = told.correct if guide is DPS else told.refine
    with pytest.raises(RecipeError, match=rf"^{guide.__name__.lower()}: kernel 'given' needs a known kernel"):
        act(still(rand(1, 3, 2, 2), rand(1, 3, 1, 1), Dense(), one(1)), *given)
