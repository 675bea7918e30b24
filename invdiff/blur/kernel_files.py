"""Measured kernels from files: NumPy arrays, pictures, and MATLAB files with a ``kernels`` variable."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageError, one_line, reason
from ..io.decoding import load
from ..io.plain import is_no_file
from .deconvolution import centre_of_mass, shifted


@dataclass(frozen=True)
class MeasuredKernel:
    """A kernel ``(K, K)`` as the loop wants it, and the whole pixels, down and right, that centring moves it by."""

    name: str
    kernel: Tensor
    shift: tuple[int, int]


def read_kernels(path: Path, size: int, *, centre: bool = True) -> list[MeasuredKernel]:
    """All kernels of a file or of a folder's files, by name, each ``(size, size)``, float64 with unit sum.

    Smaller ones are framed in zeros. With ``centre`` the centre of mass is moved to the middle by whole pixels, so that
    nothing is resampled. Raises :class:`ImageError`, naming the file, for what is not a kernel of an odd
    side of at most ``size``, and for one that would lose mass by centring.
    """
    try:
        path = path.expanduser()
        if not path.exists():
            raise ImageError(f"{path}: no such file or folder")
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such user, no leave to look
        raise ImageError(f"{path}: cannot be read ({reason(error)})") from None
    found = [_framed(name, array, size, centre) for file in files for name, array in _arrays(file)]
    if not found:
        raise ImageError(f"{path}: no kernels here ({', '.join(SUFFIXES)})")
    return found


def read_kernel(path: Path, size: int) -> MeasuredKernel:
    """The one kernel of a file as it stands there, its middle the origin; ``shift`` is what would centre its mass."""
    found = read_kernels(path, size, centre=False)
    if len(found) > 1:
        raise ImageError(f"{path}: holds {len(found)} kernels, and one is needed")
    return found[0]


def _arrays(file: Path) -> list[tuple[str, np.ndarray]]:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ImageError(f"{file}: a kernel is one of {', '.join(SUFFIXES)}")
    if is_no_file(file):
        raise ImageError(f"{file}: not a file")
    try:
        arrays = reader(file)
    except ImageError:
        raise
    except Exception as error:  # a damaged file makes the readers raise almost anything
        raise ImageError(f"{file}: cannot be read as a kernel ({one_line(error)})") from None
    if len(arrays) == 1:
        return [(str(file), arrays[0])]
    return [(f"{file}, kernel {i + 1}", array) for i, array in enumerate(arrays)]


def _numpy(file: Path) -> list[np.ndarray]:
    with file.open("rb") as stream:
        return [np.lib.format.read_array(stream, allow_pickle=False)]


def _picture(file: Path) -> list[np.ndarray]:
    return [load(file).pixels.mean(0).numpy()]


def _matlab(file: Path) -> list[np.ndarray]:
    from scipy.io import loadmat

    try:
        variables = loadmat(io.BytesIO(file.read_bytes()))
    except NotImplementedError:
        raise ImageError(f"{file}: MATLAB files of version 7.3 cannot be read: save it with '-v7'") from None
    if "kernels" not in variables:
        raise ImageError(f"{file}: has no variable 'kernels'")
    kernels = variables["kernels"]
    return list(kernels.ravel()) if kernels.dtype == object else [kernels]


_READERS = {".npy": _numpy, ".png": _picture, ".mat": _matlab}
SUFFIXES = tuple(_READERS)


def framed(name: str, array: np.ndarray, size: int) -> Tensor:
    """A kernel ``(size, size)``, float64 with unit sum, from an array of an odd side up to ``size``, zeros around it.

    Raises :class:`ImageError`, which begins with ``name``, for what is not a kernel.
    """
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        shape = "x".join(map(str, array.shape)) or "a number"
        raise ImageError(f"{name}: a kernel is square, got {shape}")
    side = len(array)
    if side % 2 == 0:
        raise ImageError(f"{name}: a kernel has an odd side, got {side}")
    if side > size:
        raise ImageError(f"{name}: a kernel of {side}x{side} does not fit kernel_size {size}")
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise ImageError(f"{name}: a kernel is an array of real numbers, got {array.dtype}")
    kernel = torch.from_numpy(array.astype(np.float64))
    total = float(kernel.sum())
    if not math.isfinite(total) or bool((kernel < 0).any()):
        raise ImageError(f"{name}: a kernel's numbers, and their sum, are finite and not negative")
    if not total:
        raise ImageError(f"{name}: the kernel is all zero")
    margin = (size - side) // 2
    return torch.nn.functional.pad(kernel / total, (margin,) * 4)


def _framed(name: str, array: np.ndarray, size: int, centre: bool) -> MeasuredKernel:
    kernel = framed(name, array, size)
    rows, cols = (-centre_of_mass(kernel[None])[0]).round().int().tolist()
    if not centre:
        return MeasuredKernel(name, kernel, (rows, cols))
    moved = shifted(kernel, rows, cols)
    if float(moved.sum()) < 1 - 1e-6:
        raise ImageError(f"{name}: centring its mass pushes part of it out of kernel_size {size}")
    return MeasuredKernel(name, moved, (rows, cols))
