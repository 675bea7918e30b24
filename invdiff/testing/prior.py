"""What every prior must be, trained or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..degradation import BoxSpace, Degradation, KernelSpace, ParameterSpace
from ..prior import PriorNet
from ..schedule import NoiseSchedule
from .checks import Suite, fail, same, skip, survives_json, unchanged
from .subjects import Follow, generator, global_seed, loop_holds_no_more, picture

prior_checks = check = Suite()

FLOAT = torch.float32


def inputs(
    prior: PriorNet, batch: int = 3, seed: int = 0, blocks: tuple[int, int] = (3, 2)
) -> tuple[Tensor, Tensor, Tensor]:
    """``x_t``, ``t``, one noise level an image, and condition, of odd and even multiples of ``multiple``."""
    size = (blocks[0] * _block(prior), blocks[1] * _block(prior))
    condition = prior.from_unit(picture(batch, size, FLOAT, seed))
    t = torch.linspace(0.1, 0.9, batch).mul(len(prior.spec.schedule) - 1).round().long()
    eps = torch.randn(condition.shape, generator=generator(seed + 1))
    return prior.spec.schedule.add_noise(condition, eps, t), t, condition


def _block(prior: PriorNet) -> int:
    count = math.ceil(8 / prior.spec.multiple)
    return prior.spec.multiple * (count + 1 - count % 2)  # an odd multiple, which no larger number of pixels divides


@check("an attribute that the class leaves at its default although the network means something else")
def attributes(prior: PriorNet) -> None:
    """Schedule, range, kind of prediction and multiple are declared and make sense."""
    if not isinstance(prior.spec.schedule, NoiseSchedule):
        fail("schedule to be a NoiseSchedule", type(prior.spec.schedule).__name__)
    low, high = prior.spec.value_range
    if not low < high:
        fail("value_range to be (low, high)", f"{prior.spec.value_range}")
    if prior.spec.prediction not in ("eps", "x0", "v"):
        fail("prediction to be 'eps', 'x0' or 'v'", repr(prior.spec.prediction))
    if not isinstance(prior.spec.multiple, int) or prior.spec.multiple < 1:
        fail("multiple to be a positive integer", repr(prior.spec.multiple))


@check("a multiple that is declared too small, or shapes fixed to the training crops")
def shapes(prior: PriorNet) -> None:
    """``predict`` gives images of the input's size and parameters of the declared shape, for every multiple."""
    for batch, blocks in ((1, (1, 1)), (2, (1, 3)), (3, (3, 2))):
        x_t, t, condition = inputs(prior, batch, blocks=blocks)
        with torch.no_grad():
            found = prior.predict(x_t, t, condition)
        for name in ("x0", "eps"):
            value = getattr(found, name)
            if value.shape != x_t.shape or value.dtype != FLOAT:
                fail(f"{name} {tuple(x_t.shape)} in float32", f"{tuple(value.shape)} in {value.dtype}")
            if not bool(value.isfinite().all()):
                fail(f"a finite {name}", "NaN or infinity")
        shape = None if found.parameters is None else tuple(found.parameters.shape)
        want = None if prior.spec.parameter_shape is None else (batch, *prior.spec.parameter_shape)
        if shape != want:
            fail(f"parameters of shape {want}, as parameter_shape declares", f"{shape}")
        if found.parameters is not None and not bool(found.parameters.isfinite().all()):
            fail("finite parameters", "NaN or infinity")


@check("a prediction kind that is not what the network was trained on, or an eps computed with another schedule")
def x0_and_eps_agree(prior: PriorNet) -> None:
    """``x_t = sqrt(abar) x0 + sqrt(1 - abar) eps`` for the predicted pair."""
    x_t, t, condition = inputs(prior)
    with torch.no_grad():
        found = prior.predict(x_t, t, condition)
    same(prior.spec.schedule.add_noise(found.x0, found.eps, t), x_t, 1e-3, "x0 and eps that make up x_t")


