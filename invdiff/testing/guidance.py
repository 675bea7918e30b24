"""What every guidance must be, whichever way it steers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..degradation import Degradation
from ..guidance import Guidance, Step
from ..prior import PriorNet
from .checks import Suite, fail, same, skip, survives_json, unchanged
from .subjects import Follow, ToyPrior, generator, global_seed, loop_holds_no_more, picture, same_state, smallest, state

guidance_checks = check = Suite()

T, T_NEXT = 60, 40
"""Times of the step that guidances are tried on: noise of 0.1 on [0, 1], where all of them act."""


@dataclass(frozen=True)
class GuidanceCase:
    """A guidance and the operator it is tried on; the prior is the toy one for that operator."""

    guidance: Guidance
    operator: Degradation


@dataclass
class Acted:
    """What one step of a guidance made of its estimates."""

    step: Step
    x0: Tensor
    theta: Tensor | None
    x_next: Tensor
    """Before ``correct``."""
    corrected: Tensor


def act(
    case: GuidanceCase, which: slice = slice(0, 3), prior: PriorNet | None = None, track: bool | None = None
) -> Acted:
    """One step of the loop, as ``sampler.py`` makes it, for some images of a fixed batch of three."""
    guidance, operator = case.guidance, case.operator
    prior = prior or ToyPrior(operator)
    step, x_next = prepared(operator, prior, which, guidance.needs_gradient if track is None else track)
    with torch.set_grad_enabled(step.x_t.requires_grad):
        x0, theta = step.x0, step.theta
        estimate = guidance.refine(step)
        refined = (estimate.x0, estimate.theta)
        step.x0, step.theta = refined
        corrected = guidance.correct(step, x_next)
    step.x0, step.theta = x0, theta
    return Acted(step, *refined, x_next, corrected)


def prepared(operator: Degradation, prior: PriorNet, which: slice, track: bool) -> tuple[Step, Tensor]:
    """A step before any guidance, and the image after its transition. Images differ in how wrong they are."""
    # A side that the prior's multiple does not divide, so that x_t is padded and x0 is not. And some pixels: a step of
    # fixed length, down the gradient of a norm, goes too far on a picture of few.
    size = smallest(operator, 26)
    clean = picture(3, size, torch.float32)
    y = operator.apply(clean, operator.sample_parameters(3, generator(1)))
    lifted = operator.lift(y)
    bottom, right = -size[0] % prior.multiple, -size[1] % prior.multiple
    condition = prior.from_unit(torch.nn.functional.pad(lifted, (0, right, 0, bottom), mode="replicate"))
    eps = torch.randn(condition.shape, generator=generator(2)) * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1)
    t = torch.full((3,), T)
    x_t = prior.schedule.add_noise(condition, eps, t)[which].requires_grad_(track)
    y, condition = y[which], condition[which]
    with torch.set_grad_enabled(track):
        found = prior.predict(x_t, t[which], condition)
        x0 = prior.to_unit(found.x0)[..., : size[0], : size[1]]
    given = operator.sample_parameters(3, generator(1))[which]
    step = Step(3, 10, T, T_NEXT, x_t, x0, found.parameters, y, prior, operator, given)
    with torch.no_grad():
        x_next = prior.schedule.transition(x_t, found.x0, T, T_NEXT, 0.0, torch.zeros_like(x_t))
    return step, x_next


@check("the crop or the padding of x0 and x_next mixed up: x_next is padded, x0 is not")
def shapes(case: GuidanceCase) -> None:
    """``refine`` and ``correct`` return what they were given, in shape and dtype, and finite."""
    for which in (slice(0, 1), slice(0, 3)):
        acted = act(case, which)
        pairs = [("x0", acted.x0, acted.step.x0), ("x_next", acted.corrected, acted.x_next)]
        if (acted.theta is None) != (acted.step.theta is None):
            fail("theta to be kept", "none" if acted.theta is None else "one where there was none")
        if acted.theta is not None and acted.step.theta is not None:
            pairs.append(("theta", acted.theta, acted.step.theta))
        for name, got, was in pairs:
            if got.shape != was.shape or got.dtype != was.dtype:
                fail(f"{name} {tuple(was.shape)} in {was.dtype}", f"{tuple(got.shape)} in {got.dtype}")
            if not bool(got.isfinite().all()):
                fail(f"a finite {name}", "NaN or infinity")


@check("parameters updated without a projection back to their space")
def parameters_stay_in_their_space(case: GuidanceCase) -> None:
    """Refined parameters lie in the operator's space."""
    theta = act(case).theta
    if theta is None:
        skip("it was given no parameters")
    if not case.operator.parameters.contains(theta.detach(), 1e-4):
        fail("refined parameters inside the operator's space", "some outside")


