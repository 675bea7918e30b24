"""Sets of test kernels, under which an evaluation puts every picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from .degradation import Degradation
from .errors import PluginError
from .files import content_of, stream
from .kernel_files import read_kernels
from .settings import Settings

_ORDER, _KERNEL = 30, 31  # random streams


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


class OwnKernels(KernelSet):
    """What the operator itself draws from: for operators of any parameters."""

    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> TestKernel:
        return TestKernel(f"drawn {index + 1}", degradation.sample_parameters(1, generator)[0])


class FileKernels(KernelSet):
    """The measured kernels of a file or folder, centred and framed as :func:`read_kernels` does."""

    def __init__(self, path: Path, degradation: Degradation) -> None:
        super().__init__()
        self.kernels = [m.kernel.float() for m in read_kernels(path, degradation.parameters.shape[0])]
        self.count = len(self.kernels)

    def identity(self) -> dict[str, Any]:
        return {"content": content_of(*self.kernels)}

    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> TestKernel:
        return TestKernel(f"measured {index + 1}", self.kernels[index])


def draw(kernels: KernelSet, repeat: int, degradation: Degradation, seed: int, digest: list[int]) -> list[TestKernel]:
    """The first ``repeat`` kernels of one picture. They follow from the seed and the picture's content alone.

    Of a list, each picture goes through a shuffled copy of its own, so that few repeats use all of it.
    """
    order = list(range(repeat))
    if kernels.count is not None:
        order = torch.randperm(kernels.count, generator=stream(seed, _ORDER, *digest))[:repeat].tolist()
    found = [kernels.kernel(index, degradation, stream(seed, _KERNEL, index, *digest)) for index in sorted(order)]
    names = [kernel.name for kernel in found]
    if len(set(names)) < len(names):
        raise PluginError(f"a set of kernels gives two of them one name: {', '.join(names)}")
    return found
