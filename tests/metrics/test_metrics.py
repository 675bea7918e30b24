"""Each metric against scikit-image, a published definition or number, or an error known beforehand."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import skimage.color
import skimage.metrics
import torch
from PIL import Image
from safetensors.torch import save_file

from invdiff.errors import WeightsError
from invdiff.metrics.kernel import kernel_l1, kernel_l1_shifted, kernel_psnr_shifted, mnc
from invdiff.metrics.lpips import LPIPS
from invdiff.metrics.picture import inside, lr_psnr, luma, psnr_rgb, psnr_rgb_shifted, psnr_y, rms, round8, ssim_y
from lpips_stand_in import write_weights


def pair(height=40, width=36, noise=0.1, seed=0):
    gen = torch.Generator().manual_seed(seed)
    truth = torch.rand(3, height, width, generator=gen)
    return (truth + noise * torch.randn(truth.shape, generator=gen)).clamp(0, 1), truth


def skimage_luma(x):
    return skimage.color.rgb2ycbcr(x.permute(1, 2, 0).double().numpy())[..., 0] / 255


# --- PSNR


def test_luma_is_bt601_studio_range():
    x, _ = pair()
    np.testing.assert_allclose(luma(x).numpy(), skimage_luma(x), atol=1e-7)
    # BT.601: black 16, white 235, red 16 + 65.481, green 16 + 128.553, blue 16 + 24.966
    colours = torch.tensor([[0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 1, 0, 0, 1]], dtype=torch.float64)
    want = torch.tensor([[16, 235, 81.481, 144.553, 40.966]], dtype=torch.float64)
    torch.testing.assert_close(luma(colours[:, None]) * 255, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("border", [0, 2, 4])
def test_psnr_y_is_skimages(border):
    x, truth = pair()
    a, b = (skimage_luma(i)[border : 40 - border, border : 36 - border] for i in (x, truth))
    want = skimage.metrics.peak_signal_noise_ratio(b, a, data_range=1.0)
    assert psnr_y(x, truth, border) == pytest.approx(want, abs=1e-5)


def test_psnr_of_a_known_error():
    truth = torch.full((3, 16, 16), 0.5, dtype=torch.float64)
    x = truth + 0.1
    assert psnr_rgb(x, truth) == pytest.approx(20, abs=1e-9)  # -20 log10 0.1
    # On the luma a grey level counts 219 / 255.
    assert psnr_y(x, truth, 0) == pytest.approx(20 - 20 * math.log10(219 / 255), abs=1e-9)
    one = truth.clone()
    one[1] += 0.1  # one channel of three: a third of the error
    assert psnr_rgb(one, truth) == pytest.approx(20 + 10 * math.log10(3), abs=1e-9)
    assert psnr_y(one, truth, 0) == pytest.approx(20 - 20 * math.log10(128.553 / 255), abs=1e-9)


def test_psnr_rgb_is_skimages():
    x, truth = pair()
    want = skimage.metrics.peak_signal_noise_ratio(truth.double().numpy(), x.double().numpy(), data_range=1.0)
    assert psnr_rgb(x, truth) == pytest.approx(want, abs=1e-6)
    assert lr_psnr(x, truth) == pytest.approx(want, abs=1e-6)


def test_the_border_is_left_out():
    truth = torch.full((3, 12, 14), 0.5)
    x = truth.clone()
    x[:, :3], x[:, -3:], x[:, :, :3], x[:, :, -3:] = 0, 0, 0, 0
    assert psnr_y(x, truth, 3) == math.inf
    assert psnr_y(x, truth, 2) < 20
    np.testing.assert_array_equal(inside(torch.arange(30).view(5, 6), 2).numpy(), [[14, 15]])
    assert inside(truth, 0).shape == truth.shape


def test_equal_images():
    x, _ = pair()
    assert psnr_y(x, x, 4) == psnr_rgb(x, x) == math.inf
    assert ssim_y(x, x, 4) == pytest.approx(1, abs=1e-12)


# --- SSIM


def ssim_by_definition(a, b):
    """Wang et al. 2004, Eq. 13: an 11x11 Gaussian window of deviation 1.5, whole windows only."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def mean(i):
        return scipy.signal.convolve2d(i, window, mode="valid")

    c1, c2 = 0.01**2, 0.03**2
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    return ((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_is_wangs(border, noise):
    x, truth = pair(noise=noise)
    a, b = (skimage_luma(i)[border : 40 - border, border : 36 - border] for i in (x, truth))
    assert ssim_y(x, truth, border) == pytest.approx(ssim_by_definition(a, b), abs=1e-7)


def test_ssim_needs_a_window():
    x, truth = pair(18, 30)
    assert math.isnan(ssim_y(x, truth, 4))  # 10 rows are left
    assert not math.isnan(ssim_y(x, truth, 3))


# --- after the best shift


def kernels(size=7, other=7, seed=0):
    gen = torch.Generator().manual_seed(seed)
    found = [torch.rand(n, n, generator=gen, dtype=torch.float64) ** 6 for n in (size, other)]
    return [k / k.sum() for k in found]


@pytest.mark.parametrize("move", [(0, 0), (3, -5), (-8, 8)])
def test_a_moved_picture_is_found(move):
    _, truth = pair()
    x = truth.roll(move, (1, 2))
    assert psnr_rgb_shifted(x, truth) == math.inf
    if max(map(abs, move)) > 4:
        assert psnr_rgb_shifted(x, truth, 4) < 15
    assert psnr_rgb_shifted(x + 0.1, truth) == pytest.approx(20, abs=1e-4)  # moved, and -20 log10 0.1


@pytest.mark.parametrize("reach", [0, 2, 8])
def test_a_picture_in_place_is_measured_inside(reach):
    x, truth = pair()
    want = psnr_rgb(inside(x, reach), inside(truth, reach))
    assert psnr_rgb_shifted(x, truth, reach) == pytest.approx(want, abs=1e-9)


def test_the_best_shift_is_the_best_of_all():
    x, truth = (pair(14, 12, seed=i)[1] for i in (0, 1))
    rolled = (x.roll((i, j), (1, 2)) for i in range(-2, 3) for j in range(-2, 3))
    want = max(psnr_rgb(inside(r, 2), inside(truth, 2)) for r in rolled)
    assert psnr_rgb_shifted(x, truth, 2) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 4)])
