"""What a recipe costs: parameters, multiply-adds, memory. Nothing is computed: shapes alone go through the network."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from ..guidance import Guidance
from ..prior import PriorNet


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

    @property
    def image(self) -> int:
        """Multiply-adds of the whole loop."""
        return self.steps * self.step


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


def cost(prior: PriorNet, guidance: Sequence[Guidance], steps: int, size: int) -> Cost:
    """The cost of ``steps`` evaluations of a prior at ``(size, size)``, a multiple of what it needs.

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
        forward = _count(prior, shapes, size, False)
        whole = _count(prior, shapes, size, gradient) if gradient else forward
    weights = sum(p.numel() * p.element_size() for p in prior.parameters())
    return Cost(size, sum(p.numel() for p in prior.parameters()), forward[0], whole[0], steps, weights + whole[1])


def _count(prior: PriorNet, shapes: dict[str, Tensor], size: int, gradient: bool) -> tuple[int, int]:
    """Multiply-adds and peak bytes of one evaluation, and of its gradient if asked for."""
    counter, memory = FlopCounterMode(display=False), _Memory()
    with memory, counter, torch.set_grad_enabled(gradient):
        x = torch.zeros(1, 3, size, size, requires_grad=gradient)
        t, condition = torch.zeros(1, dtype=torch.long), torch.zeros(1, 3, size, size)
        found = torch.func.functional_call(_Predict(prior), shapes, (x, t, condition))
        if gradient:
            sum((value.sum() for value in found), torch.zeros(())).backward()
    return counter.get_total_flops() // 2, memory.peak


class _Predict(torch.nn.Module):
    def __init__(self, prior: PriorNet) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> list[Tensor]:
        found = self.prior.predict(x, t, condition)
        return [found.x0] if found.parameters is None else [found.x0, found.parameters]
