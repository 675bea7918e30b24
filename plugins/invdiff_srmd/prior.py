"""SRMD as a prior: a picture for the kernel that it is told, and how far to trust it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from invdiff.blur import upsample_bicubic
from invdiff.prior import Output, PriorNet, PriorSpec
from invdiff.schedule import NoiseSchedule
from invdiff.settings import Float, Settings

from .network import SIDE, SRMDNetwork, coded, read_code


class SRMDSettings(Settings):
    kernel_code: str
    """A MATLAB file with the matrix P (15, 225) that codes kernels, srmd_pca_matlab.mat of the authors."""
    scale: Literal[2, 3, 4] = 4
    """The clean image is this many times the measurement."""
    noise: Annotated[Float, Field(gt=0, le=75 / 255)] | None = None
    """Standard deviation of the measurement's noise on [0, 1]; null: none, by the networks that were trained so."""
    kernel_sigma: Annotated[Float, Field(gt=0)] = 1.6
    """Width of the Gaussian kernel that it restores with until it is told one."""
    error: Annotated[Float, Field(gt=0, le=1)] = 0.03
    """Standard deviation of what its picture lacks, on [0, 1]: where less noise is left, that image counts more."""


class SRMD(PriorNet):
    """The clean image is the network's picture and a Gaussian error: ``x0`` is the mean given the noisy image too.

    It needs an operator that lifts by bicubic interpolation, estimates no kernel, and takes one of any odd side by
    ``sampler.feedback`` or as it is told. Raises :class:`PluginError` where the package is not installed, and
    :class:`WeightsError` for a file that is not its matrix.
    """

    Settings = SRMDSettings

    code: Tensor
    kernel: Tensor

    def __init__(self, settings: SRMDSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("code", read_code(Path(settings.kernel_code)))
        self.network = SRMDNetwork(settings.scale, noisy=settings.noise is not None)
        reach = torch.arange(SIDE) - SIDE // 2
        line = torch.exp(-0.5 * (reach / settings.kernel_sigma).square())
        self.register_buffer("kernel", torch.outer(line, line) / line.sum() ** 2)
        self.spec = PriorSpec(
            NoiseSchedule.linear(),
            value_range=(0.0, 1.0),
            prediction="x0",
            multiple=settings.scale,
            scale=settings.scale,
            takes_parameters=True,
        )

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor, kernels: Tensor | None = None) -> Output:
        kernels = self.kernel.expand(len(x_t), -1, -1) if kernels is None else kernels
        maps = coded(kernels, self.code)
        if self.settings.noise is not None:
            maps = torch.cat([maps, torch.full_like(maps[:, :1], self.settings.noise)], dim=1)
        picture = self.network(lowered(condition, self.settings.scale), maps)
        noisy = x_t / self.spec.schedule.abar(t, x_t).sqrt()
        variance = self.spec.schedule.noise_to_signal(t, noisy).square()
        trust = variance / (variance + self.settings.error**2)
        return Output(noisy + trust * (picture - noisy))


def lowered(lifted: Tensor, scale: int) -> Tensor:
    """The small image ``(B, 3, h, w)`` that bicubic lifting made ``(B, 3, h * scale, w * scale)`` of."""
    rows, columns = (_lowering(side, scale).to(lifted) for side in lifted.shape[-2:])
    return rows @ lifted @ columns.mT


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept serves calls outside of one, too
def _lowering(side: int, scale: int) -> Tensor:
    """The inverse of lifting along one axis, ``(side / scale, side)``: it loses nothing, so least squares is exact."""
    count = side // scale
    line = upsample_bicubic(torch.eye(count, dtype=torch.float64)[None, :, :, None].repeat(1, 1, 1, 4), scale)
    return torch.linalg.pinv(line[0, :, :, 0].mT)
