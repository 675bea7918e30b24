"""The search from coarse to fine, against kernels that are known, dense linear algebra and SciPy."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch

from drawn_shapes import shapes
from invdiff.blur import blur
from invdiff.blur.deconvolution import transfer
from invdiff.metrics import mnc, noise_level
from invdiff_kernel_guidance.coarse_to_fine import (
    CoarseToFine,
    _Photo,
    _sides,
    _without_islands,
    coarse_to_fine,
    photo_cost,
)
from invdiff_motion.hand import Hand, hand_kernel
from invdiff_motion.trajectory import motion_kernel


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(kernel, side=192, seed=0, noise=0.005):
    y = blur(shapes(side, seed)[None], kernel[None].float())
    return y + noise * torch.randn(y.shape, generator=gen(seed))


def point(side):
    kernel = torch.zeros(side, side)
    kernel[side // 2, side // 2] = 1
    return kernel


def cheapest(y, kernels):
    return min(kernels, key=lambda kernel: float(photo_cost(y, kernel, CoarseToFine())))[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_shake_is_found_on_a_picture_of_edges(seed):
    drawn = hand_kernel(21, Hand(span=(8, 16)), gen(seed)) if seed % 2 else motion_kernel(21, 0.5, gen(seed))[0]
    y = shaken(drawn, seed=seed)
    found = cheapest(y, coarse_to_fine(y, 21, CoarseToFine()))
    assert mnc(found, drawn.float()) > 0.9
    assert mnc(found, drawn.float()) > mnc(point(21), drawn.float()) + 0.2  # which no blur would not be


@pytest.mark.parametrize("noise", [0.02, 0.03])
def test_a_shake_is_found_in_noise(noise):
    drawn = hand_kernel(21, Hand(span=(8, 16)), gen(1))
    y = shaken(drawn, noise=noise)
    assert mnc(cheapest(y, coarse_to_fine(y, 21, CoarseToFine())), drawn.float()) > 0.85


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03, 0.1])
def test_the_noise_of_a_blurred_photo_is_measured(noise):
    y = shaken(hand_kernel(21, Hand(span=(8, 16)), gen(1)), noise=noise)
    assert float(noise_level(y)) == pytest.approx(noise, rel=0.05, abs=1e-3)
    assert noise_level(y[..., :2, :]).tolist() == [0.0]  # too small to tell


@pytest.mark.parametrize(("size", "side"), [(3, (3, 3)), (5, (17, 40)), (9, (64, 33)), (21, (48, 21))])
def test_any_photo_gives_a_kernel_that_is_one(size, side):
    y = torch.rand(2, 3, *side, generator=gen())
    found = coarse_to_fine(y, size, CoarseToFine(rounds=2, floors=[0, 0.2]))
    assert [one.shape for one in found] == [(2, size, size)] * 2
    for one in found:
        assert (one >= 0).all()
        assert torch.allclose(one.sum((-2, -1)), torch.ones(2), atol=1e-5)


def test_the_higher_the_floor_the_fewer_pixels():
    found = coarse_to_fine(shaken(motion_kernel(21, 0.5, gen(3))[0]), 21, CoarseToFine(floors=[0.02, 0.3]))
    assert int((found[0] > 0).sum()) > int((found[1] > 0).sum())


@pytest.mark.parametrize("seed", range(4))
def test_a_photo_costs_least_under_its_own_kernel(seed):
    truth = motion_kernel(21, 0.5, gen(seed))[0].float()[None]
    y = shaken(truth[0], 128, seed=seed)
    blurred = blur(truth[None], torch.full((1, 3, 3), 1 / 9))[0]
    wrong = [point(21)[None], truth.flip(-1), truth.transpose(-1, -2), blurred, torch.full((1, 21, 21), 1 / 441)]
    least = float(photo_cost(y, truth, CoarseToFine()))
    assert all(float(photo_cost(y, kernel, CoarseToFine())) > least for kernel in wrong)


def test_the_cost_of_a_photo_that_is_sharp_is_its_edges():
    # Two flat halves, 64 pixels high: under no blur nothing is left, and one edge a row is paid for.
    y = torch.full((1, 3, 64, 64), 0.2)
    y[..., 32:] = 0.8
    settings = CoarseToFine()
    assert float(photo_cost(y, point(5)[None], settings)) == pytest.approx(settings.edge_cost / 10 / 64, rel=0.2)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_photo_has_a_kernel_too(value):
    (found,) = coarse_to_fine(torch.full((1, 3, 40, 40), value), 9, CoarseToFine(rounds=2, floors=[0.1]))
    assert found.isfinite().all()
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)


def test_a_photo_alone_as_in_a_batch():
    noise = (0.0, 0.02, 0.06)
    y = torch.cat([shaken(motion_kernel(9, 0.5, gen(i))[0], 64, seed=i, noise=noise[i]) for i in range(3)])
    settings = CoarseToFine(rounds=3)
    together = coarse_to_fine(y, 9, settings)
    costs = photo_cost(y, together[0], settings)
    for i in range(3):
        alone = coarse_to_fine(y[i : i + 1], 9, settings)
        assert all(torch.allclose(a[0], b[i], atol=1e-4) for a, b in zip(alone, together, strict=True))
        assert float(photo_cost(y[i : i + 1], alone[0], settings)) == pytest.approx(float(costs[i]), rel=1e-3)


@pytest.mark.parametrize("shape", [(61, 47), (50, 16)])
def test_a_search_beside_others_finds_what_it_finds_alone(shape):
    y = shaken(motion_kernel(9, 0.5, gen(2))[0], 64)[..., : shape[0], : shape[1]]
    floors = [0.05, 0.1, 0.15]
    together = coarse_to_fine(y, 9, CoarseToFine(floors=floors))
    for floor, found in zip(floors, together, strict=True):
        assert torch.allclose(coarse_to_fine(y, 9, CoarseToFine(floors=[floor]))[0], found, atol=1e-6)
    costs = photo_cost(y, torch.stack(together), CoarseToFine())
    assert torch.allclose(costs[:, 0], torch.cat([photo_cost(y, k, CoarseToFine()) for k in together]), rtol=1e-5)


def test_sides_are_odd_and_rise_by_about_the_root_of_two():
    for size in (1, 3, 5, 7, 31, 61):
        sides = _sides(size)
        assert sides[-1] == size
        assert all(side % 2 for side in sides)
        assert all(1 < b / a < 2.5 for a, b in pairwise(sides))


def circulant(kernel, size):
    """The matrix of a periodic convolution, by columns."""
    height, width = size
    columns = []
    for i in range(height * width):
        point = np.zeros(height * width)
        point[i] = 1
        columns.append(scipy.ndimage.convolve(point.reshape(size), kernel, mode="wrap").ravel())
    return np.stack(columns, axis=1)


def test_a_picture_whose_edges_cost_nothing_solves_the_normal_equations():
    photo = _Photo(torch.rand(1, 9, 7, generator=gen()), 3)
    kernel = torch.tensor([[[0.0, 0.1, 0.0], [0.15, 0.6, 0.05], [0.1, 0.0, 0.0]]])
    a = circulant(kernel[0].numpy(), photo.size)
    # All edges are kept, so picture and edges agree after a few turns: plain least squares.
    direct = np.linalg.solve(a.T @ a, a.T @ photo.values[0].double().numpy().ravel()).reshape(photo.size)
    response = transfer(kernel, photo.size)[0].abs()
    assert float(response.min()) > 0.05  # the test's own sanity: a kernel that can be undone
    found = photo.few_edges(kernel, torch.tensor(1e-12))[0]
    assert np.abs(found.numpy() - direct).max() < 1e-2 * np.abs(direct).max()


def test_the_kernel_solves_the_normal_equations_of_the_edges():
    photo = _Photo(torch.rand(1, 8, 8, generator=gen()), 5)
    picture = torch.rand(1, *photo.size, generator=gen(2))
    ridge = 0.7
    above, below = 0.0, ridge * np.eye(photo.size[0] * photo.size[1])
    window = photo.window.numpy()
    for axis in (-2, -1):
        x, y = (np.roll(v[0].numpy(), -1, axis) - v[0].numpy() for v in (picture, photo.values))
        shifts = [
            np.roll(x * window, (i, j), (0, 1)).ravel() for i in range(photo.size[0]) for j in range(photo.size[1])
        ]
        a = np.stack(shifts, axis=1).astype(np.float64)
        above, below = above + a.T @ (y * window).ravel(), below + a.T @ a
    whole = scipy.linalg.solve(below, above, assume_a="pos").reshape(photo.size)
    direct = np.roll(whole, (2, 2), (0, 1))[:5, :5]
    assert np.abs(photo.kernel(picture, torch.tensor(ridge))[0].numpy() - direct).max() < 1e-4


def test_islands_are_those_of_scipy():
    drawn = torch.rand(40, 15, 15, generator=gen())
    kernel = drawn * (torch.rand(40, 15, 15, generator=gen(1)) < 0.2)
    kernel = kernel / kernel.sum((-2, -1), keepdim=True)
    for before, after in zip(kernel, _without_islands(kernel), strict=True):
        label, count = scipy.ndimage.label(before > 0, np.ones((3, 3)))
        mass = scipy.ndimage.sum_labels(before.numpy(), label, np.arange(1, count + 1))
        kept = np.isin(label, 1 + np.flatnonzero(mass >= 0.1))
        expected = before.numpy() * kept if kept.any() else before.numpy()
        assert np.allclose(after.numpy(), expected / expected.sum(), atol=1e-6)