def test_a_small_picture_is_moved_as_far_as_it_goes(size):
    x, truth = pair(*size)
    assert math.isfinite(psnr_rgb_shifted(x, truth))
    assert psnr_rgb_shifted(truth, truth) == math.inf


def test_kernel_l1_of_a_moved_kernel():
    framed = torch.zeros(11, 11, dtype=torch.float64)
    framed[4:7, 4:7] = kernels(3)[0]
    for move in ((0, 0), (3, -2), (-4, 4)):
        assert kernel_l1_shifted(framed.roll(move, (0, 1)), framed) == pytest.approx(0, abs=1e-12)
    assert kernel_l1_shifted(framed, kernels(3)[0]) == pytest.approx(0, abs=1e-12)  # sizes differ
    # A point shares with a flat kernel one pixel's worth, wherever it lies.
    flat, point = torch.full((5, 5), 1 / 25), torch.zeros(5, 5)
    point[1, 3] = 1
    assert kernel_l1_shifted(flat, point) == pytest.approx(2 - 2 / 25)
    assert kernel_l1_shifted(torch.eye(5) / 5, torch.eye(5).flip(0) / 5) == pytest.approx(2 - 2 / 5)


@pytest.mark.parametrize(("size", "other"), [(5, 5), (5, 3), (3, 7)])
@pytest.mark.parametrize("seed", range(4))
def test_kernel_l1_is_the_least_of_all_shifts(size, other, seed):
    """Of all shifts at which the two can meet, on a canvas that loses no mass."""
    a, b = kernels(size, other, seed)
    largest = max(size, other)
    canvas = [torch.zeros(41, 41, dtype=torch.float64) for _ in range(2)]
    for place, k in zip(canvas, (a, b), strict=True):
        start = 20 - len(k) // 2
        place[start : start + len(k), start : start + len(k)] = k

    reach = range(-largest, largest + 1)
    want = min(kernel_l1(canvas[0], canvas[1].roll((i, j), (0, 1))) for i in reach for j in reach)
    assert kernel_l1_shifted(a, b) == pytest.approx(want, abs=1e-12)
    assert kernel_l1_shifted(b, a) == pytest.approx(want, abs=1e-12)
    if size == other:
        assert want <= kernel_l1(a, b) + 1e-12