@check("a step in the wrong direction, or an image taken to be in the prior's range: x0 and y are in [0, 1]")
def agreement_with_the_measurement(case: GuidanceCase) -> None:
    """The clean image and parameters after the guidance explain the measurement no worse than before."""
    acted = act(case)
    prior, step, operator = acted.step.prior, acted.step, case.operator
    assert step.theta is not None

    def distance(x0: Tensor, theta: Tensor) -> Tensor:
        return (step.y - operator.apply(x0, theta)).flatten(1).norm(dim=1)

    with torch.no_grad():
        theta = step.theta if acted.theta is None else acted.theta
        moved = []
        if theta is not step.given:  # the truth explains a wrong image no better
            moved.append((distance(step.x0, step.theta), distance(acted.x0, theta), "refine"))
        t = torch.full((len(step.y),), T_NEXT)
        condition = prior.from_unit(operator.lift(step.y))
        height, width = step.x0.shape[-2:]
        bottom, right = (n - m for n, m in zip(step.x_t.shape[-2:], (height, width), strict=True))
        padded = torch.nn.functional.pad(condition, (0, right, 0, bottom), mode="replicate")
        both = []
        for x_next in (acted.x_next, acted.corrected):
            found = prior.predict(x_next, t, padded)
            both.append(distance(prior.to_unit(found.x0)[..., :height, :width], theta))
        moved.append((both[0], both[1], "correct"))
    for before, after, where in moved:
        worst = float((after / before.clamp_min(1e-6)).max())
        if not worst <= 1.01:
            fail(f"a residual to the measurement that {where} does not increase", f"one {worst:.3g} times as large")


@check("a norm, a mean or a step length over the whole batch: compute it for each sample")
def alone_as_in_a_batch(case: GuidanceCase) -> None:
    """An image is steered the same way whatever its neighbours are."""
    whole = act(case)
    for i in range(3):
        alone, one = act(case, slice(i, i + 1)), slice(i, i + 1)
        same(alone.x0, whole.x0[one], 1e-4, "x0 of an image alone as in a batch")
        same(alone.corrected, whole.corrected[one], 1e-4, "x_next of an image alone as in a batch")
        if alone.theta is not None and whole.theta is not None:
            same(alone.theta, whole.theta[one], 1e-4, "theta of an image alone as in a batch")


@check("random numbers of its own: what is drawn comes from the loop, one generator an image")
def deterministic(case: GuidanceCase) -> None:
    """The same step twice gives the same bits, whatever the process' own random numbers."""
    found = []
    for seed in (0, 1):
        with global_seed(seed):
            found.append(act(case))
    same(found[1].x0, found[0].x0, 0, "the same x0 twice")
    same(found[1].corrected, found[0].corrected, 0, "the same x_next twice")
    if found[0].theta is not None and found[1].theta is not None:
        same(found[1].theta, found[0].theta, 0, "the same theta twice")


def same_fields(before: dict[str, Any], step: Step) -> None:
    """Fail if a field of the step is another object than it was."""
    for name, value in vars(step).items():
        if value is not before[name]:
            fail("a step that is left as it was: refine returns an Estimate", f"another {name} put into it")


