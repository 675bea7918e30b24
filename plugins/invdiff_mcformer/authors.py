"""Checkpoints of the authors' released network, in our names.

Only the layout of their file is known here: names and shapes, from which the widths follow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from invdiff.errors import WeightsError

_BLOCK = {
    "norm1.body.weight": "norm_attention.weight",
    "norm1.body.bias": "norm_attention.bias",
    "norm2.body.weight": "norm_feed.weight",
    "norm2.body.bias": "norm_feed.bias",
    "attn.temperature": "attention.temperature",
    "attn.qkv.weight": "attention.qkv.weight",
    "attn.qkv_dwconv.weight": "attention.spread.weight",
    "attn.project_out.weight": "attention.out.weight",
    "ffn.project_in.weight": "feed.enter.weight",
    "ffn.dwconv.weight": "feed.spread.weight",
    "ffn.project_out.weight": "feed.out.weight",
    "modulation.1.weight": "modulation.weight",
    "modulation.1.bias": "modulation.bias",
}
_STAGES = {
    **{f"encoder_level{i}": f"encoders.{i - 1}" for i in (1, 2, 3)},
    **{f"decoder_level{i}": f"decoders.{i - 1}" for i in (1, 2, 3)},
    "latent": "latent",
    "refinement": "refinement",
}
_SINGLE = {
    "patch_embed.proj.weight": "stem.weight",
    "output.weight": "head.weight",
    "down1_2.body.0.weight": "downs.0.0.weight",
    "down2_3.body.0.weight": "downs.1.0.weight",
    "down3_4.body.0.weight": "downs.2.0.weight",
    "up2_1.body.0.weight": "ups.0.0.weight",
    "up3_2.body.0.weight": "ups.1.0.weight",
    "up4_3.body.0.weight": "ups.2.0.weight",
    "reduce_chan_level2.weight": "merges.0.weight",
    "reduce_chan_level3.weight": "merges.1.weight",
    **{f"t_embedder.{a}.{p}": f"time.{b}.{p}" for a, b in ((1, 0), (3, 2)) for p in ("weight", "bias")},
    **{f"k_mlp.{a}.{p}": f"kernel.{a}.{p}" for a in (0, 2) for p in ("weight", "bias")},
    **{f"predictor.{a}.{p}": f"estimator.features.{a}.{p}" for a in range(0, 12, 2) for p in ("weight", "bias")},
    **{f"predictor.13.{p}": f"estimator.head.logits.{p}" for p in ("weight", "bias")},
}


def is_authors(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of the released MCFormer: its three landmarks are there."""
    return {"patch_embed.proj.weight", "predictor.13.weight", "t_embedder.1.weight"} <= set(tensors)


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings of a network of that shape, and the tensors under our names (``network.*``).

    Raises :class:`WeightsError` that names the first tensor without a place or without the right shape.
    """
    renamed = {f"network.{_rename(name)}": tensor for name, tensor in tensors.items()}
    logits = renamed.get("network.estimator.head.logits.weight")
    if logits is not None:  # a 1x1 convolution there, a linear layer here
        renamed["network.estimator.head.logits.weight"] = logits.flatten(1)
    return {"network": _shape(tensors), "preconditioning": "none", "value_range": [0.0, 1.0]}, renamed


def _rename(name: str) -> str:
    if name in _SINGLE:
        return _SINGLE[name]
    match = re.fullmatch(r"(\w+)\.(\d+)\.(.+)", name)
    if match and match[1] in _STAGES and match[3] in _BLOCK:
        return f"{_STAGES[match[1]]}.{match[2]}.{_BLOCK[match[3]]}"
    raise WeightsError(f"the authors' layout, but with '{name}', which has no place in MCFormer")


def _shape(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    def side(name: str, axis: int = 0) -> int:
        if name not in tensors or tensors[name].ndim <= axis:
            raise WeightsError(f"the authors' layout, but '{name}' is missing or of another shape")
        return tensors[name].shape[axis]

    def count(stage: str) -> int:
        return len({name.split(".")[1] for name in tensors if name.startswith(f"{stage}.")})

    stages = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    channels = [side(f"{stage}.0.attn.qkv.weight", 1) for stage in stages]
    pixels, outputs = side("predictor.13.weight"), side("output.weight")
    kernel_size = round(pixels**0.5)
    if kernel_size**2 != pixels or kernel_size % 2 == 0:
        raise WeightsError(f"'predictor.13.weight' gives {pixels} kernel pixels, not the square of an odd number")
    if outputs not in (3, 6):
        raise WeightsError(f"'output.weight' gives {outputs} channels, not 3 or 6")
    # The hidden width is int(channels * expansion): recover a factor that gives it at every level.
    hidden = [side(f"{stage}.0.ffn.project_out.weight", 1) for stage in stages]
    low = max(h / c for h, c in zip(hidden, channels, strict=True))
    high = min((h + 1) / c for h, c in zip(hidden, channels, strict=True))
    expansion = next((e for e in (2.66, 2.0, 4.0) if low <= e < high), (low + high) / 2)
    return {
        "kernel_size": kernel_size,
        "channels": channels,
        "blocks": [count(stage) for stage in stages],
        "heads": [side(f"{stage}.0.attn.temperature") for stage in stages],
        "refinement": count("refinement"),
        "expansion": expansion,
        "learn_variance": outputs == 6,
        "estimator": {"channels": side("predictor.0.weight")},
    }
