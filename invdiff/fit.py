"""Which parts go together: asked before the first step, so that no work is lost on what cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .blur.kernel_files import framed
from .degradation import Degradation, KernelSpace, ParameterSpace
from .errors import InvdiffError
from .guidance import Guidance
from .orientation import shown
from .prior import PriorNet
from .sampler import SamplerSettings

_SIDE, _TOLERANCE = 16, 1e-3


class MisfitError(InvdiffError):
    """Parts that do not go together: the setting to change, as a recipe would call it, and why."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


def check_fit(prior: PriorNet, degradation: Degradation) -> None:
    """Refuse a prior that was made for another operator, before the first step."""
    spec = prior.spec
    if spec.scale is not None and spec.scale != degradation.scale:
        raise MisfitError(
            "prior", f"the prior is for scale {spec.scale}, the recipe's degradation has scale {degradation.scale}"
        )
    if spec.parameter_shape is not None and spec.parameter_shape != degradation.parameters.shape:
        ours, theirs = ("x".join(map(str, s)) for s in (spec.parameter_shape, degradation.parameters.shape))
        raise MisfitError("prior", f"the prior estimates {ours} parameters, the recipe's degradation has {theirs}")


def check_sampler(prior: PriorNet, sampler: SamplerSettings, block: str = "sampler") -> None:
    """Refuse settings of the loop that the prior cannot follow; ``block`` of a recipe is where they stand."""
    if sampler.feedback and not prior.spec.takes_parameters:
        raise MisfitError(f"{block}.feedback", "this prior takes no parameters")
    if sampler.steps > len(prior.spec.schedule):
        raise MisfitError(f"{block}.steps", f"the prior has {len(prior.spec.schedule)} steps at most")
    times = sampler.times(prior.spec)
    twice = [place for place, (a, b) in enumerate(pairwise(times), 2) if a == b]
    if twice:
        raise MisfitError(
            f"{block}.sigmas", f"number {twice[0]} stands for the same step of the prior as the one before"
        )
    if (sampler.start or prior.spec.start) == "noise" and times[0] != len(prior.spec.schedule) - 1:
        raise MisfitError(f"{block}.sigmas", "from pure noise, the first must be the prior's largest or more")


def check_orientations(sampler: SamplerSettings, degradation: Degradation) -> None:
    """Refuse to turn a picture whose operator does not turn with it: tried, on noise and a drawn kernel."""
    if sampler.orientations == 1:
        return
    space = degradation.parameters
    if not isinstance(space, KernelSpace):
        raise MisfitError("sampler.orientations", "a kernel turns with its picture; this operator has none")
    generator = torch.Generator().manual_seed(0)
    side = 2 * degradation.scale * max(space.size, _SIDE)
    x, kernel = torch.rand(1, 3, side, side, generator=generator), degradation.sample_parameters(1, generator)
    for way in (1, 4):
        turned = degradation.apply(shown(x, way), shown(kernel, way))
        if not torch.allclose(turned, shown(degradation.apply(x, kernel), way), atol=_TOLERANCE):
            raise MisfitError("sampler.orientations", "this operator does not turn with its picture")


def check_guidance(guidance: Sequence[Guidance], degradation: Degradation) -> None:
    """Refuse a guidance that cannot serve the operator."""
    for place, guide in enumerate(guidance):
        reason = guide.unfit(degradation)
        if reason:
            raise MisfitError(f"guidance.{place}", reason)


def checked_parameters(space: ParameterSpace, kernel: Any, parameters: Tensor | None) -> Tensor | None:
    """The parameters that restoring is told, checked: ``(*shape)`` or ``(B, *shape)``."""
    if kernel is not None:
        if parameters is not None:
            raise InvdiffError("kernel and parameters say the same thing: give one of them")
        if not isinstance(space, KernelSpace):
            raise InvdiffError(f"kernel: this operator has none; its parameters are {space}: give parameters")
        array = np.asarray(kernel.detach().cpu() if isinstance(kernel, Tensor) else kernel)
        if array.ndim == 3:
            return torch.stack([framed("kernel", one, space.size).float() for one in array])
        return framed("kernel", array, space.size).float()
    if parameters is None:
        return None
    batch = parameters.detach().float().cpu()
    batch = batch if batch.ndim > len(space.shape) else batch[None]
    if tuple(batch.shape[1:]) != space.shape or not space.contains(batch):
        raise InvdiffError(f"parameters: {tuple(parameters.shape)} do not lie in the operator's {space}")
    return parameters.detach().float().cpu()


def each_of(space: ParameterSpace, value: Tensor | None, batch: int) -> Tensor | None:
    """Parameters of one image, or of each of a batch, as those of each."""
    shape = space.shape
    if value is None or tuple(value.shape) == (batch, *shape):
        return value
    if tuple(value.shape) != shape:
        raise InvdiffError(f"parameters are {shape} or {(batch, *shape)} for these images, got {tuple(value.shape)}")
    return value.expand(batch, *shape)
