"""The blind super-resolution operator and its kernel families, against closed forms, SciPy and Pillow."""

import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image
from pydantic import ValidationError

from invdiff.components.discovery import registry


def operator(**settings):
    cls = registry().get("degradation", "blindsr").cls
    return cls(cls.Settings.model_validate(settings))


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(count, family, seed=0, **settings):
    return operator(kernels=family, **settings).sample_parameters(count, gen(seed))


def grid(side):
    line = np.arange(side) - side // 2
    return np.meshgrid(line, line, indexing="ij")


def moments(kernel):
    """Mean (rows, columns) and covariance of a kernel as a distribution of mass."""
    mass, place = kernel.double().numpy().ravel(), np.stack([g.ravel() for g in grid(len(kernel))])
    mean = place @ mass
    off = place - mean[:, None]
    return mean, (off * mass) @ off.T


def round_gaussian(sigma, side=21):
    rows, cols = grid(side)
    kernel = np.exp(-(rows**2 + cols**2) / (2 * sigma**2))
    return kernel / kernel.sum()


ISOTROPIC = {"family": "isotropic"}
ANISOTROPIC = {"family": "anisotropic"}
GAUSSIAN8 = {"family": "gaussian8"}
MIXED = [{**GAUSSIAN8, "weight": 3}, {**ANISOTROPIC, "weight": 1}]


# --- kernels


@pytest.mark.parametrize("family", [ISOTROPIC, ANISOTROPIC, GAUSSIAN8, MIXED])
@pytest.mark.parametrize("downsample", ["bicubic", "stride"])
@pytest.mark.parametrize("side", [1, 11, 21, 31])
def test_kernels_are_kernels(family, downsample, side):
    kernels = draw(40, family, kernel_size=side, downsample=downsample)
    assert kernels.shape == (40, side, side)
    assert kernels.dtype == torch.float32
    assert (kernels >= 0).all()
    assert (kernels.double().sum((1, 2)) - 1).abs().max() < 1e-6
    op = operator(kernel_size=side)
    assert op.parameters.contains(kernels)


@pytest.mark.parametrize("family", [ISOTROPIC, GAUSSIAN8, {**ANISOTROPIC, "noise": 0}])
def test_kernels_are_centred(family):
    kernels = draw(30, family)
    for kernel in kernels:
        assert np.abs(moments(kernel)[0]).max() < 1e-5
    torch.testing.assert_close(kernels, kernels.flip(1, 2), rtol=0, atol=1e-8)  # the same upside down


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_stride_looks_at_the_middle_of_its_block(scale):
    # y[i] = sum_m k[m] x[s i - m]: a mean of -(s - 1) / 2 looks at s i + (s - 1) / 2, the middle of s pixels.
    # At sigma 1 to 1.5 the 21 pixels hold all of the mass: 8.5 / 1.5 is 5.7 deviations.
    for family in (ISOTROPIC, {**ANISOTROPIC, "noise": 0}):
        for kernel in draw(10, {**family, "sigma": [1, 1.5]}, downsample="stride", scale=scale):
            np.testing.assert_allclose(moments(kernel)[0], -(scale - 1) / 2, atol=1e-5)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_an_isotropic_kernel_has_the_deviation_it_was_asked_for(sigma):
    # A Gaussian sampled at integers keeps its variance up to exp(-2 pi^2 sigma^2), 3e-9 at sigma 1, and
    # 10.5 pixels are at least 5.2 deviations.
    (kernel,) = draw(1, {**ISOTROPIC, "sigma": [sigma, sigma]})
    np.testing.assert_allclose(moments(kernel)[1], np.diag([sigma**2, sigma**2]), atol=2e-4)


def test_isotropic_deviations_are_uniform():
    kernels = draw(400, {**ISOTROPIC, "sigma": [0.8, 2.4]})
    found = [math.sqrt(moments(k)[1][0, 0]) for k in kernels]
    assert 0.79 < min(found) < 0.85
    assert 2.35 < max(found) < 2.41
    assert scipy.stats.kstest(found, scipy.stats.uniform(0.8, 1.6).cdf).pvalue > 0.01
    for kernel, sigma in zip(kernels[:5], found, strict=False):
        np.testing.assert_allclose(kernel, round_gaussian(sigma), atol=1e-4)


