"""The U-Net as a prior that knows nothing of the operator."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from invdiff.prior import Output, PriorNet, PriorSettings, PriorSpec
from invdiff.schedule import NoiseSchedule, preconditioning
from invdiff.settings import Float, Int

from .network import UNet

Width = Annotated[Int, Field(gt=0, le=4096, multiple_of=4)]


class UNetSettings(PriorSettings):
    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (48, 96, 160)
    """Width of each level; each has half the pixels a side of the one before."""
    blocks: Annotated[Int, Field(gt=0, le=64)] = 2
    """Blocks of each level, on the way down as on the way up."""
    unshuffle: Annotated[Int, Field(ge=1, le=8)] = 2
    """Work on a grid this many times coarser: much cheaper, as pixels become channels."""
    image_std: Annotated[Float, Field(gt=0)] = 0.5
    """Spread of clean images on [-1, 1]."""
    sees_measurement: bool = False
    """Look at the measurement too: for a prior that is trained for one kind of degradation."""


class UNetPrior(PriorNet):
    """A denoiser of photos at any noise level, preconditioned as by Karras et al. (EDM, 2022, Table 1).

    With noise of ``sigma = sqrt((1 - abar) / abar)`` beside an image ``x``, ``c_in (x + sigma n)`` of spread one goes
    in, and ``c_skip (x + sigma n) + c_out F`` is the clean image: at much noise the network says the image, at little
    the noise. As it looks at nothing else, guidance alone brings in the measurement, of whatever operator; but where it
    ``sees_measurement``, that goes in beside.
    """

    Settings: ClassVar[type[UNetSettings]] = UNetSettings

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.network = UNet(settings.channels, settings.blocks, settings.unshuffle, beside=settings.sees_measurement)
        self.spec = PriorSpec(NoiseSchedule.linear(), prediction="x0", multiple=self.network.multiple)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Output:
        sigma = self.spec.schedule.noise_to_signal(t, x_t)
        c_in, c_skip, c_out = preconditioning(sigma, self.settings.image_std)
        noisy = x_t / self.spec.schedule.abar(t, x_t).sqrt()
        raw = self.network(c_in * noisy, sigma.flatten().log() / 4, condition)
        return Output(c_skip * noisy + c_out * raw.float())

    def loss_weight(self, t: Tensor) -> Tensor:
        """``1 / c_out**2``: a target of unit spread at every noise level."""
        sigma = self.spec.schedule.noise_to_signal(t, torch.empty(len(t)))
        return preconditioning(sigma, self.settings.image_std)[2].pow(-2)
