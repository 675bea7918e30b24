"""The two closed-form halves of alternate minimisation, against true kernels and dense linear algebra in float64."""

import types

import pytest
import torch

from invdiff.degradation import BoxSpace, Degradation
from invdiff.errors import RecipeError
from invdiff.guidance import Step
from invdiff.metrics.kernel import kernel_l1
from invdiff.prior import PriorSpec
from invdiff.schedule import NoiseSchedule
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_kernel_guidance.kernel_update import (
    DataTerm,
    KernelUpdate,
    KernelUpdateSettings,
    difference,
    strong_edges,
)
from invdiff_kernel_guidance.kernels import centred
from invdiff_kernel_guidance.proximal import Proximal, ProximalSettings
from invdiff_motion.operator import Motion, MotionSettings

SCHEDULE = NoiseSchedule.linear(1000)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=gen(seed), dtype=torch.float64)


def motion(size=9, **settings):
    return Motion(MotionSettings(kernel_size=size, **settings))


def blindsr(size=9, **settings):
    return BlindSR(BlindSRSettings(kernel_size=size, scale=2, **settings))


def uniform(batch, size=9):
    return torch.full((batch, size, size), size**-2.0, dtype=torch.float64)


def update(**settings):
    return KernelUpdate(KernelUpdateSettings(**settings))


def proximal(**settings):
    return Proximal(ProximalSettings(**settings))


def sigma(t):
    return float(SCHEDULE.noise_to_signal(torch.tensor([t]), torch.empty(1)))


def step(operator, x0, theta, y, t=0, t_next=-1, value_range=(0.0, 1.0), truth=None):
    prior = types.SimpleNamespace(spec=PriorSpec(SCHEDULE, value_range=value_range))
    return Step(0, 1, t, t_next, x0, x0, theta, y, prior, operator, truth)


def problem(batch=1, size=9, side=48, operator=None, seed=0):
    """A random texture, motion kernels, the measurement: what there is to solve."""
    operator = operator or motion(size)
    k = motion(size, intensity=1.0).sample_parameters(batch, gen(seed + 1)).double()
    x, k = rand(batch, 3, side, side, seed=seed), k / k.sum((1, 2), keepdim=True)
    return operator, x, k, operator.apply(x, k)


# --- the kernel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["reflect", "valid"])
@pytest.mark.parametrize("size", [9, 11])
def test_the_true_image_gives_the_true_kernel(size, padding):
    operator, x, k, y = problem(2, size, operator=motion(size, padding=padding))
    found = update(anchor=1e-6, iterations=150).solve(y, x, uniform(2, size), operator)
    assert operator.parameters.contains(found)
    for i in range(2):
        assert kernel_l1(found[i], k[i]) < 0.01
    assert kernel_l1(found[1], k[1].flip(0, 1)) > 0.3  # it has an orientation to get wrong


@pytest.mark.parametrize("downsample", ["bicubic", "stride"])
def test_it_serves_super_resolution(downsample):
    """Kernels that survive the downsampling; half the frequencies are aliased, so it is not exact."""
    family = {"family": "isotropic", "sigma": [1.5, 1.5]}
    operator = blindsr(downsample=downsample, kernels=family)
    k = operator.sample_parameters(1, gen()).double().roll((1, -1), (-2, -1))
    x = rand(1, 3, 48, 48)
    found = update(anchor=1e-5, iterations=300).solve(operator.apply(x, k), x, uniform(1), operator)
    assert operator.parameters.contains(found)
    assert kernel_l1(found[0], k[0]) < 0.1 < kernel_l1(found[0], k[0].flip(-1, -2))


def test_a_few_iterations_bring_it_nearer():
    """The defaults, and a sharp image with errors, from a kernel that is half wrong."""
    operator, x, k, y = problem()
    wrong = 0.5 * k + 0.5 * uniform(1)
    found = update().solve(y, x + 0.02 * (rand(1, 3, 48, 48, seed=3) - 0.5), wrong, operator)
    assert operator.parameters.contains(found)
    assert kernel_l1(found, k) < 0.5 * kernel_l1(wrong, k)


