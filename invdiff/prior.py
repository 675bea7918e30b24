"""Priors: what clean images, and the unknown parameters given a measurement, look like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .degradation import Degradation
from .schedule import NoiseSchedule, PredictionKind
from .settings import Settings


class PriorSettings(Settings):
    """What every prior's settings have."""

    weights: str | None = None
    """A file, or the name of weights that the prior's package bundles; they bring their own settings."""


@dataclass
class Output:
    """A network's answer in its own parameterisation, ``raw (B, 3, H, W)``.

    ``earlier`` are estimates of the parameters made on the way to ``parameters``: training supervises
    them too, sampling has no use for them.
    """

    raw: Tensor
    parameters: Tensor | None = None
    variance_fraction: Tensor | None = None
    earlier: tuple[Tensor, ...] = ()


@dataclass
class Prediction:
    """A prior's view of one noisy image, in the prior's value range.

    ``parameters (B, *shape)`` is None for a prior that knows nothing of the operator.
    ``variance_fraction`` is a learned variance's place between the small and the large one on a log
    scale, see :meth:`NoiseSchedule.transition`: a fraction, because the variance itself depends on
    how the sampler spaces its steps, which no prior knows.
    """

    x0: Tensor
    eps: Tensor
    parameters: Tensor | None = None
    variance_fraction: Tensor | None = None


class PriorNet(nn.Module, ABC):
    """A denoiser conditioned on the lifted measurement. A subclass writes ``forward``.

    ``value_range`` is the range its diffusion runs in (the core converts), ``prediction`` what its raw
    output means, ``multiple`` what height and width must divide by (the sampler pads and crops),
    ``parameter_shape`` the shape of the parameters it estimates or None, ``scale`` the only scale it
    serves or None.
    """

    Settings: ClassVar[type[PriorSettings]] = PriorSettings

    settings: Any
    schedule: NoiseSchedule
    value_range: tuple[float, float] = (-1.0, 1.0)
    prediction: PredictionKind = "eps"
    multiple: int = 1
    parameter_shape: tuple[int, ...] | None = None
    scale: int | None = None
    takes_parameters: bool = False
    """Whether ``forward`` takes a fourth argument, parameters ``(B, *shape)`` to predict with instead of its own."""

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Output:
        """``x_t`` and ``condition (B, 3, H, W)`` in ``value_range``, ``t (B,)`` integer times."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Tensor, parameters: Tensor | None = None) -> Prediction:
        """The raw output of :meth:`forward` as a clean image and the noise beside it.

        ``parameters`` are what to predict the image with, for a prior that ``takes_parameters``; those
        that it returns are its own estimate all the same.
        """
        out = self(x_t, t, condition) if parameters is None else self(x_t, t, condition, parameters)
        x0 = self.schedule.to_x0(self.prediction, out.raw, x_t, t)
        eps = out.raw if self.prediction == "eps" else self.schedule.to_eps(x0, x_t, t)
        return Prediction(x0, eps, out.parameters, out.variance_fraction)

    def loss_weight(self, t: Tensor) -> Tensor:
        """Weight ``(B,)`` of the squared error of the raw output at time ``t``; 1 is the paper's Eq. 13."""
        return torch.ones(len(t))

    def prepare(self, degradation: Degradation, generator: torch.Generator) -> None:
        """Fit to the operator whatever is not learned by gradients; called once before training."""

    @classmethod
    def from_foreign(cls, tensors: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> PriorNet | None:
        """A prior from the tensors of another project's checkpoint, or None where the layout is not known.

        ``overrides`` are settings that the tensors cannot tell, such as the scale. Raises
        :class:`WeightsError` where the layout is known but a tensor does not fit, naming it.
        """
        return None

    def to_unit(self, x: Tensor) -> Tensor:
        """From the prior's range to [0, 1]."""
        low, high = self.value_range
        return (x - low) / (high - low)

    def from_unit(self, x: Tensor) -> Tensor:
        """From [0, 1] to the prior's range."""
        low, high = self.value_range
        return low + x * (high - low)
