"""Parameter spaces and the part of a measurement that all operators share: noise and rounding."""

import numpy as np
import pytest
import scipy.optimize
import torch
from pydantic import ValidationError

from invdiff import BoxSpace, Degradation, DegradationSettings, KernelSpace
from invdiff.assembly import read


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the simplex of kernels


def spread_out(count, side, seed=0):
    """Kernels off the simplex in every way: random, all negative, far out, flat, and already on it."""
    theta = torch.randn(count, side, side, generator=gen(seed), dtype=torch.float64)
    theta[0] -= 10
    theta[1] *= 50
    theta[2] = 0.3
    theta[3] = theta[3].softmax(0) / side
    return theta


@pytest.mark.parametrize("side", [1, 3, 21])
def test_the_projection_meets_the_optimality_conditions(side):
    # For min |p - v|^2 on the simplex they are: p >= 0, sum p = 1, and one tau with v - p = tau where p > 0
    # and v <= tau where p = 0.
    theta = spread_out(12, side)
    found = KernelSpace(side).project(theta)
    assert found.shape == theta.shape
    for p, v in zip(found.flatten(1), theta.flatten(1), strict=True):
        assert (p >= 0).all()
        assert abs(float(p.sum()) - 1) < 1e-12
        on = p > 0
        tau = (v - p)[on]
        assert float(tau.max() - tau.min()) < 1e-12
        assert (v[~on] <= tau.mean() + 1e-12).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_projection_is_what_an_optimiser_finds(seed):
    v = torch.randn(3, 3, generator=gen(seed), dtype=torch.float64).flatten().numpy()
    best = scipy.optimize.minimize(
        lambda p: ((p - v) ** 2).sum(),
        np.full(9, 1 / 9),
        jac=lambda p: 2 * (p - v),
        bounds=[(0, 1)] * 9,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    found = KernelSpace(3).project(torch.from_numpy(v).view(1, 3, 3))
    np.testing.assert_allclose(found.flatten().numpy(), best.x, atol=1e-6)


def test_no_point_of_the_simplex_is_nearer():
    space, theta = KernelSpace(3), spread_out(6, 3, seed=1)
    nearest = (space.project(theta) - theta).flatten(1).norm(dim=1)
    others = np.random.default_rng(0).dirichlet(np.full(9, 0.3), 5000)  # many of them near the faces
    distance = (torch.from_numpy(others)[:, None] - theta.flatten(1)).norm(dim=2)
    assert (distance >= nearest - 1e-12).all()


def test_projecting_twice_is_projecting_once():
    space = KernelSpace(5)
    once = space.project(spread_out(8, 5))
    torch.testing.assert_close(space.project(once), once, rtol=0, atol=1e-14)


def test_projection_by_hand():
    # (2, 1.5, 0 ...): tau = (2 + 1.5 - 1) / 2 = 1.25 leaves 0.75 and 0.25; a flat kernel stays flat.
    theta = torch.zeros(2, 3, 3)
    theta[0, 0, 0], theta[0, 2, 1] = 2.0, 1.5
    theta[1] = -7.0
    want = torch.zeros(2, 3, 3)
    want[0, 0, 0], want[0, 2, 1] = 0.75, 0.25
    want[1] = 1 / 9
    torch.testing.assert_close(KernelSpace(3).project(theta), want)


def test_each_kernel_is_projected_alone():
    space, theta = KernelSpace(5), spread_out(6, 5)
    alone = torch.cat([space.project(one[None]) for one in theta])
    torch.testing.assert_close(space.project(theta), alone, rtol=0, atol=0)


def test_float32_kernels_sum_to_one():
    found = KernelSpace(21).project(torch.randn(4, 21, 21, generator=gen()))
    assert found.dtype == torch.float32
    assert (found.double().sum((1, 2)) - 1).abs().max() < 1e-5


def test_what_a_kernel_space_contains():
    space = KernelSpace(3)
    assert space.shape == (3, 3)
    good = torch.full((2, 3, 3), 1 / 9)
    assert space.contains(good)
    negative = good.clone()
    negative[1, 0, 0], negative[1, 1, 1] = -0.1, 1 / 9 + 0.1 + 1 / 9
    assert not space.contains(negative)
    assert not space.contains(good * 1.01)
    assert not space.contains(torch.full((1, 5, 5), 1 / 25))
    assert not space.contains(torch.full((3, 3), 1 / 9))  # no batch


# --- boxes


def test_a_box_clips_each_number_to_its_own_bounds():
    space = BoxSpace(("gamma", "haze"), (0.5, 0.0), (2.0, 1.0))
    assert space.shape == (2,)
    theta = torch.tensor([[3.0, -1.0], [0.1, 0.4], [1.0, 7.0]])
    torch.testing.assert_close(space.project(theta), torch.tensor([[2.0, 0.0], [0.5, 0.4], [1.0, 1.0]]))
    assert space.contains(torch.tensor([[1.0, 0.5]]))
    assert not space.contains(theta)
    assert not space.contains(torch.ones(1, 3))


# --- noise and rounding


class Dim(Degradation):
    """Times a number between 0 and 1."""

    parameters = BoxSpace(("gain",), (0.0,), (1.0,))

    def sample_parameters(self, batch, generator):
        return torch.rand(batch, 1, generator=generator)

    def apply(self, x, theta):
        return x * theta[..., None, None]

    def lift(self, y):
        return y


def dim(**settings):
    return Dim(DegradationSettings(**settings))


def test_noise_is_white_gaussian_of_the_stated_deviation():
    y = torch.full((2, 3, 100, 100), 0.5, dtype=torch.float64)
    noise = dim(noise_sigma=0.1).corrupt(y, gen()) - y
    count = noise.numel()  # 60,000: the mean has a deviation of sigma / 245, sigma itself one of sigma / 346
    assert abs(float(noise.mean())) < 4 * 0.1 / count**0.5
    assert abs(float(noise.std()) - 0.1) < 4 * 0.1 / (2 * count) ** 0.5
    assert abs(float((noise**4).mean()) / 0.1**4 - 3) < 0.1  # a Gaussian's fourth moment
    flat = noise.flatten(2)
    for a, b in ((noise[..., 1:], noise[..., :-1]), (noise[..., 1:, :], noise[..., :-1, :]), (flat[:1], flat[1:])):
        assert abs(float((a * b).mean())) / 0.01 < 0.03  # neighbours, rows and images do not share theirs
    assert float(noise.min()) < -0.3
    assert float(noise.max()) > 0.3


def test_a_range_of_noise_gives_each_image_its_own():
    y = torch.full((60, 3, 40, 40), 0.5)
    operator = dim(noise_sigma=(0.01, 0.05))
    found = (operator.corrupt(y, gen()) - y).flatten(1).std(1)
    assert 0.009 < float(found.min()) < 0.015 < 0.045 < float(found.max()) < 0.052
    assert operator.noise_level is None
    assert dim(noise_sigma=0.03).noise_level == pytest.approx(0.03)
    assert torch.equal(operator.corrupt(y, gen()), operator.corrupt(y, gen()))


def test_noise_is_not_clipped_unless_rounded():
    y = torch.ones(1, 3, 32, 32)
    assert dim(noise_sigma=0.1).corrupt(y, gen()).max() > 1.1
    rounded = dim(noise_sigma=0.1, quantize=True).corrupt(y, gen())
    assert rounded.max() == 1
    steps = rounded.double() * 255
    assert (steps - steps.round()).abs().max() < 1e-4
    assert len(steps.round().unique()) > 20  # noise first, then rounding


def test_rounding_goes_to_the_nearest_of_256():
    values = torch.tensor([-0.2, 0.0, 0.49 / 255, 0.51 / 255, 100.4 / 255, 254.6 / 255, 1.3])
    y = dim(quantize=True).corrupt(values.expand(1, 3, 1, 7), gen())
    torch.testing.assert_close(y[0, 0, 0] * 255, torch.tensor([0.0, 0, 0, 1, 100, 255, 255]))


def test_neither_noise_nor_rounding_by_default():
    y = torch.randn(1, 3, 8, 8, generator=gen())
    assert torch.equal(Dim().corrupt(y, gen()), y)


def test_the_generator_is_the_only_source_of_chance():
    x = torch.rand(2, 3, 8, 8, generator=gen())
    operator = dim(noise_sigma=0.05)
    before = torch.get_rng_state()
    (y, theta), (y_again, theta_again), (y_other, theta_other) = (operator.degrade(x, gen(s)) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(y, y_again)
    assert torch.equal(theta, theta_again)
    assert not torch.allclose(y, y_other)
    assert not torch.allclose(theta, theta_other)
    one = gen(3)
    operator.degrade(x, one)
    assert not torch.equal(operator.degrade(x, one)[0], y)  # it moves on


def test_degrade_is_apply_then_noise():
    x, kept = (torch.rand(3, 3, 64, 64, generator=gen()) for _ in range(2))
    y, theta = dim(noise_sigma=0.02).degrade(x, gen(1))
    assert theta.shape == (3, 1)
    assert len(theta.unique()) == 3  # a draw an image
    assert (y - x * theta[..., None, None]).std() == pytest.approx(0.02, rel=0.03)
    assert torch.equal(x, kept)


def test_theta_has_the_images_dtype():
    y, theta = dim(noise_sigma=0.1, quantize=True).degrade(torch.rand(1, 3, 4, 4, dtype=torch.float64), gen())
    assert y.dtype == theta.dtype == torch.float64


def test_no_adjoint_unless_written():
    with pytest.raises(NotImplementedError, match="Dim has no adjoint"):
        Dim().adjoint(torch.zeros(1, 3, 4, 4), torch.ones(1, 1))


@pytest.mark.parametrize("sigma", [-0.1, 2, float("nan"), [0.2, 0.1], [-0.1, 0.1], [0.1]])
def test_a_noise_out_of_range_is_refused(sigma):
    with pytest.raises(ValidationError, match="noise_sigma"):
        DegradationSettings(noise_sigma=sigma)


def test_a_number_may_be_written_as_yaml_misreads_it(recipe):
    """YAML 1.1 takes 1e-2 for a text; in recipes and changes to them it is the number."""
    path = recipe(("  scale: 4", "  scale: 4\n  noise_sigma: 1e-2"))
    assert read(path).degradation.settings.noise_sigma == 0.01
    assert read(path, ["degradation.noise_sigma=2E-3"]).degradation.settings.noise_sigma == 0.002


@pytest.mark.parametrize("wrong", ["1e-2", True, "half"])
def test_what_is_no_number(wrong):
    with pytest.raises(ValidationError):
        DegradationSettings(noise_sigma=wrong)
