"""From a chosen part to a built component."""

from __future__ import annotations

import torch

from ..degradation import Degradation
from ..errors import InvdiffError, PluginError, WeightsError, one_line
from ..guidance import Guidance
from ..prior import PriorNet
from ..seeds import Stream, stream
from .registry import Part, Registry
from .weights import load_prior


def build_degradation(part: Part) -> Degradation:
    operator: Degradation = part.component.cls(part.settings)
    return operator


def build_weighted_prior(part: Part, registry: Registry) -> PriorNet:
    """A prior from the weights that its settings name; settings that are given beside them must agree with theirs."""
    asked = {name: getattr(part.settings, name) for name in part.settings.model_fields_set - {"weights"}}
    try:
        return load_prior(part.settings.weights, registry, asked, part.component.kind)
    except WeightsError as error:
        raise WeightsError(f"{part.where}: {error}") from None


def build_untrained_prior(part: Part, seed: int) -> PriorNet:
    """A prior with fresh weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, Stream.INITIAL_WEIGHTS).initial_seed() % 2**63)
        prior: PriorNet = part.component.cls(part.settings)
    return prior


def build_alone(part: Part, registry: Registry) -> Degradation | PriorNet | Guidance:
    """One component by itself, frozen and in evaluation mode where it is a prior: for the conformance checks."""
    try:
        if part.component.role != "prior":
            alone: Degradation | Guidance = part.component.cls(part.settings)
            return alone
        if part.settings.weights is not None:
            return build_weighted_prior(part, registry)
        return build_untrained_prior(part, 0).eval().requires_grad_(False)
    except InvdiffError:
        raise
    except Exception as error:  # a foreign component may raise anything
        what = f"{part.component.role} '{part.component.kind}'"
        raise PluginError(f"{what} cannot be built: {type(error).__name__}: {one_line(error)}") from error


def _check_fit(prior: PriorNet, degradation: Degradation, part: Part) -> None:
    """Refuse weights that were made for another operator, before the first step."""
    if prior.scale is not None and prior.scale != degradation.scale:
        ours, theirs = str(prior.scale), str(degradation.scale)
        raise WeightsError(f"{part.where}: the prior is for scale {ours}, the recipe's degradation has scale {theirs}")
    if prior.parameter_shape is not None and prior.parameter_shape != degradation.parameters.shape:
        ours, theirs = ("x".join(map(str, s)) for s in (prior.parameter_shape, degradation.parameters.shape))
        raise WeightsError(
            f"{part.where}: the prior estimates {ours} parameters, the recipe's degradation has {theirs}"
        )
