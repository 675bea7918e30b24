"""What the pixels of a picture still tell of a JPEG that they were read from, before they were saved anew."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .jpeg import Jpeg, filled

_BLOCK = 8
_ENOUGH = 512  # pixels: a side that tells enough
_BLOCKS, _FEW = 1024, 32  # as many, evenly from all; of fewer nothing is said
_STEPS = range(3, 122)
"""Quantisation steps that show: rounded pixels leave nothing of 1 and 2, and the standard's table ends at 121."""
_DEVIATION = 0.45  # of a coefficient from the multiple it was: rounding of the pixels, and of their colours before
_STRAY = 0.1  # the share of coefficients that something else has moved
_EVIDENT = 10.0
_SURE = 100.0
"""Nats of evidence for one step, and for all; what was no JPEG has a tenth of that (docs/benchmarks.md counts)."""
_LUMA, _COLOUR = (0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5)  # Y and Cb of R, G, B
_WHOLE, _HALVED = 0, 2  # Pillow's words for 4:4:4 and 4:2:0
_EITHER = (0, _BLOCK)  # colour that is halved has blocks twice as wide: they begin with either


def former_jpeg(pixels: Tensor) -> Jpeg | None:
    """Of ``(3, h, w)`` in [0, 1], 8 bits each: the JPEG they were; None where they show none.

    Read from a JPEG, the cosine transform of each of its blocks is near multiples of its steps, 8 by 8 frequencies that
    have one each: the likeliest are taken (Fan and de Queiroz, Identification of bitmap compression history, 2003). The
    blocks of a crop begin anywhere: where most coefficients are next to zero. Colour was halved where it shows no steps
    on that grid; its steps are taken to be libjpeg's. What was resized, turned a little or compressed otherwise since
    then shows nothing.
    """
    pixels = _middle(pixels.detach().float().cpu())
    if min(pixels.shape[-2:]) < 2 * _BLOCK:
        return None
    luma, colour = (255 * np.einsum("chw,c->hw", pixels.double().numpy(), weights) for weights in (_LUMA, _COLOUR))
    clipped = (luma < 1) | (luma > 254)
    luma[clipped] = colour[clipped] = np.nan
    places = [(top, left) for top in range(_BLOCK) for left in range(_BLOCK)]
    top, left = max(places, key=lambda place: _share_of_zeros(_coefficients(luma, *place)))
    steps, evidence = _likeliest(_coefficients(luma, top, left))
    if evidence.sum() < _SURE:
        return None
    tables = filled(np.where(evidence >= _EVIDENT, steps, 0))
    if _likeliest(_coefficients(colour, top, left))[1].sum() >= _SURE:
        return Jpeg(tables, _WHOLE, (top, left), former=True)
    halved = [Jpeg(tables, _HALVED, (top + down, left + right), former=True) for down in _EITHER for right in _EITHER]
    return min(halved, key=lambda jpeg: float((jpeg.again(pixels) - pixels).square().mean()))


def _middle(pixels: Tensor) -> Tensor:
    """At most a side of ``(3, h, w)`` that tells enough, begun where blocks of halved colour may begin."""
    for dim in (-2, -1):
        begin = max(pixels.shape[dim] - _ENOUGH, 0) // 2 // (2 * _BLOCK) * (2 * _BLOCK)
        pixels = pixels.narrow(dim, begin, min(pixels.shape[dim], _ENOUGH))
    return pixels


def _coefficients(luma: np.ndarray, top: int, left: int) -> np.ndarray:
    """``(blocks, 64)``: the cosine transform of all whole blocks from there on that are not flat, and have no NaN."""
    from scipy.fft import dctn  # takes longer to import than a small photo takes to read

    rows, cols = ((n - begin) // _BLOCK for n, begin in zip(luma.shape, (top, left), strict=True))
    whole = luma[top : top + rows * _BLOCK, left : left + cols * _BLOCK]
    blocks = whole.reshape(rows, _BLOCK, cols, _BLOCK).swapaxes(1, 2).reshape(-1, _BLOCK, _BLOCK)
    telling = blocks.max((1, 2)) - blocks.min((1, 2)) >= 1  # of a NaN: not
    return np.asarray(dctn(blocks[telling], axes=(1, 2), norm="ortho")).reshape(-1, _BLOCK**2)


def _share_of_zeros(coefficients: np.ndarray) -> float:
    return float((np.abs(coefficients[:, 1:]) < 1).mean()) if len(coefficients) else 0.0


def _likeliest(coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(64,)`` of each frequency: the likeliest step, and the evidence for it, in nats.

    Against coefficients that lie anywhere. Those next to zero are left out: smooth pictures have them too. Of blocks
    that are alike, as patterns have them, one counts. Their means, at the first place, tell next to nothing.
    """
    steps, evidence = np.zeros(_BLOCK**2, int), np.zeros(_BLOCK**2)
    coefficients = np.unique(coefficients[:: len(coefficients) // _BLOCKS + 1, 1:].round(2), axis=0)
    if len(coefficients) < _FEW:
        return steps, evidence
    height = 1 / (_DEVIATION * (2 * np.pi) ** 0.5)
    for step in _STEPS:
        multiples = np.round(coefficients / step)
        near = height * np.exp(-0.5 * ((coefficients - multiples * step) / _DEVIATION) ** 2)
        found = np.where(multiples != 0, np.log((1 - _STRAY) * near * step + _STRAY), 0).sum(0)
        better = np.flatnonzero(found > evidence[1:]) + 1
        steps[better], evidence[better] = step, found[better - 1]
    return steps, evidence
