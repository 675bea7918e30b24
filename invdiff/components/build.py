"""From a chosen part to a built component."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import PluginError, WeightsError
from ..prior import PriorNet
from ..seeds import Stream, stream
from .registry import Part, Registry
from .weights import load_prior


def build(part: Part) -> Any:
    """The part's component; a constructor's failure is a :class:`PluginError` that says where it was asked for."""
    try:
        return part.component.build(part.settings)
    except (PluginError, WeightsError) as error:
        raise type(error)(f"{part.where}: {error}") from error.__cause__


def build_weighted_prior(part: Part, registry: Registry) -> PriorNet:
    """A prior from the weights that its settings name; settings that are given beside them must agree with theirs."""
    asked = {name: getattr(part.settings, name) for name in part.settings.model_fields_set - {"weights"}}
    try:
        return load_prior(str(part.weights), registry, asked, part.component.kind)
    except (PluginError, WeightsError) as error:
        raise type(error)(f"{part.where}: {error}") from error.__cause__


def build_untrained_prior(part: Part, seed: int) -> PriorNet:
    """A prior with fresh weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, Stream.INITIAL_WEIGHTS).initial_seed() % 2**63)
        prior: PriorNet = build(part)
    return prior


def build_prior(part: Part, registry: Registry) -> PriorNet:
    """A prior, frozen and in evaluation mode: with the weights that its settings name, or else as it is built."""
    if part.weights is not None:
        return build_weighted_prior(part, registry)
    return build_untrained_prior(part, 0).eval().requires_grad_(False)


def build_alone(part: Part, registry: Registry) -> Any:
    """One component by itself: for the conformance checks."""
    return build_prior(part, registry) if part.component.role == "prior" else build(part)