def test_a_strong_anchor_holds():
    operator, x, k, y = problem()
    found = update(anchor=1e6).solve(y, x, uniform(1), operator)
    assert kernel_l1(found, uniform(1)) < 1e-4 < kernel_l1(found, k)


def test_the_true_kernel_is_a_fixed_point():
    operator, x, k, y = problem()
    assert kernel_l1(update().solve(y, x, k, operator), k) < 1e-9


@pytest.mark.parametrize("operator", [motion(), blindsr()], ids=["motion", "blindsr"])
def test_alone_as_in_a_batch(operator):
    """Also where one image's contrast, and so its curvature, is ten thousand times the other's."""
    x = rand(2, 3, 24, 24) * torch.tensor([1, 0.01], dtype=torch.float64).view(2, 1, 1, 1)
    k = motion().sample_parameters(2, gen()).double()
    y = operator.apply(x, k)
    together = update().solve(y, x, uniform(2), operator)
    for i in range(2):
        one = slice(i, i + 1)
        alone = update().solve(y[one], x[one], uniform(1), operator)
        torch.testing.assert_close(alone, together[one], rtol=1e-7, atol=1e-10)


def test_single_precision_does():
    operator, x, k, y = problem()
    found = update(anchor=1e-6, iterations=100).solve(y.float(), x.float(), uniform(1).float(), operator)
    assert found.dtype == torch.float32
    assert kernel_l1(found, k) < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_without_texture_leaves_the_anchor(dtype):
    operator, _, k, y = problem(side=24)
    anchor, flat = k.flip(-1).to(dtype), torch.full((1, 3, 24, 24), 0.3, dtype=dtype)
    assert kernel_l1(update().solve(y.to(dtype), flat, anchor, operator), anchor) < 1e-3


def dense_hessian(x, operator, size):
    """Column by column, by applying the operator to each unit kernel."""
    units = torch.eye(size**2, dtype=torch.float64).view(-1, size, size)
    measured = operator.apply(x.expand(len(units), -1, -1, -1), units)
    edges = torch.cat([measured.diff(dim=-2).flatten(1), measured.diff(dim=-1).flatten(1)], 1)
    return edges @ edges.T


@pytest.mark.parametrize("operator", [motion(5), blindsr(5)], ids=["motion", "blindsr"])
def test_the_slope_is_that_of_the_squared_edges(operator):
    x, k = rand(2, 3, 12, 12), uniform(2, 5)
    y = operator.apply(rand(2, 3, 12, 12, seed=1), k)

    def energy(k):
        rest = operator.apply(x, k) - y
        return 0.5 * (rest.diff(dim=-2).square().sum() + rest.diff(dim=-1).square().sum())

    term, h = DataTerm(y, x, operator), 1e-5
    found = term.slope(k)
    for unit in h * torch.eye(50, dtype=torch.float64).view(-1, 2, 5, 5):
        want = (energy(k + unit) - energy(k - unit)) / (2 * h)  # exact but for rounding: it is quadratic
        assert float((found * unit).sum() / h) == pytest.approx(float(want), rel=1e-6, abs=1e-6)
    hessian = dense_hessian(x[:1], operator, 5)
    want = (hessian @ k[0].flatten()).view(5, 5)
    torch.testing.assert_close(term.curved(k)[0], want)


@pytest.mark.parametrize("operator", [motion(9, padding=p) for p in ("reflect", "circular", "valid")] + [blindsr()])
def test_differences_are_measured_as_differences(operator):
    """A difference over ``scale`` pixels of the scene is one of a pixel in its measurement: what ``edges`` rests on."""
    x, k = rand(2, 3, 40, 36), motion().sample_parameters(2, gen()).double()
    y, reach = operator.apply(x, k), 9 // operator.scale
    for dim in (-2, -1):
        of_x = operator.apply(difference(x, dim, operator.scale), k)
        away = (..., slice(reach, -reach), slice(reach, -reach))  # from the border
        torch.testing.assert_close(of_x[away], difference(y, dim)[away])


