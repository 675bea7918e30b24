"""What a notebook shows: pictures with words, and a bar while one waits."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from html import escape
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image
from torch import Tensor

from .pictures import Photo, eight_bit, encode_png, from_array

_SIDE = 768
"""Pixels a side that a notebook is given of a picture, at most: it keeps them in its file."""


def as_array(image: Any) -> np.ndarray:
    """A PIL image, an array, a ``(3, H, W)`` tensor or a photo as uint8, ``(H, W)`` or ``(H, W, 3 or 4)``."""
    if isinstance(image, Tensor):
        return eight_bit(image.detach().cpu())
    if isinstance(image, Photo):
        return image.to_array()
    if isinstance(image, Image.Image):
        return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))
    return from_array(image).to_array()


def panels_html(panels: Mapping[str, np.ndarray], words: Sequence[str]) -> str:
    """Pictures side by side, each under its name, and lines below them."""
    wide = {name: "10rem" if name == "kernel" else "32rem" for name in panels}
    figures = "".join(
        f'<figure style="margin:0;max-width:{wide[name]};flex:1 1 8rem"><figcaption>{escape(name)}</figcaption>'
        f'<img alt="{escape(name, quote=True)}" src="{_uri(array)}" style="width:100%;image-rendering:auto"></figure>'
        for name, array in panels.items()
    )
    lines = "".join(f'<p style="margin:.2rem 0">{escape(line)}</p>' for line in words)
    return f'<div><div style="display:flex;flex-wrap:wrap;gap:.5rem">{figures}</div>{lines}</div>'


def _uri(array: np.ndarray) -> str:
    picture = Image.fromarray(array)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return f"data:image/png;base64,{base64.b64encode(encode_png(np.asarray(picture))).decode()}"


def enlarged(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture in another ``(height, width)``, RGB, bicubic."""
    picture = Image.fromarray(array).convert("RGB")
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC))


class Bar:
    """Steps done of all, as they go: HTML in a notebook, a line on the standard error of a terminal."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def __enter__(self) -> Self:
        # A kernel has loaded IPython already; where there is none, nobody needs it.
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        self.handle = None
        if shell is not None and hasattr(shell, "kernel"):
            from IPython.display import HTML, display

            self.html = HTML
            self.handle = display(HTML(self._text()), display_id=True)
        return self

    def step(self) -> None:
        self.done += 1
        if self.handle is not None:
            self.handle.update(self.html(self._text()))
        elif sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(f"\rstep {self.done} of {self.total}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.handle is None and self.done and sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write("\r\033[K")

    def _text(self) -> str:
        return f'<progress value="{self.done}" max="{self.total}"></progress> step {self.done} of {self.total}'