def test_anisotropic_axes_and_angles():
    low, high = 1.0, 2.2  # inside 10.5 pixels up to 4.8 deviations: moments are those of the Gaussian
    found = [moments(k)[1] for k in draw(600, {**ANISOTROPIC, "sigma": [low, high], "noise": 0})]
    values, vectors = np.linalg.eigh(found)  # ascending
    minor, major = np.sqrt(values).T
    assert low - 0.01 < minor.min()
    assert major.max() < high + 0.01
    # The smaller and the larger of two uniform numbers: the means are a third and two thirds of the way.
    third = (high - low) / 3
    error = 4 * (high - low) * math.sqrt(1 / 18 / 600)
    assert abs(minor.mean() - low - third) < error
    assert abs(major.mean() - low - 2 * third) < error
    # The longer axis points anywhere: no harmonic of its angle stands out of what chance leaves.
    angle = np.arctan2(vectors[:, 0, 1], vectors[:, 1, 1])[major / minor > 1.1]
    assert len(angle) > 400
    for turns in (2, 4, 6):
        assert abs(np.exp(1j * turns * angle).mean()) < 2.8 / math.sqrt(len(angle))  # exp(-2.8^2) of cases: 1 in 2500


def test_an_anisotropic_kernel_is_a_gaussian():
    for kernel in draw(5, {**ANISOTROPIC, "sigma": [1, 2], "noise": 0}):
        rows, cols = grid(21)
        place = np.stack([rows.ravel(), cols.ravel()])
        precision = np.linalg.inv(moments(kernel)[1])
        want = np.exp(-0.5 * (place * (precision @ place)).sum(0)).reshape(21, 21)
        np.testing.assert_allclose(kernel, want / want.sum(), atol=2e-5)


def speckle(count, **settings):
    """Each pixel over the same round kernel without noise, scaled to a mean of one."""
    kernels = draw(count, {**ANISOTROPIC, "sigma": [2, 2], **settings}).double().numpy()
    ratio = kernels / round_gaussian(2.0)
    return ratio / ratio.mean((1, 2), keepdims=True)


def test_speckle_is_a_quarter_either_way():
    # U[0.75, 1.25]: extremes 5 / 3 apart whatever the normalisation, deviation 0.5 / sqrt(12) = 0.1443.
    ratio = speckle(20)
    widest = ratio.max((1, 2)) / ratio.min((1, 2))
    assert widest.max() <= 5 / 3 + 1e-5
    assert widest.mean() > 1.62
    assert ratio.std() == pytest.approx(0.1443, rel=0.02)


def test_one_sided_speckle():
    # U[1, 1.25]: extremes 1.25 apart, deviation 0.25 / sqrt(12) over a mean of 1.125 = 0.0641.
    ratio = speckle(20, one_sided=True)
    widest = ratio.max((1, 2)) / ratio.min((1, 2))
    assert widest.max() <= 1.25 + 1e-5
    assert widest.mean() > 1.235
    assert ratio.std() == pytest.approx(0.0641, rel=0.02)


def test_no_speckle():
    assert speckle(2, noise=0).std() < 1e-6


def nearest_of_eight(kernels):
    """Which of 1.8, 2.0 ... 3.2 each kernel is, and by how much it is not."""
    known = np.stack([round_gaussian(1.8 + 0.2 * i) for i in range(8)])
    distance = np.abs(kernels.double().numpy()[:, None] - known).max((2, 3))
    return distance.argmin(1), distance.min(1)


def test_gaussian8_is_the_benchmarks():
    which, distance = nearest_of_eight(draw(800, GAUSSIAN8))
    assert distance.max() < 1e-7
    counts = np.bincount(which, minlength=8)
    assert scipy.stats.chisquare(counts).pvalue > 0.01  # and all eight as often


def test_gaussian8_with_other_values():
    kernels = draw(50, {**GAUSSIAN8, "sigma": [1, 2], "count": 3})
    assert {round(math.sqrt(moments(k)[1][0, 0]), 2) for k in kernels} == {1.0, 1.5, 2.0}


def test_a_list_of_families_is_drawn_by_weight():
    _, distance = nearest_of_eight(draw(800, MIXED))
    share = (distance < 1e-6).mean()
    assert abs(share - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 800)


def test_draws_follow_the_generator_alone():
    before = torch.get_rng_state()
    for family in (ISOTROPIC, ANISOTROPIC, GAUSSIAN8, MIXED):
        first = draw(6, family, seed=1)
        assert torch.equal(first, draw(6, family, seed=1))
        assert not torch.equal(first, draw(6, family, seed=2))
        assert len({k.numpy().tobytes() for k in first}) > 1
    assert torch.equal(torch.get_rng_state(), before)


# --- the operator


def picture(*size, seed=0, dtype=torch.float64):
    return torch.rand(2, 3, *size, generator=gen(seed), dtype=dtype)