def test_the_strongest_edges_are_kept():
    x = rand(2, 3, 20, 30) * torch.tensor([1.0, 1e-3]).double().view(2, 1, 1, 1)
    rows, cols = strong_edges(x, 0.1, 1)
    for i in range(2):
        kept = (rows[i].abs().sum(0) + cols[i].abs().sum(0)) > 0
        assert kept.sum() == 60
        grey = x[i].mean(0)
        strength = difference(grey[None, None], -2)[0, 0] ** 2 + difference(grey[None, None], -1)[0, 0] ** 2
        assert strength[kept].min() >= strength[~kept].max()
        torch.testing.assert_close(rows[i][:, kept], difference(x[i : i + 1], -2)[0][:, kept])
    assert all(torch.equal(a, difference(x, dim)) for a, dim in zip(strong_edges(x, 1.0, 1), (-2, -1), strict=True))


def blobs(side=72):
    """Discs of even colour: strong edges far apart, where the rest of an image is flat."""
    i, j = torch.meshgrid(*2 * [torch.arange(side).double()], indexing="ij")
    x = torch.full((1, 3, side, side), 0.2, dtype=torch.float64)
    for n in range(12):
        place, colour = rand(2, seed=n) * side, rand(3, seed=50 + n)
        inside = (i - place[0]) ** 2 + (j - place[1]) ** 2 < (4 + 8 * float(rand(1, seed=90 + n))) ** 2
        x = torch.where(inside, colour.view(1, 3, 1, 1), x)
    return x


@pytest.mark.parametrize("padding", ["reflect", "valid"])
def test_edges_help_where_the_image_is_too_smooth(padding):
    """From images whose texture is too smooth, as a denoiser's is: strong edges give kernels nearer the true ones."""
    operator, errors = motion(9, padding=padding), {1.0: 0.0, 0.1: 0.0}
    for seed in range(4):
        texture = 0.4 * (rand(1, 1, 72, 72, seed=seed).expand(1, 3, -1, -1) - 0.5)
        k = motion(9, intensity=1.0).sample_parameters(1, gen(seed)).double()
        y = operator.apply(blobs() + texture, k)
        x = blobs() + torch.nn.functional.avg_pool2d(texture, 3, 1, 1)
        for share in errors:
            guide = update(edges=share, anchor=0.01, iterations=80)
            errors[share] += kernel_l1(guide.solve(y, x, uniform(1), operator), k)
    assert errors[0.1] < 0.8 * errors[1.0]
    x, exact = blobs(), update(edges=0.5, anchor=1e-6, iterations=200)  # all of the edges there are
    assert kernel_l1(exact.solve(operator.apply(x, k), x, uniform(1), operator), k) < 0.05


def test_edges_alone_as_in_a_batch():
    x = torch.cat([blobs(40), 0.01 * rand(1, 3, 40, 40)])
    k, operator = motion().sample_parameters(2, gen()).double(), motion()
    y = operator.apply(x, k)
    together = update(edges=0.1).solve(y, x, uniform(2), operator)
    for i in range(2):
        one = slice(i, i + 1)
        alone = update(edges=0.1).solve(y[one], x[one], uniform(1), operator)
        torch.testing.assert_close(alone, together[one], rtol=1e-7, atol=1e-10)


def textures():
    i, j = torch.meshgrid(torch.arange(16.0).double(), torch.arange(16.0).double(), indexing="ij")
    return {
        "noise": rand(16, 16),
        "smooth": torch.nn.functional.avg_pool2d(rand(1, 20, 20), 5, 1)[0],
        "ramp": i + 0.3 * j,
        "rows": (-1.0) ** i,
        "cols": (-1.0) ** j,
        "checker": (-1.0) ** (i + j),
        "diagonal": torch.sin(i + 0.7 * j),
        "edge": (i > 7).double(),
        "point": ((i == 7) & (j == 8)).double(),
        "wave": torch.sin(1.8 * j),
    }


STARTS = {"flat": uniform(1, 5), "path": motion(5).sample_parameters(1, gen()).double()}
CASES = [
    pytest.param(operator, texture, start, id=f"{a}-{b}-{c}")
    for a, operator in (("motion", motion(5)), ("blindsr", blindsr(5)))
    for b, texture in textures().items()
    for c, start in STARTS.items()
]


