"""The measurement model ``y = A_theta(x) + n``: what a photo went through, with theta unknown."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol, Self, TypeVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from .camera import Camera
from .light import decoded, encoded
from .settings import Configured, Float, Settings, in_order


class ParameterSpace(ABC):
    """Where theta lives. ``shape`` is that of one image's parameters, without the batch."""

    shape: tuple[int, ...]
    of_blur: bool = False
    """Whether they say how light is spread: that is the same for a dark photo and a bright one."""

    @abstractmethod
    def project(self, theta: Tensor) -> Tensor:
        """The nearest parameters in the space, for ``theta (B, *shape)``."""

    def neutral(self, like: Tensor) -> Tensor:
        """Parameters ``(B, *shape)`` to begin with for images ``(B, ...)``: no blur, all light in the middle; or, of
        another space, what lies nearest to nothing."""
        theta = like.new_zeros(len(like), math.prod(self.shape))
        if self.of_blur:
            theta[:, theta.shape[1] // 2] = 1  # their sides are odd
        return self.project(theta.view(-1, *self.shape))

    def contains(self, theta: Tensor, tolerance: float = 1e-5) -> bool:
        """Whether every sample of the batch lies in the space."""
        if tuple(theta.shape[1:]) != self.shape:
            return False
        return bool(((self.project(theta) - theta).abs() <= tolerance).all())


@dataclass(frozen=True)
class KernelSpace(ParameterSpace):
    """Blur kernels: ``K x K`` numbers, none negative, that sum to one (a simplex)."""

    size: int
    of_blur = True

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.size, self.size)

    def project(self, theta: Tensor) -> Tensor:
        """Euclidean projection onto the simplex (Held, Wolfe and Crowder 1974): shift, then clip at zero."""
        flat = theta.flatten(1)
        flat = flat - flat.amax(1, keepdim=True)  # the projection is the same, the sums stay small
        ordered = flat.sort(dim=1, descending=True).values
        excess = ordered.cumsum(1) - 1
        rank = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=flat.dtype)
        kept = (ordered > excess / rank).sum(1, keepdim=True)
        shift = excess.gather(1, kept - 1) / kept
        return (flat - shift).clamp_min(0).view_as(theta)


@dataclass(frozen=True)
class BoxSpace(ParameterSpace):
    """Named numbers, each within bounds: a gamma, a haze density."""

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (len(self.names),)

    def project(self, theta: Tensor) -> Tensor:
        low, high = (torch.tensor(b, dtype=theta.dtype, device=theta.device) for b in (self.low, self.high))
        return theta.clamp(low, high)


Level = Annotated[Float, Field(ge=0, le=1)]


