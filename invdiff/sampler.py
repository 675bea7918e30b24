"""The one unfolded reverse loop (Algorithm 2). Every operator, prior and guidance runs through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from .guidance import Problem, Step, within
from .orientation import ORIENTATIONS, shown, upright
from .prior import PriorSpec
from .schedule import Spacing
from .settings import Float, Int, Settings


class SamplerSettings(Settings):
    """How the reverse diffusion is walked."""

    steps: Annotated[Int, Field(ge=1)] = 20
    """Evaluations of the network, of each orientation. One is near the conditional mean; many draw the posterior."""
    temperature: Annotated[Float, Field(ge=0, le=1)] = 1.0
    """Scale of all noise that is drawn: 1 samples the posterior (the paper), less trades texture for fidelity."""
    eta: Annotated[Float, Field(ge=0, le=1)] = 1.0
    """Fresh noise at each step: 1 is DDPM (the paper), 0 is DDIM."""
    spacing: Spacing = "uniform"
    """``quadratic`` puts more of the steps where there is little noise, ``karras`` (EDM) still more."""
    sigmas: Annotated[tuple[Annotated[Float, Field(gt=0)], ...], Field(min_length=1)] | None = None
    """Noise levels to step through instead, falling, on [0, 1] images; each stands for the prior's nearest."""
    start: Literal["noise", "measurement"] | None = None
    """What the first step sees: pure noise, or the lifted measurement with the first level's noise, which wants
    ``sigmas`` that begin low; null: what the prior asks for."""
    solver: Literal["first_order", "dpm_2m"] = "first_order"
    """``dpm_2m``: steps of second order from the estimate before, DPM-Solver++(2M), at no more evaluations."""
    renewal: Annotated[Float, Field(ge=0, le=1)] | None = None
    """In place of ``eta``: the share of the noise's variance that each step draws anew, however short it is."""
    feedback: bool = False
    """Tell the prior the parameters that the guidances arrived at in the step before; for priors that take them."""
    orientations: Annotated[Int, Field(ge=1, le=ORIENTATIONS)] = 1
    """So many of a picture's eight orientations, turned and mirrored, are restored; the result is their mean."""
    tile: Annotated[Int, Field(ge=64)] | None = 512
    """Larger images pass through the prior in overlapping tiles of this side, in bounded memory; null: never."""
    overlap: Annotated[Int, Field(ge=0)] = 64
    """Pixels by which neighbouring tiles overlap; the results are blended across them."""

    @model_validator(mode="before")
    @classmethod
    def _a_step_for_each(cls, given: Any) -> Any:
        counted = isinstance(given, dict) and isinstance(given.get("sigmas"), (list, tuple)) and "steps" not in given
        return {**given, "steps": len(given["sigmas"])} if counted else given

    @model_validator(mode="after")
    def _falling(self) -> SamplerSettings:
        sigmas = self.sigmas or ()
        if any(a <= b for a, b in pairwise(sigmas)):
            raise ValueError("sigmas must fall from each to the next")
        if sigmas and len(sigmas) != self.steps:
            raise ValueError(
                f"steps is {self.steps} and there are {len(sigmas)} sigmas: say {len(sigmas)}, or leave steps out"
            )
        return self

    @property
    def steps_in_all(self) -> int:
        """Steps of all orientations."""
        return self.steps * self.orientations

    def times(self, spec: PriorSpec) -> list[int]:
        """The times that the loop steps through with that prior, falling."""
        if self.sigmas is None:
            return spec.schedule.spaced(self.steps, self.spacing)
        low, high = spec.value_range
        return spec.schedule.nearest([(high - low) * sigma for sigma in self.sigmas])


