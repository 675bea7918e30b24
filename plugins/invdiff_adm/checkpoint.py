"""Settings from the tensors of a checkpoint in guided diffusion's layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from invdiff.errors import WeightsError

_LANDMARKS = {"time_embed.0.weight", "input_blocks.0.0.weight", "output_blocks.0.0.in_layers.2.weight", "out.2.weight"}
_PUBLISHED = {(93_563_910, 362), (552_814_086, 566), (557_973_638, 644)}
"""Numbers and tensors of those whose heads are known to have 64 channels: FFHQ 256 as in DPS, ImageNet and LSUN 256,
and ImageNet 512 without classes. No shape tells how many heads there are."""


def is_adm(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of guided diffusion."""
    return set(tensors) >= _LANDMARKS


def layout(tensors: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a network with those tensors.

    Raises :class:`WeightsError` for networks that are told a class or are not of colour pictures, and for one that is
    none of the published where ``overrides`` does not say its ``head_channels``.
    """
    if "label_emb.weight" in tensors:
        raise WeightsError("a class-conditional network (it has 'label_emb.weight'), and a photo has no class")
    inputs, outputs = _side(tensors, "input_blocks.0.0.weight", 1), _side(tensors, "out.2.weight")
    if inputs != 3 or outputs not in (3, 6):
        raise WeightsError(f"guided diffusion's layout with {inputs} channels in and {outputs} out, not 3 and 3 or 6")
    counted = (sum(value.numel() for value in tensors.values()), len(tensors))
    if counted not in _PUBLISHED and "head_channels" not in overrides:
        raise WeightsError(
            f"guided diffusion's layout, but none of the published ({counted[0]:,} numbers in {counted[1]} tensors): "
            "say how many channels a head of attention has, --set head_channels=64"
        )
    # The block that enlarges is the last of its size: what comes before it counts a size's blocks.
    enlarging = [place for place in range(_count(tensors, "output_blocks")) if _enlarges(tensors, place)]
    blocks, sizes = (enlarging or [_count(tensors, "output_blocks") - 1])[0], len(enlarging) + 1
    first = [1 + level * (blocks + 1) for level in range(sizes)]
    return {
        "width": _side(tensors, "time_embed.0.weight", 1),
        "channels": [_side(tensors, f"input_blocks.{place}.0.in_layers.2.weight") for place in first],
        "blocks": blocks,
        "attention": [level for level, place in enumerate(first) if f"input_blocks.{place}.1.qkv.weight" in tensors],
        "learn_variance": outputs == 6,
    }


def refuse_misfits(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise :class:`WeightsError` that names the first tensor without a place, or missing, or of another shape."""
    for name, value in tensors.items():
        if name not in wanted:
            raise WeightsError(f"guided diffusion's layout, but with '{name}', which has no place in the network")
        if value.shape != wanted[name].shape:
            found, right = ("x".join(map(str, shape)) for shape in (value.shape, wanted[name].shape))
            raise WeightsError(f"guided diffusion's layout, but '{name}' is {found} and not {right}")
    for name in wanted:
        if name not in tensors:
            raise WeightsError(f"guided diffusion's layout, but without '{name}'")


def _side(tensors: Mapping[str, Tensor], name: str, axis: int = 0) -> int:
    if name not in tensors or tensors[name].ndim <= axis:
        raise WeightsError(f"guided diffusion's layout, but '{name}' is missing or of another shape")
    return tensors[name].shape[axis]


def _count(tensors: Mapping[str, Tensor], stage: str) -> int:
    return len({match[1] for name in tensors if (match := re.match(rf"{stage}\.(\d+)\.", name))})


def _enlarges(tensors: Mapping[str, Tensor], place: int) -> bool:
    """Whether an output block has a second residual block, with or without attention between."""
    return any(f"output_blocks.{place}.{part}.in_layers.2.weight" in tensors for part in (1, 2))
