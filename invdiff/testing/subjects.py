"""What components are tried on: pictures, a plain operator, a prior in closed form, and a watched loop."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..blur import blur, blur_adjoint
from ..degradation import Degradation, DegradationSettings, KernelSpace
from ..errors import ImageError
from ..guidance import Guidance, Problem, Step
from ..prior import Output, PriorNet, PriorSettings, PriorSpec
from ..sampler import SamplerSettings, StepRecord, sample
from ..schedule import NoiseSchedule
from ..settings import Settings
from .checks import fail

LARGEST_SIDE = 1024


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(batch: int, size: tuple[int, int], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Soft colours with some grain, ``(batch, 3, *size)`` in [0, 1]."""
    g = generator(seed)
    rows, cols = (torch.linspace(0, 1, n, dtype=torch.float64) for n in size)
    phase = 2 * math.pi * torch.rand(batch, 3, 1, 1, generator=g, dtype=torch.float64)
    pitch = 1 + 2 * torch.rand(2, batch, 3, 1, 1, generator=g, dtype=torch.float64)
    waves = (2 * math.pi * (pitch[0] * rows[:, None] + pitch[1] * cols) + phase).sin()
    grain = torch.rand(batch, 3, *size, generator=g, dtype=torch.float64) - 0.5
    return (0.5 + 0.3 * waves + 0.3 * grain).to(dtype)


def smallest(operator: Degradation, least: int = 8) -> tuple[int, int]:
    """The least clean size that gives a measurement of ``least`` pixels or more a side; the sides differ."""
    scale = operator.scale
    for n in range(1, LARGEST_SIDE // scale):
        try:
            h, w = operator.output_shape((n * scale, n * scale))
        except ImageError:
            continue
        if min(h, w) >= least:
            return n * scale, (n + 3) * scale
    fail(f"output_shape to take some square of up to {LARGEST_SIDE} pixels", "none that it takes")


def sizes(operator: Degradation) -> list[tuple[int, int]]:
    """Clean sizes, odd and even multiples of the operator's scale, wide and tall."""
    height, width = smallest(operator)
    scale = operator.scale
    return [(height, width), (width + 2 * scale, height + scale), (height + scale, height + scale)]


class ToyBlur(Degradation[DegradationSettings]):
    """A 5x5 blur at scale 1, its kernels random and lopsided."""

    def __init__(self, settings: DegradationSettings | None = None) -> None:
        super().__init__(settings)
        self.parameters = KernelSpace(5)

    def output_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < 3:
            raise ImageError(f"{size[1]}x{size[0]} pixels are too small for a kernel of 5x5")
        return size

    def sample_parameters(self, batch: int, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(batch, 5, 5, generator=generator) ** 3
        return drawn / drawn.sum((1, 2), keepdim=True)

    def apply(self, x: Tensor, theta: Tensor) -> Tensor:
        return blur(x, theta)

    def adjoint(self, y: Tensor, theta: Tensor) -> Tensor:
        return blur_adjoint(y, theta)

    def lift(self, y: Tensor) -> Tensor:
        return y


class ToyPrior(PriorNet):
    """The exact denoiser of images that scatter around the lifted measurement, white and Gaussian.

    Its parameters are those drawn for the operator with seed 0, moved a little by the noisy image, so
    that gradients have somewhere to go, and by a pixel of the measurement, so that images differ. One
    weight, which nothing may train.
    """

    def __init__(self, operator: Degradation, value_range: tuple[float, float] = (-1.0, 1.0)) -> None:
        super().__init__()
        self.settings = PriorSettings()
        self.spec = PriorSpec(
            NoiseSchedule.linear(),
            value_range=value_range,
            prediction="x0",
            multiple=4,
            parameter_shape=tuple(operator.parameters.shape),
            scale=operator.scale,
        )
        self.space = operator.parameters
        self.spread = nn.Parameter(torch.tensor(0.1 * (value_range[1] - value_range[0])), requires_grad=False)
        self.register_buffer("centre", operator.sample_parameters(1, generator()))

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Output:
        sigma = self.spec.schedule.noise_to_signal(t, x_t)
        trust = self.spread**2 / (self.spread**2 + sigma**2)
        x0 = condition + trust * (x_t / self.spec.schedule.abar(t, x_t).sqrt() - condition)
        moved = 1 + 0.05 * x_t.mean((1, 2, 3)).tanh() + 0.1 * condition[..., 0, 0].mean(1).tanh()
        centre = self.get_buffer("centre").to(x_t)
        theta = self.space.project(centre * moved.view(-1, *[1] * (centre.ndim - 1)))
        return Output(x0, theta)


class Follow(Guidance[Settings]):
    """Gradient of the squared residual through the prior: keeps every graph of the loop in use."""

    needs_gradient = True

    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        theta = step.truth if step.theta is None else step.theta
        assert theta is not None
        residual = step.y - step.degradation.apply(step.x0, theta)
        return x_next - 0.1 * torch.autograd.grad(residual.square().sum(), step.x_t, retain_graph=True)[0]


def loop_holds_no_more(operator: Degradation, prior: PriorNet, guidance: list[Guidance], steps: int = 50) -> None:
    """Fail if graphs hold on to more tensors at the end of the loop than ten steps before.

    Many steps are at little noise: some guidances wait for it, and hold more once they act.
    """
    size = smallest(operator)
    y = operator.corrupt(operator.apply(picture(1, size, torch.float32), _drawn(operator)), generator(2))
    held: weakref.WeakSet[_Held] = weakref.WeakSet()
    counts: list[int] = []

    def pack(tensor: Tensor) -> _Held:
        item = _Held(tensor)
        held.add(item)
        return item

    def after(record: StepRecord) -> None:
        counts.append(len(held))

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda item: item.tensor):
        sample(
            Problem(y, operator, prior, guidance, _drawn(operator)),
            SamplerSettings(steps=min(steps, len(prior.spec.schedule)), spacing="quadratic", tile=None),
            [generator(3)],
            after,
        )
    before, last = counts[-min(11, len(counts))], counts[-1]
    if last > before:
        fail("as many tensors held after 50 steps as after 40", f"{last} and {before}")


class _Held:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()


def _drawn(operator: Degradation) -> Tensor:
    return operator.sample_parameters(1, generator(1)).float()


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """The process' own random numbers begin at ``seed``; nobody may draw any."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        yield
        if not torch.equal(before, torch.random.get_rng_state()):
            fail("random numbers from the generator that was handed over", "draws from the global one")


def state(component: Any) -> dict[str, Any]:
    """A deep copy of what a component remembers, to see whether using it changes it."""
    return {name: copy.deepcopy(value) for name, value in vars(component).items()}


def same_state(before: dict[str, Any], component: Any) -> None:
    """Fail if a component's attributes are not what they were."""
    after = vars(component)
    for name in before.keys() | after.keys():
        if name not in before or name not in after or not _equal(before[name], after[name]):
            fail("a component that using it does not change", f"a change of its attribute '{name}'")


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and np.array_equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    try:
        return bool(a == b) or (type(a) is type(b) and _equal(vars(a), vars(b)))
    except Exception:  # what cannot be compared is not held against anyone
        return True
