"""Blur with a grid of kernels: against one convolution for each kernel by SciPy, blended by NumPy's interpolation."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from invdiff.blur import blur
from invdiff.blur.parts import BlurInParts, patches, weight

MODES = {"reflect": "mirror", "replicate": "nearest", "circular": "wrap"}


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernels(batch, rows, cols, side=5, seed=1):
    k = rand(batch, rows, cols, side, side, seed=seed)
    return k / k.sum((-2, -1), keepdim=True)


def slope(size, count, which):
    """A kernel's weight along one axis: one in the middle of its cell, nothing in those of its neighbours."""
    middles = (np.arange(count) + 0.5) * size / count
    return np.interp(np.arange(size) + 0.5, middles, np.eye(count)[which])


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("size", [(23, 31), (40, 17)])
def test_it_is_every_kernels_convolution_blended(padding, size):
    x, grid = rand(2, 3, *size), kernels(2, 3, 2)
    found = BlurInParts(grid, padding).apply(x)
    want = np.zeros(x.shape)
    for i in range(3):
        for j in range(2):
            share = np.outer(slope(size[0], 3, i), slope(size[1], 2, j))
            for b in range(2):
                for c in range(3):
                    whole = scipy.ndimage.convolve(x[b, c].numpy(), grid[b, i, j].numpy(), mode=MODES[padding])
                    want[b, c] += share * whole
    np.testing.assert_allclose(found.numpy(), want, atol=1e-12)


@pytest.mark.parametrize("padding", [*MODES, "valid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_kernel_everywhere_is_a_blur(padding, dtype):
    x, k = rand(2, 3, 29, 35).to(dtype), kernels(2, 1, 1).to(dtype)
    found = BlurInParts(k.expand(-1, 4, 3, -1, -1), padding).apply(x)
    torch.testing.assert_close(
        found, blur(x, k[:, 0, 0], padding), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12
    )


@pytest.mark.parametrize("padding", [*MODES, "valid"])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 5)])
def test_the_adjoint(padding, grid):
    blurring, x = BlurInParts(kernels(2, *grid), padding), rand(2, 3, 26, 33)
    blurred = blurring.apply(x)
    y = rand(*blurred.shape, seed=3)
    assert float((blurred * y).sum()) == pytest.approx(float((x * blurring.adjoint(y)).sum()), rel=1e-12)


@pytest.mark.parametrize("size", [(7, 9), (100, 31), (256, 255)])
@pytest.mark.parametrize("grid", [(1, 3), (4, 2), (5, 5)])
def test_weights_sum_to_one_and_are_nothing_outside_their_windows(size, grid):
    total = torch.zeros(size, dtype=torch.float64)
    for patch in patches(size, grid):
        own = weight(patch, size, grid, total)
        assert float(own.min()) >= 0
        total[patch.window] += own
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_the_gradient_in_both():
    grid, x = kernels(1, 2, 2, side=3).requires_grad_(), rand(1, 1, 6, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda k, x: BlurInParts(k, "reflect").apply(x), (grid, x))
