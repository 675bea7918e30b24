"""Sets of test kernels, under which an evaluation puts every picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .degradation import Degradation
from .settings import Configured, S


@dataclass(frozen=True)
class NamedKernel:
    """True parameters ``(*shape)`` of one measurement, and what tables call them."""

    name: str
    parameters: Tensor


class KernelSet(Configured[S], ABC):
    """A list of ``count`` kernels, or, where that is None, a family to draw any number from.

    Asked only for operators whose parameters are a kernel, ``parameters.shape`` its two sides.
    """

    count: int | None = None

    def identity(self) -> dict[str, Any]:
        """What its kernels follow from, besides seeds."""
        return {"set": type(self).__name__, **self.settings.model_dump(mode="json")}

    @abstractmethod
    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> NamedKernel:
        """The ``index``-th kernel, of the operator's size; a family draws from ``generator`` and needs no index."""
