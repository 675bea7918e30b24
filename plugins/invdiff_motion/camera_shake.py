"""Camera shake that differs across the picture: the camera turned about its line of sight as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from invdiff.blur import Blur, Padding
from invdiff.blur.parts import BlurInParts
from invdiff.degradation import Bound, KernelSpace, Optical, OpticalSettings, ParameterSpace, View
from invdiff.settings import Float, Int, in_order, odd

from .hand import Hand, Span, hand_poses
from .operator import Motion, MotionSettings, shake_in_words
from .poses import Place, kernels_at, poses_of

_VIEWS = (3, 3)
_VIEW = 0.5  # of the photo's sides: views overlap by half
_SMALLEST = 48  # pixels, if the photo has them: of fewer nobody reads a kernel
_ROUNDS = 30  # of likelihood's maximisation; three times as many change nothing
_NOTHING = 1e-6

Size = tuple[int, int]
Count = Annotated[Int, Field(ge=1, le=32)]


@dataclass(frozen=True)
class PoseSpace(ParameterSpace):
    """How long a camera stayed at each pose: ``turns x K x K`` numbers, none negative, that sum to one."""

    turns: int
    size: int
    of_blur = True

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.turns, self.size, self.size)

    def project(self, theta: Tensor) -> Tensor:
        return KernelSpace(self.size).project(theta.flatten(1)).view_as(theta)


class CameraShakeSettings(OpticalSettings):
    kernel_size: Annotated[Int, Field(ge=3)] = 31
    """Side of the kernels, odd."""
    turns: Annotated[Int, Field(ge=3)] = 17
    """How many turns of the camera are told apart, an odd number: the one in the middle is none."""
    reach: Annotated[Float, Field(gt=0)] = 12.0
    """How far the largest turn, one way or the other, moves what lies half the photo's longer side from its middle, in
    pixels."""
    blended: tuple[Count, Count] = (5, 5)
    """Rows and columns of kernels that the picture is blurred with, blended from each to the next."""
    span: tuple[Span, Span] = (4.0, 20.0)
    """Range of the longer side of the path on which a drawn shake moves the whole picture, in pixels."""
    padding: Padding = "reflect"
    """``valid``: the scene goes on beyond the photo, as it does for real ones."""

    @field_validator("kernel_size", "turns")
    @classmethod
    def _odd(cls, value: int, info: ValidationInfo) -> int:
        return odd(value, info.field_name)

    @field_validator("span")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return in_order(value)


class CameraShake(Optical[CameraShakeSettings]):
    """``y = sum_p w_p (k_p * x) + n`` at scale 1 (:mod:`invdiff.blur.parts`), all ``k_p`` from the poses of one camera.

    theta are the poses, ``(B, turns, K, K)``. A camera that was held the other way and a scene that was moved and
    turned give the same photo: drawn poses have their mean in the middle. Linear in the picture; in the poses it is not
    quite, for kernels of which some light leaves their square are brought back to unit sum.
    """

    Settings = CameraShakeSettings

    def __init__(self, settings: CameraShakeSettings | None = None) -> None:
        super().__init__(settings)
        mine = self.settings
        self.parameters = PoseSpace(mine.turns, mine.kernel_size)
        # What a view of the photo sees: the same shake, not turned.
        shared = set(MotionSettings.model_fields) & set(type(mine).model_fields)
        self._still = Motion(MotionSettings.model_validate(mine.model_dump(include=shared, exclude_unset=True)))

    @property
    def wraps(self) -> bool:
        return self._still.wraps

    def output_shape(self, size: Size) -> Size:
        return self._still.output_shape(size)

    def sample_parameters(self, batch: int, generator: torch.Generator) -> Tensor:
        mine, hand = self.settings, Hand(span=self.settings.span)
        return torch.stack([hand_poses(mine.kernel_size, mine.turns, hand, generator) for _ in range(batch)]).float()

    def optics(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.blurring(theta, self.output_shape((x.shape[-2], x.shape[-1]))).apply(x)

    def optics_adjoint(self, y: Tensor, theta: Tensor) -> Tensor:
        return self.blurring(theta, (y.shape[-2], y.shape[-1])).adjoint(y)

    def at(self, theta: Tensor) -> Bound:
        return _Held(self, theta.detach()) if self.linear else super().at(theta)

    def blurring(self, theta: Tensor, size: Size) -> Bound:
        """What these poses do to pictures of which photos are of that size ``(h, w)``."""
        padding = self.settings.padding
        if _only_shaken(theta):
            return Blur(theta.sum(1), padding)
        kernels = self._kernels(theta, _cells(size, self.settings.blended))
        return BlurInParts(kernels.unflatten(1, self.settings.blended), padding)

    def views(self, size: Size, theta: Tensor | None = None) -> list[View]:
        if theta is not None and _only_shaken(theta):
            return [View(self._still)]
        rows, cols = ([slice(at, at + side) for at in starts] for starts, side in _spans(size))
        return [View(self._still, (down, right), self._still.margin) for down in rows for right in cols]

    def kernels_of(self, theta: Tensor, size: Size, count: int = 1) -> Tensor:
        if count == 1 or _only_shaken(theta):
            return theta.sum(1, keepdim=True).expand(-1, count, -1, -1)
        return self._kernels(theta, _middles(size))

    def from_kernels(self, kernels: Tensor, size: Size) -> Tensor:
        turns = self.settings.turns
        if kernels.shape[1] == 1:
            poses = kernels.new_zeros(len(kernels), turns, *kernels.shape[-2:])
            poses[:, turns // 2] = kernels[:, 0]
            return poses
        return poses_of(kernels, _middles(size), turns, self._reach(kernels), _ROUNDS)

    def shown(self, theta: Tensor, size: Size) -> Tensor | None:
        """The kernels of three by three places, side by side; the only one where the camera did not turn."""
        if _only_shaken(theta[None]):
            return theta.sum(0)
        kernels = self.kernels_of(theta[None], size, _VIEWS[0] * _VIEWS[1])[0].unflatten(0, _VIEWS)
        return torch.cat(torch.cat(kernels.unbind(0), -2).unbind(0), -1)

    def described(self, theta: Tensor) -> str:
        if _only_shaken(theta[None]):
            return self._still.described(theta.sum(0))
        return f"in the middle {shake_in_words(theta.sum(0))}, and the camera turned as well"

    def lift(self, y: Tensor) -> Tensor:
        return self._still.lift(y)

    def frame(self, x: Tensor) -> Tensor:
        return self._still.frame(x)

    def _kernels(self, theta: Tensor, places: tuple[Place, ...]) -> Tensor:
        kernels = kernels_at(theta, places, self._reach(theta))
        return kernels / kernels.sum((-2, -1), keepdim=True).clamp_min(_NOTHING)

    def _reach(self, like: Tensor) -> float:
        """That of a smaller copy's kernels is smaller."""
        return self.settings.reach * like.shape[-1] / self.settings.kernel_size