BOTH = pytest.mark.parametrize("downsample", ["bicubic", "stride"])
SCALES = pytest.mark.parametrize("scale", [2, 3, 4])


@BOTH
@SCALES
def test_shapes(scale, downsample):
    op = operator(scale=scale, downsample=downsample)
    x = picture(8 * scale, 10 * scale, dtype=torch.float32)
    y, theta = op.degrade(x, gen())
    assert op.scale == scale
    assert op.linear
    assert y.shape == (2, 3, 8, 10)
    assert op.output_shape((8 * scale, 10 * scale)) == (8, 10)
    assert theta.shape == (2, 21, 21) == (2, *op.parameters.shape)
    assert op.lift(y).shape == op.baseline(y).shape == x.shape


@SCALES
def test_stride_keeps_every_scaleth_pixel_of_the_convolution(scale):
    op = operator(scale=scale, downsample="stride", kernel_size=9)
    x, theta = picture(8 * scale, 6 * scale), torch.rand(2, 9, 9, generator=gen(1), dtype=torch.float64)
    y = op.apply(x, theta)
    for i in range(2):
        want = scipy.ndimage.convolve(x[i, 1].numpy(), theta[i].numpy(), mode="mirror")[::scale, ::scale]
        np.testing.assert_allclose(y[i, 1].numpy(), want, rtol=1e-11)


@SCALES
def test_bicubic_shrinks_the_convolution_as_pillow_does(scale):
    op = operator(scale=scale, kernel_size=9)
    x, theta = picture(10 * scale, 12 * scale), torch.rand(2, 9, 9, generator=gen(1), dtype=torch.float64)
    theta /= theta.sum((1, 2), keepdim=True)
    y = op.apply(x, theta)
    for i in range(2):
        blurred = scipy.ndimage.convolve(x[i, 2].numpy(), theta[i].numpy(), mode="mirror").astype(np.float32)
        want = np.asarray(Image.fromarray(blurred).resize((12, 10), Image.Resampling.BICUBIC))
        # Pillow cuts the cubic off at the border, MATLAB mirrors: two output pixels see the difference.
        np.testing.assert_allclose(y[i, 2, 2:-2, 2:-2].numpy(), want[2:-2, 2:-2], atol=2e-6)


@BOTH
@SCALES
@pytest.mark.parametrize("padding", ["reflect", "replicate", "circular"])
def test_adjoint(scale, downsample, padding):
    op = operator(scale=scale, downsample=downsample, padding=padding, kernel_size=7)
    x, y = (torch.randn(2, 3, n * 4, n * 5, generator=gen(n), dtype=torch.float64) for n in (scale, 1))
    theta = torch.rand(2, 7, 7, generator=gen(2), dtype=torch.float64)
    left, right = (op.apply(x, theta) * y).sum(), (x * op.adjoint(y, theta)).sum()
    assert abs(float(left - right)) < 1e-12 * float(x.norm() * y.norm()) * 49


@BOTH
def test_linear_in_the_image(downsample):
    op, theta = operator(downsample=downsample), draw(2, ANISOTROPIC).double()
    a, b = picture(24, 32), picture(24, 32, seed=1)
    both = op.apply(0.3 * a - 2 * b, theta)
    torch.testing.assert_close(both, 0.3 * op.apply(a, theta) - 2 * op.apply(b, theta), rtol=0, atol=1e-12)


@BOTH
def test_a_flat_image_stays_flat(downsample):
    op = operator(downsample=downsample)
    y = op.apply(torch.full((2, 3, 24, 24), 0.4), draw(2, ANISOTROPIC, downsample=downsample))
    torch.testing.assert_close(y, torch.full_like(y, 0.4), rtol=0, atol=1e-6)


@BOTH
def test_an_image_does_not_depend_on_its_neighbours(downsample):
    op, x, theta = operator(downsample=downsample), picture(24, 24), draw(2, ANISOTROPIC).double()
    y = op.apply(x, theta)
    for i in range(2):
        torch.testing.assert_close(op.apply(x[i : i + 1], theta[i : i + 1])[0], y[i], rtol=0, atol=1e-13)
        torch.testing.assert_close(
            op.adjoint(y[i : i + 1], theta[i : i + 1])[0], op.adjoint(y, theta)[i], rtol=0, atol=1e-13
        )


