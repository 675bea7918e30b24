"""Convolution, its adjoint and bicubic resizing, against SciPy, Pillow, autograd and closed forms."""

import math

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.signal
import torch
from PIL import Image

from invdiff.blur import convolution
from invdiff.blur.convolution import Blur, BlurOf, blur, blur_adjoint, fast_size
from invdiff.blur.resize import (
    bicubic_matrix,
    downsample_bicubic,
    downsample_bicubic_adjoint,
    resize_bicubic,
    upsample_bicubic,
)
from invdiff.errors import ImageError

SCIPY = {"reflect": "mirror", "replicate": "nearest", "circular": "wrap"}  # SciPy's names for the same borders
PADDINGS = [*SCIPY, "valid"]


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- convolution


@pytest.mark.parametrize("padding", SCIPY)
@pytest.mark.parametrize("size", [(12, 12), (13, 9), (11, 16)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_blur_is_scipys_true_convolution(padding, size, dtype, tolerance):
    x, kernels = rand(3, 2, *size, dtype=dtype), rand(3, 7, 7, seed=1, dtype=dtype)
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    y = blur(x, kernels, padding)
    assert y.dtype == dtype
    for i in range(3):  # each image has a kernel of its own
        for c in range(2):
            want = scipy.ndimage.convolve(x[i, c].double().numpy(), kernels[i].double().numpy(), mode=SCIPY[padding])
            np.testing.assert_allclose(y[i, c].double().numpy(), want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("size", [(12, 12), (13, 9), (7, 7)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_valid_blur_is_scipys_without_a_border(size, dtype, tolerance):
    x, kernels = rand(3, 2, *size, dtype=dtype), rand(3, 7, 7, seed=1, dtype=dtype)
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    y = blur(x, kernels, "valid")
    assert (y.dtype, y.shape) == (dtype, (3, 2, size[0] - 6, size[1] - 6))
    for i in range(3):
        for c in range(2):
            want = scipy.signal.convolve2d(x[i, c].double().numpy(), kernels[i].double().numpy(), mode="valid")
            np.testing.assert_allclose(y[i, c].double().numpy(), want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (3, 4)])  # fast to transform, not so, and smaller than the kernel
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
def test_the_inverse_is_that_of_dense_algebra(size, dtype, tolerance):
    kernels, y = rand(2, 5, 5, seed=1), rand(2, 3, *size, seed=2)
    pixels = size[0] * size[1]
    units = torch.eye(pixels, dtype=torch.float64).view(-1, 1, *size)
    found = Blur(kernels.to(dtype), "circular").inverse(y.to(dtype), 0.1)
    for i in range(2):
        a = blur(units, kernels[i].expand(pixels, -1, -1), "circular").flatten(1).T
        want = torch.linalg.solve(a.T @ a + 0.1 * torch.eye(pixels).double(), y[i].flatten(1).T).T
        torch.testing.assert_close(found[i].flatten(1), want.to(dtype), rtol=tolerance, atol=tolerance)


def test_there_is_no_inverse_in_closed_form_for_other_borders():
    for padding in ("reflect", "replicate", "valid"):
        with pytest.raises(ValueError, match=f"^no closed form where borders are {padding}$"):
            Blur(rand(1, 5, 5), padding).inverse(rand(1, 3, 8, 8), 0.1)


@pytest.mark.parametrize("size", [1, 7, 1054, 4093])
def test_a_fast_size_is_scipys(size):
    assert fast_size(size) == scipy.fft.next_fast_len(size, real=True)


@pytest.mark.parametrize("padding", ["replicate", "circular"])
def test_a_kernel_may_be_larger_than_the_image(padding):
    x, kernel = rand(1, 1, 5, 4), rand(1, 13, 13, seed=1)
    want = scipy.ndimage.convolve(x[0, 0].numpy(), kernel[0].numpy(), mode=SCIPY[padding])
    np.testing.assert_allclose(blur(x, kernel, padding)[0, 0].numpy(), want, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype(dtype):
    x, kernel = rand(1, 3, 16, 16), torch.full((1, 5, 5), 1 / 25, dtype=torch.float64)
    y = blur(x.to(dtype), kernel.to(dtype))
    assert y.dtype == dtype
    # bfloat16 has 8 bits of mantissa: input, kernel and output are each within 2 ** -8 of themselves.
    assert (y.double() - blur(x, kernel)).abs().max() < 4 * 2**-8


def test_reflect_is_the_default_padding():
    x, kernel = rand(1, 1, 9, 9), rand(1, 5, 5, seed=1)
    want = scipy.ndimage.convolve(x[0, 0].numpy(), kernel[0].numpy(), mode="mirror")
    np.testing.assert_allclose(blur(x, kernel)[0, 0].numpy(), want, rtol=1e-12)


def test_a_point_shows_the_kernel_unflipped():
    kernel = rand(1, 5, 5)
    x = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    x[..., 6, 8] = 1
    y = blur(x, kernel)
    torch.testing.assert_close(y[0, 0, 4:9, 6:11], kernel[0], rtol=0, atol=1e-14)
    assert abs(float(y.sum() - kernel.sum())) < 1e-12  # and nothing elsewhere


@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -1), (-2, 1)])
def test_a_kernel_off_centre_shifts_the_image(down, right):
    kernel = torch.zeros(1, 5, 5, dtype=torch.float64)
    kernel[0, 2 + down, 2 + right] = 1  # y[n] = x[n - m]: what was at 0 is now at m
    x = rand(1, 3, 8, 10)
    torch.testing.assert_close(blur(x, kernel, "circular"), x.roll((down, right), (2, 3)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_identity_kernel_changes_nothing(padding):
    kernel = torch.zeros(2, 9, 9, dtype=torch.float64)
    kernel[:, 4, 4] = 1
    x = rand(2, 3, 10, 11)
    want = x[..., 4:-4, 4:-4] if padding == "valid" else x
    torch.testing.assert_close(blur(x, kernel, padding), want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("height", "width", "side"), [(12, 12, 7), (9, 14, 9), (5, 8, 1), (5, 5, 9)])
def test_adjoint(padding, height, width, side):
    if padding == "valid":  # sizes are those of y
        x, y = randn(2, 3, height + side - 1, width + side - 1), randn(2, 3, height, width, seed=1)
    else:
        x, y = randn(2, 3, height, width), randn(2, 3, height, width, seed=1)
    kernel = randn(2, side, side, seed=2)
    left, right = (blur(x, kernel, padding) * y).sum(), (x * blur_adjoint(y, kernel, padding)).sum()
    assert abs(float(left - right)) < 1e-12 * float(x.norm() * y.norm() * kernel.norm() * side)


@pytest.mark.parametrize("padding", PADDINGS)
def test_adjoint_is_autograds_transpose(padding):
    x, kernel = randn(2, 1, 8, 7).requires_grad_(), randn(2, 5, 5, seed=2)
    blurred = blur(x, kernel, padding)
    y = randn(*blurred.shape, seed=1)
    (want,) = torch.autograd.grad(blurred, x, y)
    torch.testing.assert_close(blur_adjoint(y, kernel, padding), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_in_image_and_kernel(padding):
    x, kernel = randn(2, 1, 5, 6).requires_grad_(), randn(2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: blur(a, b, padding), (x, kernel))


def test_reflection_needs_one_pixel_more_than_it_pads():
    kernel = torch.ones(1, 11, 11)
    with pytest.raises(ImageError, match=r"5 pixels.*too small.*need 6"):
        blur(torch.ones(1, 3, 5, 20), kernel)
    with pytest.raises(ImageError, match="too small"):
        blur(torch.ones(1, 3, 20, 5), kernel)
    assert blur(torch.ones(1, 3, 6, 6), kernel).shape == (1, 3, 6, 6)


def test_valid_needs_the_whole_kernel():
    kernel = torch.ones(1, 11, 11)
    for size in ((10, 20), (20, 10)):
        with pytest.raises(ImageError, match=f"{size[1]}x{size[0]} pixels are too small for a kernel of 11x11"):
            blur(torch.ones(1, 3, *size), kernel, "valid")
    assert blur(torch.ones(1, 3, 11, 13), kernel, "valid").shape == (1, 3, 1, 3)


# --- convolution with one side held


@pytest.mark.parametrize("size", [(16, 20), (13, 22)])
@pytest.mark.parametrize("padding", PADDINGS)
def test_held_kernels_blur_as_others(padding, size):
    """Again and again, images of several sizes: 16 and 20 wrap as they are, 13 and 22 are padded."""
    kernel, held = rand(2, 5, 5, seed=1), Blur(rand(2, 5, 5, seed=1), padding)
    for one in (size, size[::-1], size, (size[0] + 4, size[1] + 4)):
        x = rand(2, 3, *one)
        y = blur(x, kernel, padding)
        torch.testing.assert_close(held.apply(x), y, rtol=0, atol=1e-14)
        torch.testing.assert_close(held.adjoint(y), blur_adjoint(y, kernel, padding), rtol=0, atol=1e-14)
    if padding != "valid":
        want = scipy.ndimage.convolve(x[1, 2].numpy(), kernel[1].numpy(), mode=SCIPY[padding])
        np.testing.assert_allclose(held.apply(x)[1, 2].numpy(), want, rtol=1e-12)


@pytest.mark.parametrize("margin", [0, 1, 4])
@pytest.mark.parametrize("padding", PADDINGS)
def test_held_images_are_blurred_as_others(padding, margin):
    """Against the blur itself, its border left out, and autograd's derivative in the kernel."""
    x, kernel = randn(2, 3, 16, 21), randn(2, 5, 5, seed=1).requires_grad_()
    y = blur(x, kernel, padding)
    y = y[..., margin : y.shape[-2] - margin, margin : y.shape[-1] - margin]
    held = BlurOf(x, 5, padding, margin)
    torch.testing.assert_close(held.apply(kernel), y, rtol=0, atol=1e-12)
    weights = randn(*y.shape, seed=2)
    (want,) = torch.autograd.grad(y, kernel, weights)
    torch.testing.assert_close(held.adjoint(weights), want, rtol=0, atol=1e-12)


# --- bicubic


def keys(x):
    """Keys' piecewise cubic with a = -1/2, expanded by hand from MATLAB's documentation."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def line_resized(line, count):
    """MATLAB's imresize of one line, in its own one-based indices, tap by tap."""
    size, scale = len(line), count / len(line)
    shrink = min(scale, 1.0)
    width = 4 / shrink
    out = []
    for place in range(1, count + 1):
        centre = place / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(centre - width / 2)
        value = total = 0.0
        for tap in range(left, left + math.ceil(width) + 2):
            weight = shrink * keys(shrink * (centre - tap))
            source = (tap - 1) % (2 * size)  # 1 .. n, n .. 1, over and over
            value += weight * line[source if source < size else 2 * size - 1 - source]
            total += weight
        out.append(value / total)
    return np.array(out)


def imresize(image, height, width):
    image = np.apply_along_axis(line_resized, 0, image, height)
    return np.apply_along_axis(line_resized, 1, image, width)


def pil_resized(image, height, width):
    picture = Image.fromarray(image.astype(np.float32))  # mode F: no rounding
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downsampling_is_imresize(scale):
    x = rand(1, 1, 5 * scale, 7 * scale)
    want = imresize(x[0, 0].numpy(), 5, 7)
    np.testing.assert_allclose(downsample_bicubic(x, scale)[0, 0].numpy(), want, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new"), [((13, 11), (5, 4)), ((9, 7), (18, 28)), ((5, 5), (2, 13)), ((6, 3), (1, 1)), ((7, 9), (7, 9))]
)
def test_resizing_any_size_is_imresize(old, new):
    x = rand(1, 1, *old)
    np.testing.assert_allclose(resize_bicubic(x, *new)[0, 0].numpy(), imresize(x[0, 0].numpy(), *new), atol=1e-12)


def test_halving_has_matlabs_eight_weights():
    # imresize(x, 0.5): 0.4336 0.1133 -0.0352 -0.0117 on either side, in 256ths 111, 29, -9, -3.
    row = bicubic_matrix(32, 16)[8]
    weights = torch.tensor([-3, -9, 29, 111, 111, 29, -9, -3], dtype=torch.float64) / 256
    torch.testing.assert_close(row[13:21], weights, rtol=0, atol=1e-15)
    assert row.count_nonzero() == 8


@pytest.mark.parametrize(("size", "new_size"), [(40, 10), (39, 13), (13, 5), (10, 40), (3, 9), (2, 1), (1, 4), (7, 7)])
def test_rows_sum_to_one(size, new_size):
    matrix = bicubic_matrix(size, new_size)
    assert matrix.shape == (new_size, size)
    torch.testing.assert_close(matrix.sum(1), torch.ones(new_size, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_interior_is_pillows(scale):
    # At the border Pillow cuts the kernel off and MATLAB mirrors: leave out the 2 output pixels it reaches.
    x = rand(1, 1, 14 * scale, 12 * scale)
    down = downsample_bicubic(x, scale)[0, 0].numpy()
    np.testing.assert_allclose(down[2:-2, 2:-2], pil_resized(x[0, 0].numpy(), 14, 12)[2:-2, 2:-2], atol=2e-6)
    small = rand(1, 1, 11, 9)
    up = resize_bicubic(small, 11 * scale, 9 * scale)[0, 0].numpy()
    edge = 2 * scale
    np.testing.assert_allclose(
        up[edge:-edge, edge:-edge],
        pil_resized(small[0, 0].numpy(), 11 * scale, 9 * scale)[edge:-edge, edge:-edge],
        atol=2e-6,
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarging_a_parabola_is_exact(scale):
    # Keys (1981): with a = -1/2, and no other a, quadratics are reproduced. New pixel i sits at (i + 1/2) / s - 1/2.
    place = torch.arange(12, dtype=torch.float64)
    new = (torch.arange(12 * scale, dtype=torch.float64) + 0.5) / scale - 0.5
    up = bicubic_matrix(12, 12 * scale) @ (place**2 - 3 * place)
    inner = slice(2 * scale, -2 * scale)
    torch.testing.assert_close(up[inner], (new**2 - 3 * new)[inner], rtol=0, atol=1e-11)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downsampling_adjoint(scale):
    x, y = randn(2, 3, 5 * scale, 6 * scale).requires_grad_(), randn(2, 3, 5, 6, seed=1)
    back = downsample_bicubic_adjoint(y, scale)
    (want,) = torch.autograd.grad(downsample_bicubic(x, scale), x, y)
    torch.testing.assert_close(back, want, rtol=0, atol=1e-13)
    left = (downsample_bicubic(x, scale) * y).sum()
    assert abs(float((left - (x * back).sum()).detach())) < 1e-12 * float(x.detach().norm() * y.norm())


def test_sides_must_divide_by_the_scale():
    with pytest.raises(ImageError, match="18x16 pixels do not divide by 4"):
        downsample_bicubic(torch.zeros(1, 3, 16, 18), 4)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_lift_is_interpolation_with_three_quarters(scale):
    """The authors' lift: Keys' cubic with a = -3/4 and the border pixel repeated, written out tap by tap."""

    def weight(x, a=-0.75):
        x = abs(x)
        return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a

    def lifted(line):
        out = []
        for i in range(len(line) * scale):
            place = (i + 0.5) / scale - 0.5
            first = math.floor(place) - 1
            taps = range(first, first + 4)
            out.append(sum(weight(place - tap) * line[min(max(tap, 0), len(line) - 1)] for tap in taps))
        return np.array(out)

    y = rand(1, 2, 6, 5)
    up = upsample_bicubic(y, scale)
    assert up.shape == (1, 2, 6 * scale, 5 * scale)
    want = np.apply_along_axis(lifted, 1, np.apply_along_axis(lifted, 0, y[0, 1].numpy()))
    np.testing.assert_allclose(up[0, 1].numpy(), want, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resizing_keeps_the_dtype(dtype):
    x = rand(1, 3, 8, 8, dtype=dtype)
    for y in (downsample_bicubic(x, 2), downsample_bicubic_adjoint(x, 2), resize_bicubic(x, 5, 11)):
        assert y.dtype == dtype


def test_what_an_inference_mode_left_serves_gradients():
    """Caches are filled by whoever comes first, and a tensor of an inference mode cannot be kept for a gradient."""
    size, kernel = (37, 41), torch.full((1, 3, 3), 1 / 9)
    with torch.inference_mode():
        downsample_bicubic(blur(torch.rand(1, 3, 74, 82), kernel), 2)
        blur(torch.rand(1, 3, *size), kernel)
    x = torch.rand(1, 3, *size, requires_grad=True)
    blur(x, kernel).square().sum().backward()
    double = torch.rand(1, 3, 74, 82, dtype=torch.float64, requires_grad=True)
    downsample_bicubic(double, 2).square().sum().backward()
    assert x.grad.isfinite().all()
    assert double.grad.isfinite().all()


@pytest.mark.parametrize("padding", ["reflect", "circular", "valid"])
def test_channels_of_a_large_image_go_one_after_another(padding, monkeypatch):
    x, kernel = rand(2, 3, 30, 33), rand(2, 5, 5, seed=1)
    whole = blur(x, kernel, padding)
    monkeypatch.setattr(convolution, "_LARGE", 100)
    torch.testing.assert_close(blur(x, kernel, padding), whole, atol=1e-12, rtol=0)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(blur(leaf, kernel, padding), whole, atol=0, rtol=0)