@check("an in-place operation (+=, clamp_) on a tensor of the step, or a state kept from one image to the next")
def immutability(case: GuidanceCase) -> None:
    """Neither the step's tensors nor the guidance are written to."""
    prior = ToyPrior(case.operator)
    act(case, slice(0, 1))  # leaves another trace, if any
    step, x_next = prepared(case.operator, prior, slice(0, 3), case.guidance.needs_gradient)
    given = {name: value for name, value in vars(step).items() if isinstance(value, Tensor)} | {"x_next": x_next}
    fields = dict(vars(step))
    copies = {name: value.detach().clone() for name, value in given.items()}
    before = state(case.guidance)
    with torch.set_grad_enabled(step.x_t.requires_grad):
        estimate = case.guidance.refine(step)
        unchanged(copies, given, "refine's arguments")
        same_fields(fields, step)
        step.x0, step.theta = fields["x0"], fields["theta"] = estimate.x0, estimate.theta
        case.guidance.correct(step, x_next)
    unchanged(copies, given, "correct's arguments")
    same_fields(fields, step)
    same_state(before, case.guidance)


@check("autograd used although needs_gradient is False: the loop then tracks nothing through the prior")
def needs_gradient_is_honest(case: GuidanceCase) -> None:
    """Without ``needs_gradient`` it works on tensors that carry no graph, and the same where others make one."""
    if case.guidance.needs_gradient:
        skip("it asks for gradients")
    bare, tracked = act(case, track=False), act(case, track=True)
    same(tracked.x0, bare.x0, 1e-5, "the same x0 whether or not another guidance has gradients tracked")
    same(tracked.corrected, bare.corrected, 1e-5, "the same x_next whether or not gradients are tracked")
    if tracked.theta is not None and bare.theta is not None:
        same(tracked.theta, bare.theta, 1e-5, "the same theta whether or not gradients are tracked")


@check("backward() instead of autograd.grad with respect to x_t, or weights made to require gradients")
def no_gradient_on_weights(case: GuidanceCase) -> None:
    """The prior's weights neither ask for a gradient nor have one afterwards."""
    prior = ToyPrior(case.operator)
    acted = act(case, prior=prior)
    if acted.step.x_t.grad is not None:
        fail("nothing accumulated in x_t.grad", "a gradient there")
    for name, p in prior.named_parameters():
        if p.requires_grad or p.grad is not None:
            fail("frozen weights without a gradient", f"one on {name}")


@check("a tensor with a graph kept on the guidance: keep detached copies, or nothing")
def memory_does_not_grow(case: GuidanceCase) -> None:
    """Fifty steps of the loop hold as many tensors for gradients as forty."""
    alone = case.guidance.needs_gradient  # else another one has gradients tracked
    guidances = [case.guidance] if alone else [case.guidance, Follow()]
    loop_holds_no_more(case.operator, ToyPrior(case.operator), guidances)


@check("lengths in the prior's range where the step speaks of [0, 1]: go through prior.from_unit and to_unit")
def any_prior_range(case: GuidanceCase) -> None:
    """With a prior on [0, 1] as with one on [-1, 1], neither image is moved by more than half of [0, 1]."""
    for value_range in ((0.0, 1.0), (-1.0, 1.0)):
        acted = act(case, prior=ToyPrior(case.operator, value_range))
        moved = (acted.x0.detach() - acted.step.x0.detach()).square().mean().sqrt()
        shift = (acted.corrected.detach() - acted.x_next).square().mean().sqrt() / (value_range[1] - value_range[0])
        for name, length in (("x0", float(moved)), ("x_next", float(shift))):
            if not length <= 0.5:
                fail(f"{name} moved by at most half of [0, 1] at a prior range of {value_range}", f"{length:.3g}")


@check("settings that are read from elsewhere than the settings class, or of a type that JSON does not know")
def settings_survive_json(case: GuidanceCase) -> None:
    """Settings written to JSON and read again are the same: recipes and reports rest on it."""
    survives_json(case.guidance.settings)