class DrawsSettings(Settings):
    """How several pictures are drawn (``samples``), and how far their mean is from the truth.

    Draws lie closer together than the truth is from them. By how much is measured, on photos and for one recipe
    (``benchmarks/coverage.py``): the truth lies about their mean as a normal distribution with ``sqrt(floor**2 +
    factor**2 * s**2)`` does, nine times in ten; ``s`` is the standard deviation of the draws.
    """

    steps: Annotated[Int, Field(ge=2)] | None = None
    """Steps of each draw; null: the sampler's."""
    temperature: Annotated[Float, Field(gt=0, le=1)] | None = None
    """The noise of each draw; null: the sampler's."""
    floor: Annotated[Float, Field(ge=0)] = 0.0
    """What the mean is off by where draws agree, on [0, 1]."""
    factor: Annotated[Float, Field(gt=0)] = 1.0
    """By how much it is further off than draws differ."""

    @property
    def calibrated(self) -> bool:
        """Whether it says more than the draws do."""
        return (self.floor, self.factor) != (0, 1)

    def sampler(self, single: SamplerSettings) -> SamplerSettings:
        """The settings of each draw, by those of a single one; several orientations would draw what is shown once."""
        given: dict[str, Any] = {"orientations": 1}
        if self.steps is not None:
            given |= {"steps": self.steps, "sigmas": None}  # noise levels that are named are as many as they are
        if self.temperature is not None:
            given["temperature"] = self.temperature
        return single.model_copy(update=given)

    def uncertainty(self, deviation: Tensor, gain: float = 1.0) -> Tensor:
        """Of the mean of draws with that standard deviation, in a photo that was brightened ``gain`` times."""
        return ((self.floor / gain) ** 2 + (self.factor * deviation) ** 2).sqrt()


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


def step(
    problem: Problem,
    x: Tensor,
    t: int,
    t_next: int,
    noise: Tensor,
    *,
    eta: float = 1.0,
    theta: Tensor | None = None,
    feedback: bool = True,
    earlier: StepRecord | None = None,
    index: int = 0,
    steps: int = 1,
    draw: Callable[[Tensor], Tensor] = torch.zeros_like,
    memory: dict[str, Tensor] | None = None,
) -> tuple[Tensor, StepRecord]:
    """One step of the loop: from ``x`` at time ``t`` to what it returns first, at ``t_next`` (-1 is the clean image).

    ``x`` and ``noise`` are padded, like ``problem.condition``, and in the prior's range; ``noise`` is standard
    normal, or scaled down, and counts for ``eta`` of a DDPM step's. ``theta (B, *shape)`` are what the step before
    arrived at: for guidances that build on them, for the prior to restore with instead of its own where there is
    ``feedback`` and it takes any, and the estimate to go on from where it makes none. ``earlier`` is the record of the
    step before, for a step of second order. ``index`` of ``steps`` is for guidances and records, ``draw`` the noise
    that guidances draw and ``memory`` what they keep from step to step. No gradient with respect to weights is ever
    tracked, and none leaves the step.
    """
    prior, degradation, track = problem.prior, problem.degradation, problem.needs_gradient
    with torch.set_grad_enabled(track):
        x = x.detach().requires_grad_(track)
        told = (theta,) if feedback and theta is not None and prior.spec.takes_parameters else ()
        prediction = prior.predict(x, torch.full((len(x),), t, device=x.device), problem.condition, *told)
        predicted, fraction = prediction.x0, prediction.variance_fraction
        found = theta if prediction.parameters is None else prediction.parameters
        del prediction  # its noise is as large as the picture, and nobody's here
        x0 = problem.crop(prior.to_unit(predicted))
        known = (problem.y, prior, degradation, problem.truth, theta, problem.gain)
        kept = {} if memory is None else memory
        now = Step(index, steps, t, t_next, x, x0, found, *known, draw, problem.compression, kept)
        for guide in problem.guidance:
            estimate = guide.refine(now)
            now.x0, now.theta = estimate.x0, estimate.theta
        with torch.no_grad():
            ahead = now.x0
            if earlier is not None:
                ahead = ahead + prior.spec.schedule.lookahead(earlier.t, t, t_next) * (now.x0 - earlier.x0)
            clean = within(prior.from_unit(ahead), predicted)
            x_next = prior.spec.schedule.transition(x, clean, t, t_next, eta, noise, fraction)
        del predicted, ahead, clean
        for guide in problem.guidance:
            x_next = guide.correct(now, x_next)
    theta = None if now.theta is None else now.theta.detach()
    return x_next.detach(), StepRecord(index, steps, t, now.x0.detach(), theta)