@check("parameters used in other units than they are estimated in, or handed back in the estimate's place")
def predicts_with_parameters_it_is_told(prior: PriorNet) -> None:
    """Told its own estimate, a prior that ``takes_parameters`` predicts the same image, and keeps its estimate."""
    if not prior.spec.takes_parameters:
        skip("it takes no parameters")
    x_t, t, condition = inputs(prior)
    with torch.no_grad():
        alone = prior.predict(x_t, t, condition)
        if alone.parameters is None:
            skip("it estimates none that it could be told")
        told = prior.predict(x_t, t, condition, alone.parameters)
        other = prior.predict(x_t, t, condition, 0.9 * alone.parameters).parameters
    same(told.x0, alone.x0, 1e-4, "the same x0 with the parameters that it estimates itself")
    if other is None:
        fail("its own estimate kept when told another", "none")
    same(other, alone.parameters, 1e-5, "its own estimate kept when told another")


@check("an estimate of one's own that is not what the loop would be told at pure noise")
def estimates_from_the_measurement(prior: PriorNet) -> None:
    """``estimate`` gives what ``predict`` does at the last time, where the noisy image says nothing; or None."""
    x_t, _, condition = inputs(prior)
    last = torch.full((len(condition),), len(prior.spec.schedule) - 1)
    with torch.no_grad():
        read = prior.estimate(condition)
        found = prior.predict(torch.randn(x_t.shape, generator=torch.Generator().manual_seed(1)), last, condition)
    if (read is None) != (prior.spec.parameter_shape is None):
        fail("an estimate of the parameters, or None where parameter_shape is None", "the other of the two")
    if read is None or found.parameters is None:
        skip("it estimates none")
    if read.shape != found.parameters.shape:
        fail(f"parameters {tuple(found.parameters.shape)}", f"{tuple(read.shape)}")
    if prior.spec.start == "noise":
        same(read, found.parameters, 0.1, "what it predicts from pure noise")


@check("batch norm, a mean over the batch, or one noise level used for all images")
def alone_as_in_a_batch(prior: PriorNet) -> None:
    """An image's prediction does not depend on its neighbours or on their noise levels."""
    x_t, t, condition = inputs(prior)
    with torch.no_grad():
        whole = prior.predict(x_t, t, condition)
        for i in range(len(t)):
            one = slice(i, i + 1)
            alone = prior.predict(x_t[one], t[one], condition[one])
            same(alone.x0, whole.x0[one], 1e-3, "x0 of an image alone as in a batch")
            if whole.parameters is not None and alone.parameters is not None:
                same(alone.parameters, whole.parameters[one], 1e-3, "parameters of an image alone as in a batch")


@check("dropout left on: call eval(); or random numbers drawn inside forward")
def deterministic(prior: PriorNet) -> None:
    """The same inputs give the same bits, whatever the process' own random numbers."""
    arguments = inputs(prior)
    found = []
    for seed in (0, 1):
        with global_seed(seed), torch.no_grad():
            found.append(prior.predict(*arguments))
    same(found[1].x0, found[0].x0, 0, "the same x0 twice")
    if found[0].parameters is not None and found[1].parameters is not None:
        same(found[1].parameters, found[0].parameters, 0, "the same parameters twice")


@check("an in-place operation on an input, or statistics updated on the way: call eval()")
def immutability(prior: PriorNet) -> None:
    """``predict`` writes to none of its arguments and to no weight or buffer."""
    x_t, t, condition = inputs(prior)
    given = {"x_t": x_t, "t": t, "the condition": condition, **prior.state_dict()}
    copies = {name: value.clone() for name, value in given.items()}
    with torch.no_grad():
        prior.predict(x_t, t, condition)
    unchanged(copies, {**given, **prior.state_dict()}, "arguments and weights")  # a buffer may have been replaced