def test_kernel_l1_without_a_better_shift():
    a = kernels()[0]
    b = 0.9 * a + 0.1 / 49
    assert kernel_l1_shifted(b, a) == pytest.approx(kernel_l1(b, a), abs=1e-12)


@pytest.mark.parametrize(("size", "other"), [(7, 7), (7, 3), (5, 9)])
@pytest.mark.parametrize("seed", range(3))
def test_mnc_is_the_largest_correlation(size, other, seed):
    """BlindDPS (Chung et al. 2023), Eq. 21, over all shifts."""
    a, b = kernels(size, other, seed)
    full = scipy.signal.correlate2d(a.numpy(), b.numpy(), mode="full")
    want = full.max() / (np.linalg.norm(a) * np.linalg.norm(b))
    assert mnc(a, b) == pytest.approx(want, abs=1e-12)
    assert mnc(b, a) == pytest.approx(want, abs=1e-12)
    assert mnc(3 * a, b) == pytest.approx(want, abs=1e-12)


def test_mnc_of_equal_and_moved_kernels():
    framed = torch.zeros(11, 11)
    framed[:3, 8:] = kernels(3)[0]
    assert mnc(framed, framed) == pytest.approx(1, abs=1e-6)
    for move in ((8, -8), (2, -5)):  # from corner to corner too
        assert mnc(framed.roll(move, (0, 1)), framed) == pytest.approx(1, abs=1e-6)
    assert mnc(framed, kernels(3)[0]) == pytest.approx(1, abs=1e-6)
    assert mnc(framed.flip(0, 1), framed) < 0.99
    assert mnc(torch.eye(5) / 5, torch.eye(5).flip(0) / 5) == pytest.approx(1 / 5)
    assert mnc(torch.zeros(5, 5), framed) == pytest.approx(0, abs=1e-6)


# --- the others


def test_kernel_l1():
    a, b = torch.zeros(5, 5), torch.zeros(5, 5)
    a[1, 1] = b[3, 3] = 1
    assert kernel_l1(a, a) == 0
    assert kernel_l1(a, b) == 2  # no overlap
    assert kernel_l1(0.75 * a + 0.25 * b, a) == pytest.approx(0.5)


def test_round8():
    x = torch.tensor([-0.3, 0.2 / 255, 0.8 / 255, 99.6 / 255, 1.7])
    torch.testing.assert_close(round8(x) * 255, torch.tensor([0.0, 0, 1, 100, 255]))


def test_rms():
    assert rms(torch.tensor([3.0, -4.0, 0.0, 0.0])) == 2.5  # sqrt(25 / 4)


# --- LPIPS


@torch.no_grad()
def lpips_by_definition(stack, taps, heads, a, b):
    """Zhang et al. 2018, Eq. 1: unit-length features, weighted squared differences, means over space, summed."""
    shift, spread = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    a, b = (((2 * i - 1) - shift[:, None, None]) / spread[:, None, None] for i in (a, b))
    a, b, total = a[None], b[None], 0.0
    for i, layer in enumerate(stack):
        a, b = layer(a), layer(b)
        if i in taps:
            unit_a, unit_b = (f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in (a, b))
            weighted = heads[taps.index(i)][0, :, 0, 0] * ((unit_a - unit_b)[0] ** 2).permute(1, 2, 0)
            total += float(weighted.sum(-1).mean())
    return total


