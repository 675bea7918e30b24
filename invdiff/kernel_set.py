"""Sets of test kernels, under which an evaluation puts every picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .degradation import Degradation
from .settings import Settings


@dataclass(frozen=True)
class TestKernel:
    """True parameters ``(*shape)`` of one measurement, and what tables call them."""

    name: str
    parameters: Tensor

    __test__ = False  # no test, for all its name


class KernelSet(ABC):
    """A list of ``count`` kernels, or, where that is None, a family to draw any number from.

    Asked only for operators whose parameters are a kernel, ``parameters.shape`` its two sides.
    """

    Settings: ClassVar[type[Settings]] = Settings
    count: int | None = None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings if settings is not None else self.Settings()

    def identity(self) -> dict[str, Any]:
        """What its kernels follow from, besides seeds."""
        return {"set": type(self).__name__, **self.settings.model_dump(mode="json")}

    @abstractmethod
    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> TestKernel:
        """The ``index``-th kernel, of the operator's size; a family draws from ``generator`` and needs no index."""