@pytest.mark.parametrize(("operator", "texture", "start"), CASES)
def test_the_curvature_is_close_and_hardly_ever_below(operator, texture, start):
    x = texture.expand(1, 3, -1, -1)
    largest = float(torch.linalg.eigvalsh(dense_hessian(x, operator, 5))[-1])
    found = DataTerm(operator.apply(x, start), x, operator).curvature(start)
    assert found.shape == (1, 1, 1)
    assert 0.9 * largest <= float(found) <= 1.3 * largest


def test_centring_moves_mass_and_image_against_each_other():
    operator = motion(11)
    k = torch.zeros(3, 11, 11, dtype=torch.float64)
    k[0, 1:5, 6:10] = rand(4, 4)
    k[1, 5:10, 1:6] = rand(5, 5, seed=1)
    k[2, 4:7, 4:7] = 1
    k, x = k / k.sum((1, 2), keepdim=True), rand(3, 3, 40, 40)
    kernel, image = centred(k, x, uniform(3, 11))
    line = torch.arange(-5.0, 6).double()

    def mass(kernel):
        return torch.stack([kernel.sum(2) @ line, kernel.sum(1) @ line], 1)

    assert mass(kernel).abs().max() < 0.1
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(3).double())
    torch.testing.assert_close(kernel[2], k[2])
    assert torch.equal(image[2], x[2])
    # The image moves the other way by whole pixels: with the kernel moved by as many, the photo inside is the same.
    whole = mass(k).round().long().tolist()
    moved = torch.stack([one.roll((-rows, -cols), (0, 1)) for one, (rows, cols) in zip(k, whole, strict=True)])
    before, after = operator.apply(x, k), operator.apply(image, moved)
    torch.testing.assert_close(after[..., 10:-10, 10:-10], before[..., 10:-10, 10:-10])
    assert not torch.equal(image[0], x[0])


def test_centring_keeps_the_offset_of_a_strided_operator():
    """There kernels have their mean at -(scale - 1) / 2 so that the measurement is aligned with the image."""
    operator = BlindSR(BlindSRSettings(kernel_size=15, scale=4, downsample="stride"))
    k, x = operator.sample_parameters(1, gen()).double(), rand(1, 3, 48, 48)
    found = update().refine(step(operator, x, k, operator.apply(x, k)))
    assert torch.equal(found.x0, x)
    assert kernel_l1(found.theta, k) < 1e-6


# --- the kernel in a step ----------------------------------------------------------------------------


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_it_waits_for_the_noise_to_fall(value_range):
    """The level of trust is on [0, 1]; the last step acts whatever its level."""
    operator, x, k, y = problem(side=24)
    width = value_range[1] - value_range[0]
    first = max(t for t in range(1000) if sigma(t) / width <= 0.2)
    guide, theta = update(centre=False), uniform(1)

    def refined(t, t_next):
        return guide.refine(step(operator, x, theta, y, t, t_next, value_range))

    assert torch.equal(refined(first + 1, first).theta, theta)
    assert torch.equal(refined(999, 0).x0, x)
    for found in (refined(first, 5), refined(999, -1)):
        assert kernel_l1(found.theta, k) < 0.6 * kernel_l1(theta, k)
        assert torch.equal(found.x0, x)
        torch.testing.assert_close(found.theta, guide.solve(y, x, theta, operator))


def test_a_step_centres():
    """A kernel off the middle is found and moved there, the image the other way, and its tails are cut if asked."""
    operator, x = motion(11), rand(1, 3, 48, 48)
    k = torch.zeros(1, 11, 11, dtype=torch.float64)
    k[0, 6:9, 1:5] = rand(3, 4)
    k = k / k.sum()
    y, settings = operator.apply(x, k), {"anchor": 1e-6, "iterations": 150}
    off = update(centre=False, **settings).refine(step(operator, x, uniform(1, 11), y))
    found = update(**settings).refine(step(operator, x, uniform(1, 11), y))
    kernel, image = centred(off.theta, off.x0, uniform(1, 11))
    assert not torch.equal(image, x)
    torch.testing.assert_close(found.theta, kernel)
    torch.testing.assert_close(found.x0, image)
    thin = update(floor=0.1, **settings).refine(step(operator, x, uniform(1, 11), y)).theta
    assert 0 < float(thin[thin > 0].min()) / float(thin.max()) >= 0.1
    assert int((thin > 0).sum()) < int((kernel > 0).sum())