@pytest.mark.parametrize("network", ["vgg", "alex"])
@pytest.mark.parametrize("size", [(64, 64), (70, 83)])
def test_lpips_is_its_definition(tmp_path, network, size):
    stack, taps, heads = write_weights(tmp_path, network)
    metric = LPIPS(tmp_path, network)
    x, truth = pair(*size)
    want = lpips_by_definition(stack, taps, heads, x, truth)
    assert want > 1e-3
    assert metric(x, truth) == pytest.approx(want, rel=1e-4)
    assert metric(truth, x) == pytest.approx(want, rel=1e-4)
    assert metric(x, x) == 0


def test_lpips_has_nothing_to_train(tmp_path):
    write_weights(tmp_path, "alex")
    assert not list(LPIPS(tmp_path, "alex").parameters())


def test_wrong_lpips_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match="vgg16_features"):
        LPIPS(tmp_path)
    write_weights(tmp_path, "alex")
    save_file({"lin0.model.1.weight": torch.ones(1, 6, 1, 1)}, tmp_path / "alex.safetensors")
    with pytest.raises(WeightsError, match=r"lin1\.model\.1\.weight"):
        LPIPS(tmp_path, "alex")
    (tmp_path / "alex.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match=r"alex\.safetensors"):
        LPIPS(tmp_path, "alex")


@pytest.mark.parametrize(
    ("network", "first", "second", "digits"),
    # Alex: printed in the LPIPS repository. VGG: what its code gives for the same pictures.
    [("alex", 0.722, 0.138, 3), ("vgg", 0.5686, 0.4217, 4)],
)
def test_the_lpips_authors_example(network, first, second, digits):
    weights, data = os.environ.get("INVDIFF_LPIPS"), os.environ.get("INVDIFF_DATA")
    if not (weights and data):
        pytest.skip("INVDIFF_LPIPS (weights) and INVDIFF_DATA (pictures) are not set")

    def picture(name):
        array = np.asarray(Image.open(Path(data, "val", "lpips_example", f"{name}.png")).convert("RGB"))
        return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255

    metric, truth = LPIPS(Path(weights), network), picture("ex_ref")
    for name, published in (("ex_p0", first), ("ex_p1", second)):
        assert metric(picture(name), truth) == pytest.approx(published, abs=0.6 * 10**-digits)


# --- PSNR of kernels


@pytest.mark.parametrize("seed", range(3))
def test_kernel_psnr_is_the_best_of_all_shifts(seed):
    a, b = kernels(7, 7, seed)
    room = torch.zeros(21, 21, dtype=torch.float64)
    room[7:14, 7:14] = a
    best = math.inf
    for i in range(15):
        for j in range(15):
            moved = torch.zeros(21, 21, dtype=torch.float64)
            moved[i : i + 7, j : j + 7] = b
            best = min(best, float((room - moved).square().sum()) / 49)
    want = 10 * math.log10(float(b.max()) ** 2 / best)
    assert kernel_psnr_shifted(a, b) == pytest.approx(want, abs=1e-6)


def test_kernel_psnr_of_a_moved_kernel():
    kernel = kernels(5)[0]
    framed = torch.zeros(11, 11)
    framed[3:8, 3:8] = kernel
    assert kernel_psnr_shifted(framed.roll((2, -3), (0, 1)), framed) == math.inf
    assert kernel_psnr_shifted(framed, kernel) == math.inf  # sizes differ


def test_small_pictures_have_no_lpips(tmp_path):
    write_weights(tmp_path, "alex")
    x = torch.rand(3, 31, 40)
    assert math.isnan(LPIPS(tmp_path, "alex")(x, x))
    assert LPIPS(tmp_path, "alex")(torch.rand(3, 32, 32), torch.rand(3, 32, 32)) > 0
