"""Tensors on disk: safetensors, and the tensors of other projects' checkpoints. Nothing is ever unpickled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import torch
from torch import Tensor

from ..errors import WeightsError, one_line
from .plain import is_no_file


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file; :class:`WeightsError` for anything else."""
    if is_no_file(path):
        raise WeightsError(f"{path}: not a file")
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        if _is_pickle(Path(path)):
            raise WeightsError(
                f"{path}: this is a pickle (.pt, .pth), which is never loaded: convert it with 'invdiff weights import'"
            ) from None
        raise WeightsError(
            f"{path}: not a readable safetensors file ({one_line(error)}); copy it again, or name another"
        ) from None


def _is_pickle(path: Path) -> bool:
    """Whether a file is a zip of pickles or a bare one; a safetensors header's length may begin like either."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:
        return False
    return (start[:1] == b"\x80" or start[:2] == b"PK") and start[8:] != b"{"


def read_checkpoint(source: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint by name, for files of others (``weights_only``: nothing else is read)."""
    if is_no_file(source):
        raise WeightsError(f"{source}: not a file")
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{source}: no such file") from None
    except UnpicklingError:  # torch's words advise to run whatever is inside
        raise WeightsError(f"{source}: not a checkpoint of tensors, or of more than tensors") from None
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise WeightsError(f"{source}: not a checkpoint of tensors ({one_line(error)[:160]})") from None
    tensors = _state_dict(loaded)
    if not tensors:
        raise WeightsError(f"{source}: holds no tensors by name (looked for params_ema, params, state_dict)")
    return tensors


def _state_dict(loaded: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name; averaged ones (``params_ema``) first, as the authors test with."""
    if not isinstance(loaded, Mapping):
        return {}
    for name in ("params_ema", "params", "state_dict"):
        if isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
            break
    if not all(isinstance(value, Tensor) for value in loaded.values()):
        return {}
    return {str(name).removeprefix("module."): value for name, value in loaded.items()}


def non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first name, in their order, that holds NaN or infinity."""
    floats = ((name, value) for name, value in tensors.items() if value.is_floating_point())
    return next((name for name, value in floats if not bool(value.isfinite().all())), None)
