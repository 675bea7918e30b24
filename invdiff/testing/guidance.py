"""What every guidance must be, whichever way it steers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..degradation import Degradation
from ..guidance import Estimate, Guidance, Problem, Step
from ..prior import PriorNet
from ..sampler import step
from ..settings import Settings
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
    """What one step of a guidance made of its estimates; ``step`` is as the guidance found it."""

    step: Step
    x0: Tensor
    theta: Tensor | None
    x_next: Tensor
    """Before ``correct``."""
    corrected: Tensor


class Witness(Guidance[Settings]):
    """Stands before or after a guidance and keeps what it sees: the loop's own step is what is looked at."""

    def __init__(self, *, track: bool = False) -> None:
        super().__init__()
        self.needs_gradient = track

    def refine(self, step: Step) -> Estimate:
        self.step = replace(step)
        return Estimate(step.x0, step.theta)

    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        self.x_next = x_next
        return x_next


class Guarded(Guidance[Settings]):
    """A guidance that is watched: its arguments must be after each call what they were before."""

    def __init__(self, guidance: Guidance) -> None:
        super().__init__()
        self.guidance, self.needs_gradient = guidance, guidance.needs_gradient

    def begin(self, problem: Problem, theta: Tensor | None) -> Tensor | None:
        with _left_alone(problem, {} if theta is None else {"theta": theta}, "begin's arguments"):
            return self.guidance.begin(problem, theta)

    def refine(self, step: Step) -> Estimate:
        with _left_alone(step, {}, "refine's arguments"):
            return self.guidance.refine(step)

    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        with _left_alone(step, {"x_next": x_next}, "correct's arguments"):
            return self.guidance.correct(step, x_next)


@contextmanager
def _left_alone(step: Step | Problem, others: dict[str, Tensor], what: str) -> Iterator[None]:
    """Fail if a tensor is written to, or a field of the step or problem becomes another object: but what it is asked to
    note there, ``remarks`` and ``evaluations``."""
    fields = dict(vars(step))
    given = {name: value for name, value in fields.items() if isinstance(value, Tensor)} | others
    copies = {name: value.detach().clone() for name, value in given.items()}
    yield
    unchanged(copies, given, what)
    for name, value in vars(step).items():
        if value is not fields[name] and name != "evaluations":
            left = "a step or a problem that is left as it was: what is found is returned"
            fail(left, f"another {name} put into it")


def start(operator: Degradation, prior: PriorNet, guidance: list[Guidance], which: slice) -> tuple[Problem, Tensor]:
    """Some images of a fixed batch of three, and where they stand at ``T``. They differ in how wrong they are."""
    # A side that the prior's multiple does not divide, so that x_t is padded and x0 is not. And some pixels: a step of
    # fixed length, down the gradient of a norm, goes too far on a picture of few.
    size = smallest(operator, 26)
    clean = picture(3, size, torch.float32)
    truth = operator.sample_parameters(3, generator(1))
    y = operator.apply(clean, truth)
    whole = Problem(y, operator, prior)
    eps = torch.randn(whole.condition.shape, generator=generator(2)) * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1)
    x_t = prior.spec.schedule.add_noise(whole.condition, eps, torch.full((3,), T))
    return Problem(y[which], operator, prior, guidance, truth[which]), x_t[which]


def act(
    case: GuidanceCase, which: slice = slice(0, 3), prior: PriorNet | None = None, track: bool | None = None
) -> Acted:
    """One step of the loop for some images of the batch; ``track`` has gradients tracked that nobody asked for."""
    before, after = Witness(track=bool(track)), Witness()
    guides: list[Guidance] = [before, case.guidance, after]
    problem, x_t = start(case.operator, prior or ToyPrior(case.operator), guides, which)
    theta = case.guidance.begin(problem, None)
    step(problem, x_t, T, T_NEXT, torch.zeros_like(x_t), eta=0.0, theta=theta, feedback=False, index=3, steps=10)
    return Acted(before.step, after.step.x0, after.step.theta, before.x_next, after.x_next)


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
        if theta is not step.truth:  # the truth explains a wrong image no better
            moved.append((distance(step.x0, step.theta), distance(acted.x0, theta), "refine"))
        t, problem = torch.full((len(step.y),), T_NEXT), Problem(step.y, operator, prior)
        both = []
        for x_next in (acted.x_next, acted.corrected):
            found = prior.predict(x_next, t, problem.condition)
            both.append(distance(problem.crop(prior.to_unit(found.x0)), theta))
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


@check("an in-place operation (+=, clamp_) on a tensor of the step, or a state kept from one image to the next")
def immutability(case: GuidanceCase) -> None:
    """Neither the step's tensors nor the guidance are written to."""
    act(case, slice(0, 1))  # leaves another trace, if any
    before = state(case.guidance)
    act(GuidanceCase(Guarded(case.guidance), case.operator))
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