def test_what_it_cannot_serve_is_refused():
    operator, x, _, y = problem(side=24)
    with pytest.raises(RecipeError, match=r"^kernel_update: this prior estimates no kernel$"):
        update().refine(step(operator, x, None, y))
    operator.parameters = BoxSpace(("gain",), (0.0,), (2.0,))
    assert update().unfit(operator) == "this operator's parameters are no kernel"


@pytest.mark.parametrize("centre", [False, True])
def test_gradients_pass_straight_through(centre):
    operator, x, _, y = problem(side=24)
    x, theta, weights = x.requires_grad_(), uniform(1).requires_grad_(), rand(1, 9, 9, seed=5)
    found = update(centre=centre).refine(step(operator, x, theta, y))
    by_theta, by_x = torch.autograd.grad((found.theta * weights).sum() + found.x0.square().sum() / 2, (theta, x))
    torch.testing.assert_close(by_theta, weights)
    assert float(by_x.abs().max()) > 0
    if not centre:
        torch.testing.assert_close(by_x, x.detach())


@pytest.mark.parametrize("guide", [update(), proximal()], ids=["kernel_update", "proximal"])
@pytest.mark.parametrize("grad", [False, True])
def test_a_step_is_left_as_it_was(guide, grad):
    operator, x, _, y = problem(side=24)
    theta = uniform(1)
    kept = [v.clone() for v in (x, theta, y)]
    with torch.set_grad_enabled(grad):
        found = guide.refine(step(operator, x, theta, y))
    assert all(torch.equal(a, b) for a, b in zip(kept, (x, theta, y), strict=True))
    assert not found.x0.requires_grad
    assert not found.theta.requires_grad


# --- the image ---------------------------------------------------------------------------------------


def matrix(operator, k, side):
    units = torch.eye(3 * side**2, dtype=torch.float64).view(-1, 3, side, side)
    return operator.apply(units, k.expand(len(units), -1, -1)).flatten(1).T


@pytest.mark.parametrize(
    "operator",
    [motion(3), motion(3, padding="valid"), motion(3, padding="circular"), blindsr(3), blindsr(3, downsample="stride")],
    ids=["motion", "valid", "circular", "bicubic", "stride"],
)
@pytest.mark.parametrize("ratio", [0.02, 1.0])
def test_proximal_is_the_gaussian_posterior_mean(operator, ratio):
    """Of x ~ N(x0, r^2) and y ~ N(A x, noise^2), with ratio = noise^2 / r^2: in Kalman's form and as normal equations.

    The second of the two images is ten thousand times the first.
    """
    x0, k = rand(2, 3, 6, 6), rand(2, 3, 3, seed=1)
    k = k / k.sum((1, 2), keepdim=True)
    x0[1] *= 1e4
    y = operator.apply(rand(2, 3, 6, 6, seed=2), k)
    found = x0 + step(operator, x0, k, y).correction(k, ratio, 200)
    for i in range(2):
        a, rest = matrix(operator, k[i : i + 1], 6), (y[i] - operator.apply(x0, k)[i]).flatten()
        kalman = x0[i].flatten() + a.T @ torch.linalg.solve(a @ a.T + ratio * torch.eye(len(a)).double(), rest)
        both = a.T @ y[i].flatten() + ratio * x0[i].flatten()
        normal = torch.linalg.solve(a.T @ a + ratio * torch.eye(108).double(), both)
        for want in (kalman, normal):
            torch.testing.assert_close(found[i].flatten(), want, rtol=1e-8, atol=1e-10 * float(x0[i].max()))


