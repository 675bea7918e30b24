"""Priors: what clean images, and the unknown parameters given a measurement, look like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .degradation import Degradation
from .schedule import NoiseSchedule, PredictionKind
from .settings import Settings


class PriorSettings(Settings):
    """What the settings of every prior with weights have; those of one that needs none derive from ``Settings``."""

    weights: str | None = None
    """A file, or the name of weights that the prior's package bundles; they bring their own settings."""


@dataclass(frozen=True)
class PriorSpec:
    """What the loop must know of a prior, besides how to ask it."""

    schedule: NoiseSchedule
    value_range: tuple[float, float] = (-1.0, 1.0)
    """The range its diffusion runs in; the core converts."""
    prediction: PredictionKind = "eps"
    """What its raw output means."""
    multiple: int = 1
    """What height and width must divide by; the sampler pads and crops."""
    parameter_shape: tuple[int, ...] | None = None
    """The shape of the parameters that it estimates, or None."""
    scale: int | None = None
    """The only scale that it serves, or None."""
    takes_parameters: bool = False
    """Whether ``forward`` takes a fourth argument, parameters ``(B, *shape)`` to predict with instead of its own."""
    start: Literal["noise", "measurement"] = "noise"
    """What the loop starts from: pure noise, or the lifted measurement with the noise of the schedule's last time,
    for a prior whose schedule ends while there is still something to see."""


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
    """A denoiser, conditioned on the lifted measurement or not. A subclass sets ``spec`` and writes ``forward``.

    Where ``Settings`` has no ``weights``, the prior needs none: a recipe restores with it as it is built.
    """

    Settings: ClassVar[type[Settings]] = PriorSettings

    settings: Any
    spec: PriorSpec

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Output:
        """``x_t`` and ``condition (B, 3, H, W)`` in ``value_range``, ``t (B,)`` integer times."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Tensor, parameters: Tensor | None = None) -> Prediction:
        """The raw output of :meth:`forward` as a clean image and the noise beside it.

        ``parameters`` are what to predict the image with, for a prior that ``takes_parameters``; those
        that it returns are its own estimate all the same.
        """
        out = self(x_t, t, condition) if parameters is None else self(x_t, t, condition, parameters)
        schedule, kind = self.spec.schedule, self.spec.prediction
        x0 = schedule.to_x0(kind, out.raw, x_t, t)
        eps = out.raw if kind == "eps" else schedule.to_eps(x0, x_t, t)
        return Prediction(x0, eps, out.parameters, out.variance_fraction)

    def estimate(self, condition: Tensor) -> Tensor | None:
        """Parameters ``(B, *shape)`` as read from the lifted measurement alone; None where the prior estimates none.

        They are those of a prediction from pure noise, the same noise for every picture. A prior that reads them
        without the picture's half says so at less cost, and can be trained to (``train.learns: parameters``).
        """
        if self.spec.parameter_shape is None:
            return None
        noise = torch.randn(condition.shape[1:], generator=torch.Generator().manual_seed(0)).to(condition)
        times = torch.full((len(condition),), len(self.spec.schedule) - 1, device=condition.device)
        return self.predict(noise.expand_as(condition), times, condition).parameters

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
        low, high = self.spec.value_range
        return (x - low) / (high - low)

    def from_unit(self, x: Tensor) -> Tensor:
        """From [0, 1] to the prior's range."""
        low, high = self.spec.value_range
        return low + x * (high - low)


Denoiser = Callable[[Tensor, Tensor], Tensor]


class DenoiserPrior(PriorNet):
    """A denoiser of Gaussian noise as a prior that knows nothing of the operator. A subclass writes ``denoise``.

    ``sigma_max`` is the largest noise on [0, 1] that it was made for, such as ``50 / 255``: the diffusion is then
    cut off there and starts from the lifted measurement, as in DPIR (Zhang et al. 2021); None lets it start from
    pure noise. ``multiple`` is what heights and widths must divide by. Raises ``ValueError`` for a ``sigma_max``
    below the least noise of the schedule, 0.01.
    """

    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Any = None, *, sigma_max: float | None = None, multiple: int = 1) -> None:
        super().__init__()
        self.settings = self.Settings() if settings is None else settings
        schedule = NoiseSchedule.linear()
        if sigma_max is not None:
            times = torch.arange(len(schedule))
            sigmas = schedule.noise_to_signal(times, torch.empty(len(times), dtype=torch.float64))
            within = int((sigmas <= sigma_max).sum())
            if within < 1:
                raise ValueError(f"sigma_max: {sigma_max:g} is below the least noise of the schedule")
            schedule = NoiseSchedule(schedule.betas[:within])
        self.spec = PriorSpec(
            schedule,
            value_range=(0.0, 1.0),
            prediction="x0",
            multiple=multiple,
            start="noise" if sigma_max is None else "measurement",
        )

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The clean images of ``x (B, 3, H, W)`` on [0, 1], noise of standard deviations ``sigma (B,)`` added."""

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Output:
        noisy = x_t / self.spec.schedule.abar(t, x_t).sqrt()
        return Output(self.denoise(noisy, self.spec.schedule.noise_to_signal(t, noisy).flatten()))


class _Given(DenoiserPrior):
    """With a denoiser that was handed over."""

    def __init__(self, given: Denoiser, sigma_max: float | None, multiple: int) -> None:
        super().__init__(sigma_max=sigma_max, multiple=multiple)
        self.given = given

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.given(x, sigma)


def from_denoiser(denoise: Denoiser, *, sigma_max: float | None = None, multiple: int = 1) -> PriorNet:
    """A prior from any denoiser of Gaussian noise; a kind for recipes is a subclass of :class:`DenoiserPrior`.

    ``denoise(x, sigma)`` takes ``x (B, 3, H, W)`` on [0, 1], noise added, and the noise's standard deviations
    ``sigma (B,)``, likewise on [0, 1], and returns the clean image. It may be a module or a function.
    """
    return _Given(denoise, sigma_max, multiple)
