"""The tiles of a large picture on disk until it is done: after a kill, the same run goes on at the tile it was at."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors.torch import save as encode
from torch import Tensor

from ..errors import WeightsError
from ..io.atomic import write_atomic
from ..io.tensors import read_tensors
from ..prior import Output, PriorNet
from ..seeds import content_of
from ..tiling import tiles_of

_FOLDER = ".tiles"
_SPARE = 0.5
"""The share of what is free on a disk that tiles may fill."""


class KeptTiles(PriorNet):
    """A prior that writes what it says to a folder, and reads there what it has said before of the same.

    An answer is found by everything it follows from but the weights, which the folder stands for. Where gradients are
    asked for it is computed, as they cannot be read.
    """

    def __init__(self, prior: PriorNet, folder: Path) -> None:
        super().__init__()
        self.inner, self.folder = prior, folder
        self.settings, self.spec = prior.settings, prior.spec

    def estimate(self, condition: Tensor) -> Tensor | None:
        return self.inner.estimate(condition)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor, told: Tensor | None = None) -> Output:
        given = (x_t, t, condition) if told is None else (x_t, t, condition, told)
        if torch.is_grad_enabled() and x_t.requires_grad:
            answer: Output = self.inner(*given)
            return answer
        name = "".join(f"{part:08x}" for part in content_of(*given))
        place = self.folder / f"{name}.safetensors"
        known = _read(place)
        if "raw" in known and known["raw"].shape == x_t.shape:
            back = {name: part.to(x_t.device) for name, part in known.items()}
            return Output(back["raw"], back.get("parameters"), back.get("variance_fraction"))
        answer = self.inner(*given)
        said = {"raw": answer.raw, "parameters": answer.parameters, "variance_fraction": answer.variance_fraction}
        whole = {name: part.cpu().contiguous() for name, part in said.items() if part is not None}
        with suppress(OSError):  # a full disk, say: it is kept for convenience, and computed all the same
            write_atomic(place, encode(whole))
        return answer


def _read(place: Path) -> dict[str, Tensor]:
    """What is kept there; nothing where there is nothing, or nothing whole."""
    with suppress(WeightsError):
        return read_tensors(place)[0]
    return {}


@contextmanager
def tiles_kept(prior: PriorNet, folder: Path, stem: str, key: str, size: int) -> Iterator[bool]:
    """Keep the tiles of the picture ``stem`` in a hidden place of ``folder``, until :func:`forget_tiles`.

    They are those of this ``key``, which everything but a tile's own numbers goes into: those of another one are thrown
    away. Nothing is kept of a prior without tiles, or where the ``size`` of all of them, in bytes, would fill the disk.
    Whether an earlier run has left any is what it gives.
    """
    tiled = tiles_of(prior)
    own = _place(folder, stem)
    if not (own / key).is_dir():
        forget_tiles(folder, stem)
    if tiled is None or size > _SPARE * shutil.disk_usage(folder).free:
        yield False
        return
    inner, kept = tiled.inner, KeptTiles(tiled.inner, own / key)
    tiled.inner = kept
    try:
        yield kept.folder.is_dir()
    finally:
        tiled.inner = inner


def forget_tiles(folder: Path, stem: str) -> None:
    """Throw the tiles of a picture away, if there are any: it is done."""
    own = _place(folder, stem)
    if own.is_dir():
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):  # another picture's are there still
            own.parent.rmdir()


def _place(folder: Path, stem: str) -> Path:
    return folder / _FOLDER / hashlib.sha256(stem.encode(errors="surrogateescape")).hexdigest()[:16]