@pytest.mark.parametrize("size", [(24, 24), (14, 22)])
def test_proximal_needs_no_iterations_where_borders_are_circular(size):
    """The closed form is what conjugate gradients go towards, by the same operator told as one of any borders."""
    operator, x0, k = motion(9, padding="circular"), rand(2, 3, *size), rand(2, 9, 9, seed=1)
    k = k / k.sum((1, 2), keepdim=True)
    y = operator.apply(rand(2, 3, *size, seed=2), k)
    closed, anyhow = step(operator, x0, k, y), step(operator, x0, k, y)
    anyhow.degradation = types.SimpleNamespace(at=lambda theta: Degradation.at(operator, theta))
    exact = closed.correction(k, 0.02, 0)
    distance = [float((anyhow.correction(k, 0.02, count) - exact).norm()) for count in (5, 300)]
    assert distance[1] < 1e-10 < 1e-3 < distance[0]


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_the_ratio_at_much_and_at_little_noise(value_range):
    width = value_range[1] - value_range[0]

    def ratio(t, **settings):
        return proximal(**settings).ratio(step(None, None, None, None, t, value_range=value_range))

    assert ratio(999, noise=0.03, spread=0.05) == pytest.approx(0.03**2 / 0.05**2, rel=1e-5)
    assert ratio(0, noise=0.03, spread=100) == pytest.approx(0.03**2 / (sigma(0) / width) ** 2, rel=1e-5)
    assert ratio(0) > ratio(100) > ratio(500) > ratio(999)


def test_proximal_goes_towards_the_measurement():
    """More so the less the prior is trusted; a step is the solution with its own ratio."""
    operator, x, k, y = problem(2, side=24)
    start = torch.full_like(x, 0.5)
    found = {t: proximal().refine(step(operator, start, k, y, t)) for t in (0, 999)}
    distance = {t: float((operator.apply(e.x0, e.theta) - y).norm()) for t, e in found.items()}
    assert distance[999] < distance[0] < float((operator.apply(start, k) - y).norm())
    guide, last = proximal(), step(operator, start, k, y, 999)
    want = start + last.correction(k, guide.ratio(last), guide.settings.iterations)
    torch.testing.assert_close(found[999].x0, want)
    assert torch.equal(found[999].theta, k)


def test_proximal_stays_where_the_measurement_is_met():
    operator, x, k, y = problem(side=24)
    found = proximal().refine(step(operator, x, k, y)).x0
    torch.testing.assert_close(found, x)
    torch.testing.assert_close(proximal().refine(step(operator, x.float(), k.float(), y.float())).x0, x.float())


def test_a_given_kernel_serves_the_image():
    operator, x, k, y = problem(side=24)
    start = torch.full_like(x, 0.5)
    want = proximal().refine(step(operator, start, k, y)).x0
    for theta in (uniform(1), None):
        found = proximal(kernel="given").refine(step(operator, start, theta, y, truth=k))
        assert torch.equal(found.x0, want)


def test_a_given_kernel_leaves_the_estimate():
    operator, x, k, y = problem(side=24)
    found = proximal(kernel="given").refine(step(operator, x, uniform(1), y, truth=k))
    assert torch.equal(found.theta, uniform(1))


def test_what_proximal_cannot_serve_is_refused():
    operator, x, k, y = problem(side=24)
    with pytest.raises(RecipeError, match=r"^proximal: kernel 'given' needs a known kernel: inputs that are .*$"):
        proximal(kernel="given").refine(step(operator, x, k, y))
    with pytest.raises(RecipeError, match=r"^proximal: this prior estimates no kernel: put a guidance that does"):
        proximal().refine(step(operator, x, None, y, truth=k))
    assert proximal().unfit(operator) is None
    operator.linear = False
    assert proximal().unfit(operator) == "this operator is not linear"


def test_proximal_is_the_identity_to_gradients():
    operator, x, k, y = problem(side=24)
    x, k, weights = (x * 0.5).requires_grad_(), k.requires_grad_(), rand(1, 3, 24, 24, seed=5)
    found = proximal().refine(step(operator, x, k, y))
    assert not torch.allclose(found.x0, x)
    by_x, by_k = torch.autograd.grad((found.x0 * weights).sum() + found.theta.square().sum() / 2, (x, k))
    torch.testing.assert_close(by_x, weights)
    torch.testing.assert_close(by_k, k.detach())
