"""LPIPS, the learned perceptual distance, from weights that the user points to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from ..io.tensors import read_checkpoint, read_tensors

# In torchvision's feature stacks: the convolutions, those tapped after their ReLU, those with a max pool before.
_VGG = ((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (2, 7, 14, 21, 28), (5, 10, 17, 24))
_ALEX = ((0, 3, 6, 8, 10), (0, 3, 6, 8, 10), (3, 6))
SMALLEST = 32
"""Sides of the least images that have a distance, in pixels."""


class LPIPS(nn.Module):
    """Learned perceptual distance (Zhang et al. 2018), version 0.1.

    ``folder`` holds ``vgg16_features`` or ``alexnet_features`` and ``vgg`` or ``alex`` (the linear
    heads), as safetensors with torchvision's and the LPIPS package's names; or their own files,
    ``vgg16-*.pth`` or ``alexnet-*.pth`` and ``vgg.pth`` or ``alex.pth``.
    """

    def __init__(self, folder: Path, network: Literal["vgg", "alex"] = "vgg") -> None:
        super().__init__()
        self.network = network
        self.layers = _VGG if network == "vgg" else _ALEX
        name = "vgg16" if network == "vgg" else "alexnet"
        backbone = _tensors(folder, f"{name}_features.safetensors", f"{name}*.pth")
        heads = _tensors(folder, f"{network}.safetensors", f"{network}.pth")
        try:
            for i in self.layers[0]:
                self.register_buffer(f"weight{i}", backbone[f"features.{i}.weight"].float())
                self.register_buffer(f"bias{i}", backbone[f"features.{i}.bias"].float())
            for i in range(5):
                self.register_buffer(f"head{i}", heads[f"lin{i}.model.1.weight"].float())
        except KeyError as error:
            raise WeightsError(f"{folder}: not LPIPS weights, {error} is missing") from None
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("spread", torch.tensor([0.458, 0.448, 0.450])[:, None, None])

    @property
    def name(self) -> str:
        return f"lpips_{self.network}"

    @torch.no_grad()
    def forward(self, x: Tensor, truth: Tensor) -> float:
        """Distance of two ``(3, H, W)`` images in [0, 1]; NaN below 32 pixels, where pools leave nothing."""
        if min(x.shape[-2:]) < SMALLEST:
            return math.nan
        return float(self.distances(x[None], truth[None]))

    def distances(self, x: Tensor, truth: Tensor) -> Tensor:
        """Distances ``(B,)`` of images ``(B, 3, H, W)`` in [0, 1], of 32 pixels at least, with gradients."""
        pairs = enumerate(zip(self._features(x), self._features(truth), strict=True))
        layers = [F.conv2d((a - b).square(), self.get_buffer(f"head{i}")).mean((1, 2, 3)) for i, (a, b) in pairs]
        return torch.stack(layers).sum(0)

    def _features(self, x: Tensor) -> list[Tensor]:
        convolutions, taps, pools = self.layers
        x = (2 * x.float() - 1 - self.get_buffer("shift")) / self.get_buffer("spread")
        found = []
        for i in convolutions:
            if i in pools:
                x = F.max_pool2d(x, 2) if self.network == "vgg" else F.max_pool2d(x, 3, 2)
            weight = self.get_buffer(f"weight{i}")
            stride, padding = (4, 2) if weight.shape[-1] == 11 else (1, weight.shape[-1] // 2)
            x = F.conv2d(x, weight, self.get_buffer(f"bias{i}"), stride, padding).relu()
            if i in taps:
                found.append(x / (x.square().sum(1, keepdim=True) + 1e-20).sqrt())
        return found


def _tensors(folder: Path, ours: str, foreign: str) -> dict[str, Tensor]:
    """The tensors of our file, or else of the first foreign one."""
    others = sorted(folder.glob(foreign)) if folder.is_dir() else []
    if others and not (folder / ours).exists():
        return read_checkpoint(others[0])
    return read_tensors(folder / ours)[0]


def find_networks(folder: Path | None) -> tuple[list[LPIPS], list[str]]:
    """The networks whose weights are there, and a line for each that is not."""
    found: list[LPIPS] = []
    missing: list[str] = []
    names: tuple[Literal["vgg", "alex"], ...] = ("vgg", "alex")
    for name in names:
        if folder is None:
            missing.append(f"lpips_{name} is left out: no weights given (--lpips FOLDER)")
            continue
        try:
            found.append(LPIPS(folder, name))
        except WeightsError as error:
            missing.append(f"lpips_{name} is left out: {error}")
    return found, missing