class DegradationSettings(Settings):
    """What every operator can do to a measurement after ``apply``."""

    noise_sigma: Level | tuple[Level, Level] = 0.0
    """Standard deviation of white Gaussian noise, on [0, 1] images; or [low, high] to draw it from."""
    quantize: bool = False
    """Clip to [0, 1] and round to 8 bits, as a saved photo is."""

    @field_validator("noise_sigma")
    @classmethod
    def _noise_ordered(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        return in_order(value, "noise_sigma must be one number or [low, high]")


@dataclass(frozen=True)
class View:
    """A part of a photo that is seen as one kernel blurs it, and the operator with that kernel.

    ``window`` are its rows and columns in the photo, None for all of it; in a picture there are ``margin`` more on each
    side, where the scene goes on beyond the photo.
    """

    degradation: Degradation
    window: tuple[slice, slice] | None = None
    margin: int = 0

    def of_photo(self, y: Tensor) -> Tensor:
        return y if self.window is None else y[(..., *self.window)]

    def of_picture(self, x: Tensor) -> Tensor:
        if self.window is None:
            return x
        rows, cols = (slice(span.start, span.stop + 2 * self.margin) for span in self.window)
        return x[..., rows, cols]


class Bound(Protocol):
    """An operator with one of its two arguments held: a map of the other one, for whoever applies it many times."""

    def apply(self, free: Tensor, /) -> Tensor:
        """The noise-free measurement."""

    def adjoint(self, y: Tensor, /) -> Tensor:
        """Where the map is linear: ``<apply(free), y> = <free, adjoint(y)>``."""


D = TypeVar("D", bound=DegradationSettings)


class Degradation(Configured[D], ABC):
    """One measurement model. Immutable: theta is always passed, never stored.

    Shapes: clean images ``(B, 3, H, W)``, measurements ``(B, 3, h, w)``, both in [0, 1]; parameters
    ``(B, *parameters.shape)``. A subclass sets ``Settings`` and is built as ``cls(settings)``.
    """

    Settings: ClassVar[type[DegradationSettings]] = DegradationSettings

    scale: int = 1
    linear: bool = True
    parameters: ParameterSpace
    content: list[int] | None = None
    """What files that its settings name hold (``seeds.content_of``): results follow from that as well."""

    def output_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(h, w)`` of the measurement of a clean ``(H, W)`` image; both sides must divide by ``scale``.

        Raises :class:`ImageError` for an image too small for the operator.
        """
        return size[0] // self.scale, size[1] // self.scale

    @abstractmethod
    def sample_parameters(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw ``(batch, *parameters.shape)`` on the CPU from the family used for training and tests."""

    @abstractmethod
    def apply(self, x: Tensor, theta: Tensor) -> Tensor:
        """The noise-free measurement of ``x``, differentiable in both arguments."""

    def adjoint(self, y: Tensor, theta: Tensor) -> Tensor:
        """For a linear operator: ``<apply(x), y> = <x, adjoint(y)>``."""
        raise NotImplementedError(f"{type(self).__name__} has no adjoint")

    def at(self, theta: Tensor) -> Bound:
        """With these parameters, as constants: a map of images. To override where theta alone takes work."""
        return _AtParameters(self, theta.detach())

    def of(self, x: Tensor, margin: int = 0) -> Bound:
        """Of this image, as a constant: a map of parameters that must be linear, without ``margin`` pixels of border.

        To override where the image alone takes work.
        """
        return _OfImage(self, x.detach(), margin)

    @abstractmethod
    def lift(self, y: Tensor) -> Tensor:
        """The measurement on the clean image's grid, ``(B, 3, H, W)``: the condition that a prior sees."""

    def baseline(self, y: Tensor) -> Tensor:
        """What one would show without restoring, on the clean image's grid; results are measured beside it."""
        return self.lift(y)

    @property
    def on_light(self) -> Degradation:
        """What the loop restores with: this operator, or where photos encode light the one on light itself."""
        return self

    def to_light(self, image: Tensor) -> Tensor:
        """A picture or photo as ``on_light`` takes it; by default as it is."""
        return image

    def from_light(self, image: Tensor) -> Tensor:
        """The way back."""
        return image

    @property
    def wraps(self) -> bool:
        """Whether opposite borders of its pictures meet, as a texture's do: a prior then looks round them."""
        return False

    def frame(self, x: Tensor) -> Tensor:
        """The part of a clean ``(..., H, W)`` image that a photo of it shows: all, unless the scene goes on beyond."""
        return x

    def views(self, size: tuple[int, int], theta: Tensor | None = None) -> list[View]:
        """The parts of a photo ``(h, w)`` from which its kernels can be read: all of it, where there is one kernel.

        An operator whose blur differs across the picture has several, all of one size; with ``theta (1, *shape)`` no
        more than these parameters ask for.
        """
        return [View(self)]

    def kernels_of(self, theta: Tensor, size: tuple[int, int], count: int = 1) -> Tensor:
        """What parameters ``(B, *shape)`` are in the middle of each of that many views: ``(B, count, K, K)``."""
        return theta[:, None]

    def from_kernels(self, kernels: Tensor, size: tuple[int, int]) -> Tensor:
        """The parameters that come nearest to kernels ``(B, views, K, K)``; also to those of smaller copies of a photo,
        with smaller kernels."""
        return kernels[:, 0]

    def shown(self, theta: Tensor, size: tuple[int, int]) -> Tensor | None:
        """Parameters ``(*shape)`` of a photo ``(h, w)`` as a square to look at, such as its kernel; None for others."""
        return theta if isinstance(self.parameters, KernelSpace) else None

    def described(self, theta: Tensor) -> str:
        """Parameters ``(*shape)`` of one photo in a few words, for reports: ``a soft blur``. By default nothing."""
        return ""

    @property
    def noise_level(self) -> float | None:
        """Standard deviation of noise and rounding together, on [0, 1]; None where no two measurements share one."""
        if isinstance(self.settings.noise_sigma, tuple):
            return None
        rounding = 1 / 255**2 / 12 if self.settings.quantize else 0.0
        return float(self.settings.noise_sigma**2 + rounding) ** 0.5

    def corrupt(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Noise and rounding, as configured, on a noise-free measurement."""
        sigma = self.settings.noise_sigma
        if isinstance(sigma, tuple):
            low, high = sigma
            drawn = low + (high - low) * torch.rand(len(y), 1, 1, 1, generator=generator, dtype=y.dtype)
            y = y + (drawn * torch.randn(y.shape, generator=generator, dtype=y.dtype)).to(y.device)
        elif sigma:
            noise = torch.randn(y.shape, generator=generator, dtype=y.dtype)
            y = y + sigma * noise.to(y.device)
        if self.settings.quantize:
            y = (y.clamp(0, 1) * 255).round() / 255
        return y

    def degrade(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw parameters, apply, add noise, round: ``(y, theta)``. ``generator`` lives on the CPU."""
        theta = self.sample_parameters(len(x), generator).to(x.dtype).to(x.device)
        return self.corrupt(self.apply(x, theta), generator), theta


class OpticalSettings(DegradationSettings):
    """What every operator of optics has."""

    light: Literal["encoded", "linear"] = "encoded"
    """What is blurred: ``encoded``, a photo's numbers as they are; ``linear``, as in a camera, the light behind
    them, by the curve of sRGB."""
    camera: Camera | None = None
    """Noise and JPEG after the optics, drawn for each measurement: for training priors that people's photos need."""

    @model_validator(mode="after")
    def _one_noise(self) -> Self:
        # Not whether it was said: what is saved says everything, and must be read again.
        unrounded = type(self).model_fields["quantize"].default and not self.quantize
        if self.camera is not None and (self.noise_sigma or unrounded):
            raise ValueError("camera brings noise and rounding of its own: leave noise_sigma and quantize as they are")
        return self


OS = TypeVar("OS", bound=OpticalSettings)


class Optical(Degradation[OS]):
    """A linear operator of what ``light`` says. A subclass writes ``optics`` and its adjoint, which know nothing of it.

    With ``light: linear`` it is not linear in photos. ``on_light`` is, and the loop restores with that.
    """

    Settings: ClassVar[type[DegradationSettings]] = OpticalSettings

    def __init__(self, settings: OS | None = None) -> None:
        super().__init__(settings)
        self.linear = self.settings.light == "encoded"
        self._on_light = None if self.linear else type(self)(self.settings.model_copy(update={"light": "encoded"}))

    @abstractmethod
    def optics(self, x: Tensor, theta: Tensor) -> Tensor:
        """``apply`` on what is blurred."""

    @abstractmethod
    def optics_adjoint(self, y: Tensor, theta: Tensor) -> Tensor:
        """``<optics(x), y> = <x, optics_adjoint(y)>``."""

    @property
    def noise_level(self) -> float | None:
        return super().noise_level if self.settings.camera is None else None

    def corrupt(self, y: Tensor, generator: torch.Generator) -> Tensor:
        if self.settings.camera is None:
            return super().corrupt(y, generator)
        return torch.stack([self.settings.camera.photographed(one, generator) for one in y])

    @property
    def on_light(self) -> Degradation:
        return self if self._on_light is None else self._on_light

    def to_light(self, image: Tensor) -> Tensor:
        return image if self.linear else decoded(image)

    def from_light(self, image: Tensor) -> Tensor:
        return image if self.linear else encoded(image)

    def apply(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.from_light(self.optics(self.to_light(x), theta))

    def adjoint(self, y: Tensor, theta: Tensor) -> Tensor:
        return self.optics_adjoint(y, theta) if self.linear else super().adjoint(y, theta)


class _AtParameters:
    """Nothing is kept but the parameters."""

    def __init__(self, degradation: Degradation, theta: Tensor) -> None:
        self.degradation, self.theta = degradation, theta

    def apply(self, x: Tensor, /) -> Tensor:
        return self.degradation.apply(x, self.theta)

    def adjoint(self, y: Tensor, /) -> Tensor:
        return self.degradation.adjoint(y, self.theta)


class _OfImage:
    """The adjoint is the derivative, which is the same everywhere: its graph is made once."""

    def __init__(self, degradation: Degradation, x: Tensor, margin: int) -> None:
        self.degradation, self.x, self.margin = degradation, x, margin
        self._graph: tuple[Tensor, Tensor] | None = None

    def apply(self, theta: Tensor, /) -> Tensor:
        y = self.degradation.apply(self.x, theta)
        rows, cols = y.shape[-2:]
        return y[..., self.margin : rows - self.margin, self.margin : cols - self.margin]

    def adjoint(self, y: Tensor, /) -> Tensor:
        if self._graph is None:
            with torch.enable_grad():
                theta = self.x.new_zeros(len(self.x), *self.degradation.parameters.shape).requires_grad_()
                self._graph = theta, self.apply(theta)
        theta, measured = self._graph
        return torch.autograd.grad(measured, theta, y.detach(), retain_graph=True)[0]
