"""How a JPEG was compressed, from the file's own tables."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, JpegImagePlugin
from torch import Tensor

_HALVED = 2  # Pillow's word for 4:2:0
_ENOUGH, _BLOCK = 1024, 16  # pixels: a side that tells enough, and that of a block where colour is halved
_OFF = (4, 3)  # pixels: as far from the grid of blocks as may be


@dataclass(frozen=True)
class Jpeg:
    """Quantisation tables of a JPEG, 64 numbers each, row by row, and how its colour is sampled, as Pillow says it.

    ``former`` where it is no more: its pixels were saved as something else, and told these. Its first whole block then
    begins at ``origin``, row and column.
    """

    tables: tuple[tuple[int, ...], ...]
    sampling: int = _HALVED
    origin: tuple[int, int] = (0, 0)
    former: bool = False

    @classmethod
    def of(cls, picture: Image.Image) -> Jpeg | None:
        """Of a picture that Pillow opened; None for what is no JPEG."""
        found: Any = getattr(picture, "quantization", None)
        if not isinstance(picture, JpegImagePlugin.JpegImageFile) or not found:
            return None
        tables = tuple(tuple(map(int, found[place])) for place in sorted(found))
        sampling = JpegImagePlugin.get_sampling(picture)
        return cls(tables, _HALVED if sampling < 0 else sampling) if all(len(t) == 64 for t in tables) else None

    @property
    def kind(self) -> str:
        """What it is, for people."""
        return "former JPEG" if self.former else "JPEG"

    @property
    def quality(self) -> int:
        """From 1 to 100, as libjpeg counts it: the nearest table of luma; other encoders have their own."""
        return _nearest(np.array(self.tables[0], float).clip(1))  # a broken table has zeros

    def again(self, pixels: Tensor) -> Tensor:
        """``(3, h, w)`` in [0, 1], compressed with these tables and read again."""
        array = (pixels.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        top, left = (-begin % _BLOCK for begin in self.origin)
        framed = np.ascontiguousarray(np.pad(array, ((top, 0), (left, 0), (0, 0)), mode="edge"))
        buffer = io.BytesIO()
        tables = [list(table) for table in self.tables]
        Image.fromarray(framed).save(buffer, "JPEG", qtables=tables, subsampling=self.sampling)
        with Image.open(buffer, formats=["JPEG"]) as found:
            return torch.from_numpy(np.asarray(found.convert("RGB"))[top:, left:].copy()).permute(2, 0, 1) / 255

    def error(self, pixels: Tensor, seen: Callable[[Tensor], Tensor] = lambda numbers: numbers) -> float:
        """Standard deviation, on [0, 1], of what compression did to ``(3, h, w)`` that was read from such a file: in
        its numbers, or in what is ``seen`` behind them, such as light.

        Compressed again it would stay as it is. But off the grid of blocks the tables meet it as they met what it came
        from (as in Nosratinia's deblocking, 2001), and what they do to it there is read off. Of a large one the middle
        is enough.
        """
        for dim in (-2, -1):
            begin = max(pixels.shape[dim] - _ENOUGH, 0) // 2 // _BLOCK * _BLOCK
            pixels = pixels.narrow(dim, begin, min(pixels.shape[dim], _ENOUGH))
        found = [0.0]  # at two places, as the grid of a photo that was turned may begin at either
        for off in _OFF:  # from where its blocks begin, in whose middle those of another picture then do
            moved = pixels[:, off + self.origin[0] :, off + self.origin[1] :].detach().float().cpu().clamp(0, 1)
            if moved.numel():
                again = replace(self, origin=(0, 0)).again(moved)
                found.append(float((seen(again) - seen(moved)).double().square().mean().sqrt()))
        return max(found)


def filled(steps: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Tables with these steps of luma, ``(64,)``; those that are 0, and colour's, as libjpeg has them there."""
    known = steps > 0
    luma, colour = _standard(_nearest(steps, known))
    return tuple(np.where(known, steps, luma).tolist()), tuple(colour.tolist())


def _nearest(steps: np.ndarray, among: Any = slice(None)) -> int:
    """The quality whose table of luma is the nearest to ``(64,)``, or to those ``among`` them."""
    return min(range(1, 101), key=lambda q: float(np.abs(np.log(steps[among] / _standard(q)[0][among])).sum()))


@cache
def _standard(quality: int) -> tuple[np.ndarray, np.ndarray]:
    """The tables ``(64,)`` of luma and colour that libjpeg makes for a quality."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer, formats=["JPEG"]) as written:
        tables: Any = getattr(written, "quantization")  # noqa: B009  (of JPEGs only)
        return np.array(tables[0]), np.array(tables[1])