@BOTH
def test_inputs_are_left_alone(downsample):
    op, x, theta = operator(downsample=downsample), picture(24, 24), draw(2, ISOTROPIC).double()
    y = op.apply(x, theta)
    kept = [i.clone() for i in (x, y, theta)]
    op.adjoint(y, theta)
    op.apply(x, theta)
    op.lift(y)
    op.baseline(y)
    op.degrade(x, gen())
    assert all(torch.equal(a, b) for a, b in zip(kept, (x, y, theta), strict=True))


@BOTH
def test_differentiable_in_image_and_kernel(downsample):
    op = operator(scale=2, downsample=downsample, kernel_size=3)
    x = torch.rand(1, 1, 4, 6, generator=gen(), dtype=torch.float64, requires_grad=True)
    theta = torch.rand(1, 3, 3, generator=gen(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op.apply, (x, theta))


def blob(side=72):
    """A smooth spot, off centre in both directions: its centre of mass tells any shift."""
    rows, cols = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    spot = np.exp(-((rows - 33.3) ** 2 + (cols - 38.6) ** 2) / (2 * 5.0**2))
    return torch.from_numpy(spot).expand(1, 3, -1, -1).contiguous()


@BOTH
@SCALES
def test_the_lift_lies_on_the_clean_image(scale, downsample):
    op = operator(scale=scale, downsample=downsample, kernels={**ISOTROPIC, "sigma": [1.2, 1.2]})
    x = blob()
    y = op.apply(x, op.sample_parameters(1, gen()).double())
    for shown in (op.lift(y), op.baseline(y)):
        mass = shown[0, 0].clamp_min(0).numpy()
        place = np.array(scipy.ndimage.center_of_mass(mass))
        np.testing.assert_allclose(place, (33.3, 38.6), atol=0.05)
        error = float((shown - x).square().sum())
        for moved in (x.roll(1, 2), x.roll(-1, 2), x.roll(1, 3), x.roll(-1, 3)):
            assert error < float((shown - moved).square().sum())


@SCALES
def test_the_baseline_is_pillows_bicubic(scale):
    y = picture(9, 11)
    want = np.asarray(
        Image.fromarray(y[0, 0].numpy().astype(np.float32)).resize((11 * scale, 9 * scale), Image.Resampling.BICUBIC)
    )
    edge = 2 * scale
    found = operator(scale=scale).baseline(y)[0, 0].numpy()
    np.testing.assert_allclose(found[edge:-edge, edge:-edge], want[edge:-edge, edge:-edge], atol=2e-6)


def off_grid(y):
    steps = y.double() * 255
    return float((steps - steps.round()).abs().max())


def test_measurements_are_those_of_an_8_bit_file():
    x = picture(32, 32, dtype=torch.float32)
    y, _ = operator(noise_sigma=0.5).degrade(x, gen())  # the default is to round
    assert off_grid(y) < 1e-4
    assert y.min() == 0
    assert y.max() == 1
    assert off_grid(operator(quantize=False).degrade(x, gen())[0]) > 0.3


def test_same_seed_same_measurement():
    op, x = operator(noise_sigma=0.02, kernels=MIXED), picture(24, 24)
    first, second, other = (op.degrade(x, gen(s)) for s in (5, 5, 6))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


# --- settings


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"kernel_size": 20}, "kernel_size must be odd, got 20"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"scale": 5}, "scale"),
        ({"scale": 1}, "scale"),
        ({"padding": "zeros"}, "padding"),
        ({"downsample": "nearest"}, "downsample"),
        ({"kernels": {"family": "box"}}, "family"),
        ({"kernels": []}, "kernels"),
        ({"kernels": {"family": "isotropic", "sigma": [3, 1]}}, "0 < low <= high"),
        ({"kernels": {"family": "isotropic", "sigma": [0, 1]}}, "0 < low <= high"),
        ({"kernels": {"family": "anisotropic", "noise": 1}}, "noise"),
        ({"kernels": {"family": "isotropic", "noise": 0.1}}, "noise"),
        ({"kernels": {"family": "gaussian8", "count": 0}}, "count"),
        ({"kernels": {"family": "gaussian8", "weight": 0}}, "weight"),
        ({"sigma": 1}, "sigma"),
    ],
)
def test_wrong_settings_are_refused(settings, where):
    with pytest.raises(ValidationError, match=where):
        operator(**settings)


def test_defaults_are_the_papers_first_setting():
    # Setting 1: scale 4, isotropic, sigma U[0.2, 4.0], 21 x 21, 8-bit measurements.
    settings = operator().settings
    assert (settings.scale, settings.kernel_size) == (4, 21)
    assert (settings.downsample, settings.padding) == ("bicubic", "reflect")
    assert settings.kernels.sigma == (0.2, 4.0)
    assert settings.quantize