@check("a detach or no_grad on the way from x_t: gradient guidance needs the whole derivative")
def gradient_in_the_noisy_image(prior: PriorNet) -> None:
    """Autograd's derivative of ``x0`` in ``x_t`` is that of finite differences."""
    x_t, t, condition = inputs(prior, 1)
    weight = torch.randn(x_t.shape, generator=generator(5))

    def value(x: Tensor) -> Tensor:
        return (weight * prior.predict(x, t, condition).x0).double().sum()

    leaf = x_t.clone().requires_grad_()
    total = value(leaf)
    if not total.requires_grad:
        fail("x0 to depend on x_t", "a result that is cut off from it")
    (gradient,) = torch.autograd.grad(total, leaf)
    size = float(gradient.norm())
    if not size > 0:
        fail("a derivative of x0 in x_t", f"one of size {size:g}")
    # Along the gradient nothing shows of a pixel that is cut off from it; x0 there mostly moves with x_t.
    for direction in (gradient, weight):
        along = direction / direction.norm()
        step = 1e-2 * float(x_t.norm()) / x_t.numel() ** 0.5
        slope = float((gradient * along).double().sum())
        with torch.no_grad():
            numeric = float(value(x_t + step * along) - value(x_t - step * along)) / (2 * step)
        if not abs(numeric - slope) <= 0.05 * size:
            fail(f"a slope of {numeric:.4g} in x_t, as differences show", f"{slope:.4g} from autograd")
    parameters = prior.predict(leaf, t, condition).parameters
    cut = parameters is not None and (
        not parameters.requires_grad or torch.autograd.grad(parameters.sum(), leaf, allow_unused=True)[0] is None
    )
    if parameters is not None and cut:
        with torch.no_grad():
            other = prior.predict(x_t + weight, t, condition).parameters
        assert other is not None
        same(other, parameters, 1e-6, "parameters that carry a graph, or do not depend on x_t")


@check("weights that ask for gradients while sampling, which doubles the memory of every step")
def no_gradient_on_weights(prior: PriorNet) -> None:
    """Frozen weights stay frozen: a gradient in ``x_t`` leaves none on them."""
    wanted = [p.requires_grad for p in prior.parameters()]
    try:
        prior.requires_grad_(False)
        x_t, t, condition = inputs(prior, 1)
        prior.predict(x_t.requires_grad_(), t, condition).x0.square().sum().backward()
        for name, p in prior.named_parameters():
            if p.requires_grad or p.grad is not None:
                fail("frozen weights without a gradient", f"one on {name}")
    finally:
        for p, before in zip(prior.parameters(), wanted, strict=True):
            p.requires_grad_(before)


@check("a tensor kept on the prior while gradients are tracked, which holds on to every step's graph")
def memory_does_not_grow(prior: PriorNet) -> None:
    """Fifty steps of the loop hold as many tensors for gradients as forty."""
    loop_holds_no_more(_Mean(prior), prior, [Follow()])


@check("settings that are read from elsewhere than the settings class, or of a type that JSON does not know")
def settings_survive_json(prior: PriorNet) -> None:
    """Settings written to JSON and read again are the same: weights carry them in their header."""
    survives_json(prior.settings)


@check("a table or a generator left on the CPU")
def devices_agree(prior: PriorNet) -> None:
    """A CUDA device gives what the CPU gives."""
    if not torch.cuda.is_available():
        skip("there is no CUDA device")
    arguments, home = inputs(prior), next((p.device for p in prior.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            here = prior.cpu().predict(*arguments)
            there = prior.cuda().predict(*(a.cuda() for a in arguments))
    finally:
        prior.to(home)
    same(there.x0.cpu(), here.x0, 1e-2, "x0 on CUDA as on the CPU")


class _Mean(Degradation):
    """Averages over blocks of the prior's scale; it has parameters of the right shape and ignores them."""

    def __init__(self, prior: PriorNet) -> None:
        super().__init__()
        self.scale = prior.spec.scale or 1
        shape = prior.spec.parameter_shape or (1,)
        unit = BoxSpace(("",) * shape[0], (0.0,) * shape[0], (1.0,) * shape[0])
        self.parameters: ParameterSpace = KernelSpace(shape[0]) if len(shape) == 2 else unit

    def sample_parameters(self, batch: int, generator: torch.Generator) -> Tensor:
        return self.parameters.project(torch.rand(batch, *self.parameters.shape, generator=generator))

    def apply(self, x: Tensor, theta: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, self.scale)

    def lift(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)
