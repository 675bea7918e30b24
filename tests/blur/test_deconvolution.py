"""Deconvolution with a known kernel against SciPy, closed forms and photos blurred here; kernels are asymmetric."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from invdiff.blur.convolution import blur
from invdiff.blur.deconvolution import centre_of_mass, gradient_power, shifted, taper, transfer, wiener, with_mass_at
from invdiff.metrics.picture import psnr_rgb


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernels(batch, size, seed=0):
    """Random, of unit sum, and like none of their mirror images."""
    k = rand(batch, size, size, seed=seed) ** 4
    return k / k.sum((-2, -1), keepdim=True)


def hook(size):
    """A path that goes down, turns right, and gets fainter on its way."""
    k = torch.zeros(1, size, size, dtype=torch.float64)
    k[0, 1 : size - 1, 2] = torch.linspace(2, 1, size - 2)
    k[0, size - 2, 2 : size - 1] = torch.linspace(1, 0.3, size - 3)
    return k / k.sum()


def delta(size, row=None, col=None):
    k = torch.zeros(1, size, size, dtype=torch.float64)
    k[0, size // 2 if row is None else row, size // 2 if col is None else col] = 1
    return k


def scene(height=80, width=76, seed=0):
    """Smooth colours with edges in them."""
    smooth = scipy.ndimage.gaussian_filter(rand(3, height, width, seed=seed).numpy(), (0, 3, 3))
    return torch.from_numpy(0.4 * smooth + 0.4 * (smooth > 0.5) + 0.1)[None]


def inner(x, border=10):
    return x[..., border:-border, border:-border]


# --- on the periodic grid ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (11, 7)])
def test_transfer_of_a_centred_delta_is_one(size):
    torch.testing.assert_close(transfer(delta(5), size), torch.ones(1, size[0], size[1] // 2 + 1).to(torch.complex128))


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (11, 7), (5, 5)])
def test_transfer_is_circular_convolution(size):
    x, k = rand(2, *size), kernels(2, 5)
    found = torch.fft.irfft2(transfer(k, size) * torch.fft.rfft2(x), s=size)
    for i in range(2):
        want = scipy.ndimage.convolve(x[i].numpy(), k[i].numpy(), mode="wrap")
        np.testing.assert_allclose(found[i].numpy(), want, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (11, 7)])
def test_gradient_power_is_that_of_the_two_differences(size):
    filters = torch.zeros(2, *size, dtype=torch.float64)
    filters[:, 0, 0] = 1
    filters[0, 1, 0] = filters[1, 0, 1] = -1
    want = torch.fft.rfft2(filters).abs().square().sum(0)
    torch.testing.assert_close(gradient_power(size, filters), want, rtol=1e-5, atol=1e-6)


def test_taper_rises_by_half_a_cosine():
    line = taper(12, 4, rand(1))
    want = np.sin(np.pi / 2 * (np.arange(4) + 0.5) / 4) ** 2
    np.testing.assert_allclose(line.numpy(), [*want, 1, 1, 1, 1, *want[::-1]], atol=1e-6)
    torch.testing.assert_close(line[:4] + line[:4].flip(0), torch.ones(4).double(), rtol=0, atol=1e-6)
    assert torch.equal(taper(3, 0, line), torch.ones(3).double())


# --- wiener ------------------------------------------------------------------------------------------


def test_without_blur_the_image_comes_back():
    y = scene()
    found = wiener(y, delta(7), [1e-8])
    assert found.shape == (1, 1, *y.shape[1:])
    torch.testing.assert_close(inner(found[:, 0]), inner(y), rtol=0, atol=2e-3)


@pytest.mark.parametrize("size", [(80, 76), (81, 75)])
def test_a_blurred_image_comes_back_and_with_a_flipped_kernel_does_not(size):
    """The photo is a valid crop of the scene, so the border is truly missing; 1 % of noise."""
    k, x = hook(11), scene(size[0] + 10, size[1] + 10)
    noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y, x = blur(x, k, "valid") + 0.002 * noise, inner(x, 5)
    assert y.shape == x.shape
    blurred = psnr_rgb(inner(y), inner(x))
    found = psnr_rgb(inner(wiener(y, k, [1e-3])[:, 0]), inner(x))
    flipped = psnr_rgb(inner(wiener(y, k.flip(-1, -2), [1e-3])[:, 0]), inner(x))
    assert found > blurred + 6
    assert flipped < blurred


def test_the_mean_grey_is_kept():
    y = torch.full((1, 3, 20, 24), 0.7, dtype=torch.float64)
    torch.testing.assert_close(wiener(y, hook(7), [0.01, 1.0]), y[:, None].expand(-1, 2, -1, -1, -1))


def test_a_bigger_weight_is_smoother():
    found = wiener(scene(), hook(11), [1e-3, 1e-2, 0.1, 1.0])[0]
    energy = found.diff(dim=-1).square().sum((1, 2, 3)) + found.diff(dim=-2).square().sum((1, 2, 3))
    assert (energy.diff() < 0).all()


def test_weights_are_solved_in_order():
    """One at a time is the same but for the border's continuation, which takes the largest."""
    y, k = scene(), hook(11)
    both = wiener(y, k, [0.2, 0.01])
    torch.testing.assert_close(both[:, :1], wiener(y, k, [0.2]), rtol=0, atol=1e-12)
    flat = both.flatten(2).var(-1)
    assert flat[0, 0] < flat[0, 1]


