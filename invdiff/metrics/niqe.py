"""NIQE, how natural a picture looks, without a truth to compare it with (Mittal, Soundararajan and Bovik 2013).

The statistics of a picture's blocks are compared with those of natural photos, a model in a file that the user points
to. Conventions are those of the authors' MATLAB code as BasicSR has it, which tables of super-resolution share: blocks
of 96 pixels from the top left, without what is left over; two scales, the second by MATLAB's antialiased bicubic; the
luma of BT.601 (16 to 235) in whole levels. MATLAB's own ``niqe`` has another model, and other numbers.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import WeightsError, reason
from ..io.plain import is_no_file
from .picture import luma

BLOCK, FEATURES = 96, 36
_NAMES = (("mu_pris_param", "cov_pris_param"), ("mu_prisparam", "cov_prisparam"))
"""What mean and covariance are called in BasicSR's file, and in the authors'."""
_SMOOTH = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
_HALVE = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
"""MATLAB's bicubic at half the size. Whole levels are shrunk without rounding errors: what is flat stays flat."""


@dataclass(frozen=True, eq=False)
class NiqeModel:
    """Natural photos' statistics as one Gaussian: ``mean (36,)`` and ``covariance (36, 36)``, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    name = "niqe"

    def __call__(self, image: Tensor, clean: Tensor) -> float:
        """:func:`niqe` where a distance is asked for: the clean image is not looked at."""
        return niqe(image, self)


def niqe(image: Tensor, model: NiqeModel) -> float:
    """Distance of an image ``(3, H, W)`` in [0, 1] from natural photos (Eq. 10): from 0, about 2 to 6 for a photo.

    Blocks without contrast are left out (in BasicSR they count, as the least natural of all). NaN where fewer than two
    are left, as one alone has no covariance: always below 96x192 pixels.
    """
    blocks = block_statistics(image)
    blocks = blocks[np.isfinite(blocks).all(1)]
    if len(blocks) < 2:
        return math.nan
    away = model.mean - blocks.mean(0)
    spread = (model.covariance + np.cov(blocks, rowvar=False)) / 2
    return math.sqrt(max(float(away @ np.linalg.pinv(spread) @ away), 0.0))


def block_statistics(image: Tensor) -> np.ndarray:
    """``(N, 36)``: 18 numbers for each whole block and scale; NaN among those of a block without contrast."""
    levels = np.round(255 * luma(image.detach().cpu()).numpy())
    rows, cols = (side // BLOCK for side in levels.shape)
    levels = levels[: rows * BLOCK, : cols * BLOCK]
    if not levels.size:
        return np.zeros((0, FEATURES))
    # Of eight taps SciPy has four before a pixel and three behind it: the pixel is the second of a pair.
    half = _filtered(levels, _HALVE, "reflect")[1::2, 1::2]
    found = []
    for x, side in ((levels, BLOCK), (half, BLOCK // 2)):
        blocks = _normalized(x).reshape(rows, side, cols, side).swapaxes(1, 2).reshape(-1, side, side)
        shape, _, left, right = aggd(blocks)
        found += [shape, (left + right) / 2]
        for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):  # neighbours, round the block's border as MATLAB's circshift
            found += list(aggd(blocks * np.roll(blocks, shift, (1, 2))))
    return np.stack(found, 1)


def aggd(blocks: np.ndarray) -> np.ndarray:
    """The asymmetric generalized Gaussian of each block ``(N, ...)``, by its moments: ``(4, N)``, which is shape in
    [0.2, 10], mean, and the scales of both sides, left and right. NaN where a block has not both signs."""
    shapes, ratios, widths, means = _shapes()
    x = blocks.reshape(len(blocks), -1)
    squares = x**2
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (np.sqrt((squares * side).sum(1) / side.sum(1)) for side in (x < 0, x > 0))
        skew = left / right
        ratio = np.abs(x).mean(1) ** 2 / squares.mean(1) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    above = np.searchsorted(ratios, ratio).clip(1, len(ratios) - 1)
    nearest = above - (ratio - ratios[above - 1] < ratios[above] - ratio)
    left, right = left * widths[nearest], right * widths[nearest]
    return np.stack([np.where(np.isnan(ratio), np.nan, shapes[nearest]), (right - left) * means[nearest], left, right])


@lru_cache(maxsize=1)
def _shapes() -> tuple[np.ndarray, ...]:
    """The shapes to choose from, in the authors' steps, and for each, of a distribution that is symmetric:
    ``(E|x|)^2 / E x^2``, its scale over its deviation, and ``E|x|`` over its scale."""
    from scipy.special import gamma  # SciPy takes longer to import than a small picture takes to measure

    shapes = np.arange(0.2, 10.001, 0.001)
    one, two, three = (gamma(k / shapes) for k in (1, 2, 3))
    return shapes, two**2 / (one * three), np.sqrt(one / three), two / one


def _normalized(levels: np.ndarray) -> np.ndarray:
    """Each pixel's difference from the mean around it, over the deviation there and one level (Eq. 1)."""
    taps = _SMOOTH / _SMOOTH.sum()
    mean, mean_square = (_filtered(x, taps, "nearest") for x in (levels, levels**2))
    # Rounded, or the errors of a difference of nought, as on flat grounds, count as left or right: up to 4 % of NIQE.
    return np.asarray(np.round(levels - mean, 9) / (np.sqrt(np.abs(mean_square - mean**2)) + 1))


def _filtered(x: np.ndarray, taps: np.ndarray, border: str) -> np.ndarray:
    from scipy.ndimage import correlate1d

    return np.asarray(correlate1d(correlate1d(x, taps, 0, mode=border), taps, 1, mode=border))


def read_niqe(path: Path) -> NiqeModel:
    """The model of a file: BasicSR's ``niqe_pris_params.npz``, or the authors' ``modelparameters.mat``."""
    from scipy.io import loadmat

    if is_no_file(path):
        raise WeightsError(f"{path}: not a file")
    try:
        content = io.BytesIO(path.read_bytes())
        found = loadmat(content) if path.suffix.lower() == ".mat" else np.load(content, allow_pickle=False)
        names = next((pair for pair in _NAMES if pair[0] in found), None)
        if names is None:
            raise ValueError(f"there is no {_NAMES[0][0]} in it")
        mean, covariance = (np.asarray(found[name], np.float64) for name in names)
        model = NiqeModel(mean.reshape(FEATURES), covariance.reshape(FEATURES, FEATURES))
    except Exception as error:  # a damaged file makes the readers raise almost anything
        raise WeightsError(f"{path}: not a model of NIQE ({reason(error)[:160]})") from None
    if not (np.isfinite(model.mean).all() and np.isfinite(model.covariance).all()):
        raise WeightsError(f"{path}: not a model of NIQE (not all of its numbers are finite)")
    return model


def find_niqe(path: Path | None) -> tuple[list[NiqeModel], list[str]]:
    """The model that is there, or a line that says why NIQE is left out."""
    if path is None:
        return [], ["niqe is left out: no model given (--niqe FILE)"]
    try:
        return [read_niqe(path)], []
    except WeightsError as error:
        return [], [f"niqe is left out: {error}"]