class _Held:
    """Poses that are held; the kernels that follow depend on the photo's size, and are kept for each."""

    def __init__(self, shake: CameraShake, theta: Tensor) -> None:
        self.shake, self.theta = shake, theta
        self._blurs: dict[Size, Bound] = {}

    def _of(self, size: Size) -> Bound:
        if size not in self._blurs:
            self._blurs[size] = self.shake.blurring(self.theta, size)
        return self._blurs[size]

    def apply(self, x: Tensor, /) -> Tensor:
        return self._of(self.shake.output_shape((x.shape[-2], x.shape[-1]))).apply(x)

    def adjoint(self, y: Tensor, /) -> Tensor:
        return self._of((y.shape[-2], y.shape[-1])).adjoint(y)


def _only_shaken(theta: Tensor) -> bool:
    """Whether no camera of the batch turned."""
    middle = theta.shape[1] // 2
    return not bool(theta[:, :middle].any() or theta[:, middle + 1 :].any())


def _spans(size: Size) -> list[tuple[list[int], int]]:
    """Where views begin along each side of a photo, and how long they are."""
    found = []
    for whole, count in zip(size, _VIEWS, strict=True):
        side = max(round(_VIEW * whole), min(whole, _SMALLEST))
        found.append(([round((whole - side) * i / (count - 1)) for i in range(count)], side))
    return found


def _middles(size: Size) -> tuple[Place, ...]:
    """The middle of each view."""
    lines = [[at + side / 2 for at in starts] for starts, side in _spans(size)]
    return _places(size, lines)


def _cells(size: Size, counts: Size) -> tuple[Place, ...]:
    """The middle of each of so many rows and columns of equal cells."""
    return _places(size, [[whole * (i + 0.5) / n for i in range(n)] for whole, n in zip(size, counts, strict=True)])


def _places(size: Size, lines: list[list[float]]) -> tuple[Place, ...]:
    half = max(size) / 2
    down, right = ([(at - whole / 2) / half for at in line] for whole, line in zip(size, lines, strict=True))
    return tuple((row, col) for row in down for col in right)