def test_alone_as_in_a_batch():
    y, k = torch.cat([scene(40, 36), 100 * scene(40, 36, seed=1), scene(40, 36, seed=2)]), kernels(3, 9)
    together = wiener(y, k, [0.01, 0.1])
    for i in range(3):
        torch.testing.assert_close(wiener(y[i : i + 1], k[i : i + 1], [0.01, 0.1])[0], together[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [(17, 23), (16, 9), (4, 5), (1, 1)])
def test_any_size_and_type(size, dtype):
    found = wiener(rand(2, 3, *size).to(dtype), kernels(2, 11).to(dtype), [0.1])
    assert found.shape == (2, 1, 3, *size)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.isfinite().all()


def test_single_precision_is_near_double():
    y, k = scene(), hook(11)
    torch.testing.assert_close(wiener(y.float(), k.float(), [0.01]).double(), wiener(y, k, [0.01]), rtol=0, atol=1e-4)


def test_it_is_differentiable():
    y, k = rand(2, 1, 4, 5).requires_grad_(), kernels(2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda y, k: wiener(y, k, [0.05, 0.5]), (y, k))


# --- where the mass lies, and moving it --------------------------------------------------------------


def test_centre_of_mass():
    two = 0.75 * delta(7, 0, 6) + 0.25 * delta(7, 4, 2)
    found = centre_of_mass(torch.cat([delta(7), delta(7, 5, 1), two, 3 * two, torch.zeros(1, 7, 7)]))
    torch.testing.assert_close(found, torch.tensor([[0, 0], [2, -2], [-2, 2], [-2, 2], [0, 0]]).double())


def test_shifted_moves_down_and_right():
    x = torch.arange(12.0).view(3, 4)
    assert shifted(x, 1, 2).tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 4, 5]]
    assert shifted(x, -1, -1).tolist() == [[5, 6, 7, 0], [9, 10, 11, 0], [0, 0, 0, 0]]
    assert shifted(x, 1, 2, replicate=True).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [4, 4, 4, 5]]
    assert shifted(x, -1, -1, replicate=True).tolist() == [[5, 6, 7, 7], [9, 10, 11, 11], [9, 10, 11, 11]]
    assert torch.equal(shifted(x, 0, 0), x)
    assert not shifted(x, 5, 0).any()
    assert (shifted(x, -9, 9, replicate=True) == 8).all()


def test_shifting_moves_the_centre_of_mass():
    k = torch.nn.functional.pad(kernels(2, 5), (3,) * 4)
    torch.testing.assert_close(centre_of_mass(shifted(k, 3, -2)), centre_of_mass(k) + torch.tensor([3.0, -2.0]))


@pytest.mark.parametrize("replicate", [False, True])
def test_a_shift_and_its_opposite_undo_each_other(replicate):
    x = torch.nn.functional.pad(rand(2, 3, 4, 5), (4,) * 4)
    there = shifted(x, 2, -3, replicate=replicate)
    assert not torch.equal(there, x)
    assert torch.equal(shifted(there, -2, 3, replicate=replicate), x)


def test_kernel_and_image_moved_against_each_other_give_the_same_photo():
    x, k = scene(40, 40), torch.nn.functional.pad(kernels(1, 3), (3,) * 4)
    moved = blur(shifted(x, 2, -3, replicate=True), shifted(k, -2, 3))
    torch.testing.assert_close(inner(moved, 8), inner(blur(x, k), 8))


# --- mass moved by parts of a pixel


def gaussian(side, rows, cols, sigma=1.6):
    line = torch.arange(side).double() - side // 2
    drawn = torch.exp(-((line[:, None] - rows) ** 2 + (line - cols) ** 2) / (2 * sigma**2))
    return drawn / drawn.sum()


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.4, -0.3), (-1.5, 0.5)])
def test_a_gaussian_is_moved_to_where_its_formula_says(place):
    """Smooth enough to be moved exactly; to the middle, and to a place of its own each."""
    aside = torch.stack([gaussian(17, *place), gaussian(17, 0.2, 0.2)])
    middle = torch.tensor([[0.0, 0.0], [1.25, -0.5]]).double()
    want = torch.stack([gaussian(17, 0, 0), gaussian(17, 1.25, -0.5)])
    torch.testing.assert_close(with_mass_at(aside, middle), want, atol=2e-5, rtol=0)


@pytest.mark.parametrize("floor", [0.0, 0.02, 0.3])
def test_what_is_faint_is_cut_off_and_the_mass_stays_near(floor):
    """A random walk's kernel: of unit sum, nothing below the floor, its mass where it was asked for."""
    walk = torch.zeros(1, 21, 21)
    generator = torch.Generator().manual_seed(1)
    place = torch.tensor([10, 8])
    for _ in range(40):
        walk[0, place[0], place[1]] += 1
        place = (place + torch.randint(-1, 2, (2,), generator=generator)).clamp(2, 18)
    found = with_mass_at(walk / walk.sum(), floor=floor)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert (found >= 0).all()
    assert float(found[found > 0].min()) >= floor * float(found.max())
    assert float(centre_of_mass(found).abs().max()) < 0.15
