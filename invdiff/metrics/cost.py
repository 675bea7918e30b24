"""What a recipe costs: parameters, multiply-adds, memory. Nothing is computed: shapes alone go through the network."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from ..guidance import Guidance
from ..prior import PriorNet
from ..tiling import TiledPrior, Window


@dataclass(frozen=True)
class Cost:
    """Of one image ``(size, size)``. Multiply-adds are those of convolutions and matrix products.

    ``peak_bytes`` are weights and activations in float32 at their highest, gradients to the image
    included where a guidance takes them; what libraries allocate for themselves comes on top.
    """

    size: int
    parameters: int
    forward: int
    step: int
    steps: int
    peak_bytes: int
    beside: int = 0

    @property
    def image(self) -> int:
        """Multiply-adds of the whole loop, and of what guidances compute beside it with networks of their own."""
        return self.steps * self.step + self.beside


class _Memory(TorchDispatchMode):
    """Counts the bytes of all live storages that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known:
            return
        size = storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


class _TwoTiles(TiledPrior):
    """Asks for two tiles and counts them all: tiles of one picture are of one size, and cost the same.

    Two and not one, so that what they add to one another is in the memory.
    """

    def __init__(self, prior: TiledPrior) -> None:
        super().__init__(prior.inner, prior.tile, prior.overlap)
        self.all = 0

    def _windows(self, sides: Sequence[int]) -> list[Window]:
        windows = super()._windows(sides)
        self.all = len(windows)
        return windows[:2]


def cost(prior: PriorNet, guidance: Sequence[Guidance], steps: int, size: int, orientations: int = 1) -> Cost:
    """The cost of ``steps`` evaluations of a prior at ``(size, size)``, a multiple of what it needs, in all of as many
    ``orientations``.

    Where a guidance needs gradients, each step has one more pass, back to the noisy image. What the
    guidances compute with the operator itself is little beside that, and is not counted; nor is what comes before the
    first step.
    """
    gradient = any(g.needs_gradient for g in guidance)
    size += -size % prior.spec.multiple
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        shapes: dict[str, Tensor] = {
            f"prior.{name}": fake.from_tensor(value.detach()) for name, value in prior.state_dict().items()
        }
        forward = _multiply_adds(prior, shapes, size, False)
        whole = _multiply_adds(prior, shapes, size, True) if gradient else forward
        whole += forward * sum(g.evaluations_each for g in guidance)
        with _Memory() as memory:  # apart from the counter, which holds on to what modules have seen
            _evaluate(prior, shapes, size, gradient)
    weights = sum(p.numel() * p.element_size() for p in prior.parameters())
    parameters = sum(p.numel() for p in prior.parameters())
    beside = orientations * sum(g.multiply_adds(size, size) for g in guidance)
    return Cost(size, parameters, forward, whole, steps, weights + memory.peak, beside)


def _multiply_adds(prior: PriorNet, shapes: dict[str, Tensor], size: int, gradient: bool) -> int:
    """Of one evaluation, and of its gradient if asked for."""
    with FlopCounterMode(display=False) as counter:
        share = _evaluate(prior, shapes, size, gradient)
    return round(counter.get_total_flops() * share / 2)


def _evaluate(prior: PriorNet, shapes: dict[str, Tensor], size: int, gradient: bool) -> Fraction:
    """Do it once; how many times as much the whole would be, where not all tiles are asked for."""
    shown = _TwoTiles(prior) if isinstance(prior, TiledPrior) else prior
    with torch.set_grad_enabled(gradient):
        x = torch.zeros(1, 3, size, size, requires_grad=gradient)
        t, condition = torch.zeros(1, dtype=torch.long), torch.zeros(1, 3, size, size)
        found = torch.func.functional_call(_Predict(shown), shapes, (x, t, condition))
        if gradient:
            sum((value.sum() for value in found), torch.zeros(())).backward()
    return Fraction(max(shown.all, 2), 2) if isinstance(shown, _TwoTiles) else Fraction(1)


class _Predict(torch.nn.Module):
    def __init__(self, prior: PriorNet) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> list[Tensor]:
        found = self.prior.predict(x, t, condition)
        return [found.x0] if found.parameters is None else [found.x0, found.parameters]
