"""Which parts go together: asked before the first step, so that no work is lost on what cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .degradation import Degradation
from .errors import InvdiffError
from .guidance import Guidance
from .prior import PriorNet
from .sampler import SamplerSettings


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


def check_sampler(prior: PriorNet, sampler: SamplerSettings) -> None:
    """Refuse settings of the loop that the prior cannot follow."""
    if sampler.feedback and not prior.spec.takes_parameters:
        raise MisfitError("sampler.feedback", "this prior takes no parameters")
    if sampler.steps > len(prior.spec.schedule):
        raise MisfitError("sampler.steps", f"the prior has {len(prior.spec.schedule)} steps at most")
    times = sampler.times(prior.spec)
    twice = [place for place, (a, b) in enumerate(pairwise(times), 2) if a == b]
    if twice:
        raise MisfitError(
            "sampler.sigmas", f"number {twice[0]} stands for the same step of the prior as the one before"
        )
    if (sampler.start or prior.spec.start) == "noise" and times[0] != len(prior.spec.schedule) - 1:
        raise MisfitError("sampler.sigmas", "from pure noise, the first must be the prior's largest or more")


def check_guidance(guidance: Sequence[Guidance], degradation: Degradation) -> None:
    """Refuse a guidance that cannot serve the operator."""
    for place, guide in enumerate(guidance):
        reason = guide.unfit(degradation)
        if reason:
            raise MisfitError(f"guidance.{place}", reason)
