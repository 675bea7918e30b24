"""The one unfolded reverse loop (Algorithm 2). Every operator, prior and guidance runs through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from .degradation import Degradation
from .guidance import Guidance, Step
from .prior import PriorNet
from .schedule import Spacing
from .settings import Float, Int, Settings


class SamplerSettings(Settings):
    """How the reverse diffusion is walked."""

    steps: Annotated[Int, Field(ge=1)] = 20
    """Network evaluations. One is close to the conditional mean; many draw from the posterior."""
    temperature: Annotated[Float, Field(ge=0, le=1)] = 1.0
    """Scale of all noise that is drawn: 1 samples the posterior (the paper), less trades texture for fidelity."""
    eta: Annotated[Float, Field(ge=0, le=1)] = 1.0
    """Fresh noise at each step: 1 is DDPM (the paper), 0 is DDIM."""
    spacing: Spacing = "uniform"
    """``quadratic`` puts more of the steps where there is little noise."""
    feedback: bool = False
    """Tell the prior the parameters that the guidances arrived at in the step before; for priors that take them."""
    tile: Annotated[Int, Field(ge=64)] | None = 512
    """Larger images pass through the prior in overlapping tiles of this side, in bounded memory; null: never."""
    overlap: Annotated[Int, Field(ge=0)] = 64


@dataclass
class StepRecord:
    """What a callback sees after each step; images ``(B, 3, H, W)`` in [0, 1]."""

    index: int
    steps: int
    t: int
    x0: Tensor
    theta: Tensor | None


@dataclass
class Sample:
    """The end of the loop: restored images in [0, 1] (not clipped) and the last parameters."""

    x0: Tensor
    theta: Tensor | None
    evaluations: int


def sample(
    y: Tensor,
    degradation: Degradation,
    prior: PriorNet,
    guidance: Sequence[Guidance],
    settings: SamplerSettings,
    generators: Sequence[torch.Generator],
    callback: Callable[[StepRecord], None] | None = None,
    given: Tensor | None = None,
    told: Tensor | None = None,
) -> Sample:
    """Draw one sample of p(x, theta | y) for each measurement of ``y (B, 3, h, w)`` in [0, 1].

    ``generators`` are one an image, on the CPU; all of an image's noise comes from its own. ``given``
    are known parameters, for guidances that want them; ``told`` are what the prior hears at the first
    step, where ``settings.feedback`` lets it hear any. Gradients are tracked through the prior only
    where a guidance needs them, never with respect to weights, and never from one step to the next.
    """
    condition, crop = _condition(y, degradation, prior)

    def noise() -> Tensor:
        drawn = torch.stack([torch.randn(condition.shape[1:], generator=g) for g in generators])
        return settings.temperature * drawn.to(condition)

    times = prior.schedule.spaced(settings.steps, settings.spacing)
    track = any(g.needs_gradient for g in guidance)
    x, theta = noise(), told
    for index, (t, t_next) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        with torch.set_grad_enabled(track):
            x = x.requires_grad_(track)
            heard = (theta,) if settings.feedback and theta is not None else ()
            prediction = prior.predict(x, torch.full((len(x),), t, device=x.device), condition, *heard)
            x0 = crop(prior.to_unit(prediction.x0))
            step = Step(index, len(times), t, t_next, x, x0, prediction.parameters, y, prior, degradation, given)
            for guide in guidance:
                estimate = guide.refine(step)
                step.x0, step.theta = estimate.x0, estimate.theta
                del estimate  # it would keep this step's graph alive into the next
            with torch.no_grad():
                clean = prediction.x0.clone()
                crop(clean).copy_(prior.from_unit(step.x0))
                fresh = noise() if t_next >= 0 and settings.eta > 0 else torch.zeros_like(x)
                fraction = prediction.variance_fraction
                x_next = prior.schedule.transition(x, clean, t, t_next, settings.eta, fresh, fraction)
            for guide in guidance:
                x_next = guide.correct(step, x_next)
        x = x_next.detach()
        theta = None if step.theta is None else step.theta.detach()
        if callback:
            callback(StepRecord(index, len(times), t, step.x0.detach(), theta))
        # The graph of this step must be gone before the next one's is built.
        del prediction, x0, step, x_next
    return Sample(crop(prior.to_unit(x)), theta, len(times))


def _condition(y: Tensor, degradation: Degradation, prior: PriorNet) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The lifted measurement in the prior's range, padded to its multiple, and the view that undoes the padding."""
    lifted = degradation.lift(y)
    height, width = lifted.shape[-2:]
    bottom, right = -height % prior.multiple, -width % prior.multiple
    # Replicated, not reflected: the image may be smaller than the padding.
    padded = F.pad(lifted, (0, right, 0, bottom), mode="replicate")
    return prior.from_unit(padded), lambda x: x[..., :height, :width]
