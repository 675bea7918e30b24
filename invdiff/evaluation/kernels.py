"""The kernels of an evaluation: the operator's own, or measured ones from files, and which a picture gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..blur.kernel_files import read_kernels
from ..degradation import Degradation
from ..errors import PluginError
from ..kernel_set import KernelSet, NamedKernel
from ..seeds import Stream, content_of, stream
from ..settings import Settings


class OwnKernels(KernelSet[Settings]):
    """What the operator itself draws from: for operators of any parameters."""

    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> NamedKernel:
        return NamedKernel(f"drawn {index + 1}", degradation.sample_parameters(1, generator)[0])


class FileKernels(KernelSet[Settings]):
    """The measured kernels of a file or folder, centred and framed as :func:`read_kernels` does."""

    def __init__(self, path: Path, degradation: Degradation) -> None:
        super().__init__()
        self.kernels = [m.kernel.float() for m in read_kernels(path, degradation.parameters.shape[0])]
        self.count = len(self.kernels)

    def identity(self) -> dict[str, Any]:
        return {"content": content_of(*self.kernels)}

    def kernel(self, index: int, degradation: Degradation, generator: torch.Generator) -> NamedKernel:
        return NamedKernel(f"measured {index + 1}", self.kernels[index])


def draw(kernels: KernelSet, repeat: int, degradation: Degradation, seed: int, digest: list[int]) -> list[NamedKernel]:
    """The first ``repeat`` kernels of one picture. They follow from the seed and the picture's content alone.

    Of a list, each picture goes through a shuffled copy of its own, so that few repeats use all of it.
    """
    order = list(range(repeat))
    if kernels.count is not None:
        order = torch.randperm(kernels.count, generator=stream(seed, Stream.KERNEL_ORDER, *digest))[:repeat].tolist()
    found = [kernels.kernel(index, degradation, stream(seed, Stream.KERNEL, index, *digest)) for index in sorted(order)]
    names = [kernel.name for kernel in found]
    if len(set(names)) < len(names):
        raise PluginError(f"a set of kernels gives two of them one name: {', '.join(names)}")
    return found
