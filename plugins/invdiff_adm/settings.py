"""What the network is built from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from invdiff.prior import PriorSettings
from invdiff.settings import Int

Width = Annotated[Int, Field(ge=32, multiple_of=32)]


class ADMSettings(PriorSettings):
    width: Width = 128
    """Channels that the time's code is counted in: it has four times as many."""
    channels: Annotated[tuple[Width, ...], Field(min_length=1)] = (128, 128, 256, 256, 512, 512)
    """Channels at each size, from the whole picture on; every size is half of the one before."""
    blocks: Annotated[Int, Field(ge=1)] = 1
    """Residual blocks at each size."""
    attention: tuple[Annotated[Int, Field(ge=0)], ...] = (4,)
    """The sizes with attention, the whole picture being 0: 4 is that of 16 pixels in one of 256."""
    head_channels: Annotated[Int, Field(ge=1)] = 64
    """Channels of each head of attention."""
    learn_variance: bool = True
    """Whether it says how much noise a step draws."""

    @model_validator(mode="after")
    def _fits(self) -> ADMSettings:
        if any(level >= len(self.channels) for level in self.attention):
            raise ValueError(f"attention: there are {len(self.channels)} sizes, counted from 0")
        heads = [self.channels[level] for level in self.attention] + [self.channels[-1]]
        if any(wide % self.head_channels for wide in heads):
            raise ValueError(f"head_channels: {self.head_channels} does not divide the channels that have attention")
        return self

    @property
    def multiple(self) -> int:
        """What heights and widths must divide by."""
        return int(2 ** (len(self.channels) - 1))