def sample(
    problem: Problem,
    settings: SamplerSettings,
    generators: Sequence[torch.Generator],
    callback: Callable[[StepRecord], None] | None = None,
    initial: Tensor | None = None,
) -> Sample:
    """Draw one sample of p(x, theta | y) for each measurement of the problem, or the mean of one an orientation.

    ``generators`` are one an image, on the CPU; all of an image's noise comes from its own. With
    ``settings.feedback`` the prior is told the parameters that the step before arrived at, and at the first step
    ``initial (B, *shape)``, or what a guidance began with; one that estimates none leaves them to the guidances.
    """
    if settings.orientations == 1:
        return _walked(problem, settings, generators, callback, initial)
    mean, kernels, evaluations = torch.zeros(()), [], 0  # a running mean: large pictures fit but a few times
    for way in range(settings.orientations):

        def on_step(record: StepRecord, way: int = way) -> None:
            x0, theta = upright(record.x0, way), None if record.theta is None else upright(record.theta, way)
            index = way * settings.steps + record.index
            if callback:
                callback(replace(record, index=index, steps=settings.steps_in_all, x0=x0, theta=theta))

        told = None if initial is None else shown(initial, way)
        one = _walked(problem.shown(way), settings, generators, on_step, told)
        mean = mean.to(one.x0) + upright(one.x0, way) / settings.orientations
        kernels += [] if one.theta is None else [upright(one.theta, way)]
        evaluations += one.evaluations
    return Sample(mean, torch.stack(kernels).mean(0) if kernels else None, evaluations)


def _walked(
    problem: Problem,
    settings: SamplerSettings,
    generators: Sequence[torch.Generator],
    callback: Callable[[StepRecord], None] | None,
    initial: Tensor | None,
) -> Sample:
    """The same of a problem as it is, in one orientation."""
    prior, condition = problem.prior, problem.condition
    schedule = prior.spec.schedule

    def draw(like: Tensor) -> Tensor:
        if not settings.temperature:
            return torch.zeros_like(like)
        drawn = torch.stack([torch.randn(like.shape[1:], generator=g, dtype=torch.float32) for g in generators])
        return drawn.to(like).mul_(settings.temperature)

    times = settings.times(prior.spec)
    x, theta, record, memory = draw(condition), initial, None, dict[str, Tensor]()
    asked_before = problem.evaluations
    for guide in problem.guidance:
        theta = guide.begin(problem, theta)
    if (settings.start or prior.spec.start) == "measurement":
        x = schedule.add_noise(condition, x, torch.full((len(x),), times[0]))
    for index, (t, t_next) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        eta = settings.eta if settings.renewal is None else schedule.eta_of(settings.renewal, t, t_next)
        fresh = draw(condition) if t_next >= 0 and eta > 0 else x.new_zeros(()).expand_as(x)
        x, record = step(
            problem,
            x,
            t,
            t_next,
            fresh,
            eta=eta,
            theta=theta,
            feedback=settings.feedback,
            earlier=record if settings.solver == "dpm_2m" else None,
            index=index,
            steps=len(times),
            draw=draw,
            memory=memory,
        )
        theta = record.theta
        if callback:
            callback(record)
    evaluations = len(times) * (1 + sum(guide.evaluations_each for guide in problem.guidance))
    evaluations += problem.evaluations - asked_before
    return Sample(problem.crop(prior.to_unit(x)), theta, evaluations)
