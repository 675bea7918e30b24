"""A small network that has seen how estimates of kernels go wrong, and puts them right from step to step."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError, field_validator
from safetensors.torch import save as encode
from torch import Tensor, nn

from invdiff.components.weights import find_among, refuse_non_finite
from invdiff.degradation import Degradation
from invdiff.errors import RecipeError, WeightsError, one_line
from invdiff.guidance import Estimate, Guidance, Step
from invdiff.io.atomic import write_atomic
from invdiff.io.plain import parse_json
from invdiff.io.tensors import read_tensors
from invdiff.settings import Float, Int, Settings, in_order

from .evidence import KERNELS, least_squares_kernels
from .kernel_search import without_blur
from .kernels import with_better_kernels

_BUNDLED = Path(__file__).parent / "weights"
FORMAT = "invdiff-kernel-network/1"
_FURTHEST = 3.0  # times a kernel's largest value: noise in the evidence beyond it says no more
_SHARPNESS = 8.0  # of the bend at nothing: kernels have no values below it


Dilation = Annotated[Int, Field(ge=1, le=16)]


class Shape(Settings):
    """How large a network is."""

    channels: Annotated[Int, Field(ge=8, le=512, multiple_of=8)] = 64
    """Of all its layers."""
    dilations: Annotated[tuple[Dilation, ...], Field(min_length=1, max_length=32)] = (1, 2, 4, 1, 2, 1)
    """How far apart the pixels are that each block compares."""


class KernelNet(nn.Module):
    """From a kernel and the evidence of it to a better kernel: convolutions of one width on the kernel's own grid."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape or Shape()
        width = self.shape.channels
        self.first = nn.Conv2d(1 + KERNELS, width, 3, padding=1)
        self.body = nn.Sequential(*[_Block(width, dilation) for dilation in self.shape.dilations])
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        with torch.no_grad():  # begins as one that changes next to nothing
            for parameter in self.last.parameters():
                parameter.zero_()

    def forward(self, kernel: Tensor, evidence: Tensor) -> Tensor:
        """``kernel (B, K, K)`` and ``evidence (B, 5, K, K)`` to kernels of unit sum."""
        peak = kernel.amax((-2, -1), keepdim=True)
        seen = torch.cat([kernel[:, None], evidence], dim=1) / peak[:, None]
        change = self.last(self.body(self.first(seen.clamp(-_FURTHEST, _FURTHEST))))[:, 0]
        found = F.softplus(_SHARPNESS * (kernel / peak + change) - 1)
        return found / found.sum((-2, -1), keepdim=True)


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.far = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.near = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.near(F.gelu(self.far(F.gelu(self.norm(x)))))
        return out


def save_network(network: KernelNet, path: Path, note: Any = None) -> None:
    """Write it in float16, atomically; ``note`` is any JSON. :class:`WeightsError` for weights that are not finite."""
    tensors = {name: tensor.half().contiguous().cpu() for name, tensor in network.state_dict().items()}
    refuse_non_finite(path, tensors, "would hold numbers that are not finite in float16")
    header = {"format": FORMAT, "shape": network.shape.model_dump_json(), "note": json.dumps(note)}
    write_atomic(path, encode(tensors, header))


def find_network(weights: str) -> Path:
    """Where a network is: a file, or the name of one that comes along. :class:`WeightsError` where there is none."""
    return find_among(weights, {file.stem: file for file in sorted(_BUNDLED.glob("*.safetensors"))})


def load_network(path: Path) -> KernelNet:
    """A network from a file of :func:`save_network`: float32, on the CPU, frozen. :class:`WeightsError` for another."""
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise WeightsError(f"{path}: safetensors, but not a network of kernels (no '{FORMAT}' in its header)")
    try:
        shape = Shape.model_validate(parse_json(header["shape"]))
    except (ValidationError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: its shape is not understood ({one_line(error)[:200]})") from None
    refuse_non_finite(path, tensors)
    with torch.device("meta"):  # a file that claims a giant network gets no memory for it
        network = KernelNet(shape)
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{path}: tensors do not fit its shape ({one_line(error)[:200]})") from None
    return network.eval().requires_grad_(False)


class KernelNetworkSettings(Settings):
    weights: str = "kernel_s"
    """Weights: a file, or the name of those that come along."""
    levels: tuple[Float, Float] = (0.03, 0.1)
    """Noise levels at which it acts, ``sqrt((1 - abar) / abar)`` on [0, 1]: before them the image is too vague."""
    floor: Annotated[Float, Field(ge=0, lt=1)] = 0.02
    """Values below this part of a kernel's largest are taken for nothing, where it is centred."""

    @field_validator("levels")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return in_order(value, "levels is [low, high]")


class KernelNetwork(Guidance[KernelNetworkSettings]):
    """Replaces the kernel by what a network makes of it, and of what photo and image say of it by least squares.

    Where an estimate is wrong, the image that follows from it has ghosts, and least squares repeat the mistake, with
    signs that a network can learn to read (:func:`least_squares_kernels` is what it sees). The kernel's mass stays
    where it was, and the image moves the other way by whole pixels. The image's colours are not looked at.

    For operators that blur at full resolution, with any size of kernel; the network that comes along has seen shakes
    in 31x31. It goes after a guidance that finds a kernel, and before the one that solves for the image.
    """

    Settings = KernelNetworkSettings
    estimates_parameters = True

    def __init__(self, settings: KernelNetworkSettings | None = None) -> None:
        super().__init__(settings)
        path = find_network(self.settings.weights)
        self.network = load_network(path)
        self.weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def unfit(self, degradation: Degradation) -> str | None:
        return without_blur(degradation)

    def refine(self, step: Step) -> Estimate:
        if step.theta is None:
            raise RecipeError("kernel_network: nothing has found a kernel yet: put kernel_search before it")
        low, high = self.settings.levels
        if not low <= step.sigma <= high:
            return Estimate(step.x0, step.theta)
        self.network.to(step.theta.device)
        return with_better_kernels(step, self._better, self.settings.floor)

    def _better(self, y: Tensor, x: Tensor, kernel: Tensor, degradation: Degradation) -> Tensor:
        evidence = least_squares_kernels(y[0], degradation.frame(x)[0], kernel.shape[-1])
        found: Tensor = self.network(kernel.float(), evidence[None])
        return found.to(kernel)
