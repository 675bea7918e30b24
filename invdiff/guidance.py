"""Guidance: how the measurement steers one step of the reverse loop."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .blur import Blur, conjugate_gradients
from .degradation import Degradation
from .errors import RecipeError
from .orientation import shown
from .prior import PriorNet
from .settings import Configured, S, Settings


class Problem:
    """Measurements ``y (B, 3, h, w)`` in [0, 1], and what is to restore them: all that no step changes.

    ``truth (B, *shape)`` are the true parameters where they are known; only guidances that are made for it look
    at them. ``condition`` is the lifted measurement as the prior sees it: in its range, padded to its multiple. A dark
    photo comes brightened by ``gain``: what is said of it as it was, its noise, is that many times as much here.
    ``compression`` is the standard deviation of what compressing its file did to each photo, as it is here.
    ``remarks`` are what a guidance has to say of each image, in words, for its report; ``evaluations`` how often one
    asked the prior before the first step.
    """

    def __init__(
        self,
        y: Tensor,
        degradation: Degradation,
        prior: PriorNet,
        guidance: Sequence[Guidance[Any]] = (),
        truth: Tensor | None = None,
        gain: float = 1.0,
        compression: float = 0.0,
    ) -> None:
        self.gain, self.compression, self.remarks, self.evaluations = gain, compression, [""] * len(y), 0
        self.y, self.degradation, self.prior, self.guidance, self.truth = y, degradation, prior, guidance, truth
        lifted = degradation.lift(y)
        self.height, self.width = lifted.shape[-2:]
        bottom, right = (-side % prior.spec.multiple for side in (self.height, self.width))
        # Replicated, not reflected: the image may be smaller than the padding.
        self.condition = prior.from_unit(F.pad(lifted, (0, right, 0, bottom), mode="replicate"))

    @property
    def needs_gradient(self) -> bool:
        """Whether a step tracks gradients through the prior: only where a guidance needs them."""
        return any(guide.needs_gradient for guide in self.guidance)

    def shown(self, orientation: int) -> Problem:
        """The same of the measurements in another orientation, and of a truth whose kernels are turned with them."""
        truth = None if self.truth is None else shown(self.truth, orientation)
        parts = (self.degradation, self.prior, self.guidance)
        other = Problem(shown(self.y, orientation), *parts, truth, self.gain, self.compression)
        other.remarks = self.remarks
        return other

    def crop(self, x: Tensor) -> Tensor:
        """A view of a padded ``x (B, 3, ., .)`` without its padding."""
        return x[..., : self.height, : self.width]


@dataclass
class Step:
    """What a guidance sees of one step. Times are the prior's integers; ``t_next`` is -1 at the last.

    ``x_t`` is padded and in the prior's range, as the prior saw it; where a guidance needs gradients
    it is the leaf they are taken at. ``x0`` and ``theta`` are the current estimates, ``x0`` in [0, 1]
    and cropped to the image, both differentiable in ``x_t`` in that case. Of a prior that estimates no
    parameters, ``theta`` is what the step before arrived at, None at the first.
    """

    index: int
    steps: int
    t: int
    t_next: int
    x_t: Tensor
    x0: Tensor
    theta: Tensor | None
    y: Tensor
    prior: PriorNet
    degradation: Degradation
    truth: Tensor | None = None
    """The true parameters where they are known; only guidances that are made for it look at them."""
    before: Tensor | None = None
    """The parameters that the step before arrived at; at the first step those that the loop began with, if any."""
    gain: float = 1.0
    """How many times as bright as the photo ``y`` is."""
    draw: Callable[[Tensor], Tensor] = torch.zeros_like
    """Fresh normal noise like a tensor ``(B, ...)``, each sample's from its own generator, scaled by the loop's
    temperature; nothing where no loop is behind the step."""
    compression: float = 0.0
    """Standard deviation of what compressing their files did to the measurements, as they are here; 0 where nobody
    knows of any."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """What guidances keep for their next step, each under a name of its own; the loop carries it and never looks."""

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise on ``x_t / sqrt(abar_t)``, for images on [0, 1]."""
        low, high = self.prior.spec.value_range
        noise = self.prior.spec.schedule.noise_to_signal(torch.tensor([self.t]), torch.empty(1))
        return float(noise) / (high - low)

    def precision(self, spread: float | None) -> float:
        """``1 / r^2 = 1 / sigma^2 + 1 / spread^2``, with ``r`` the error of the prior's estimate, on [0, 1]: that of
        the noise, but no more than ``spread``; None is without bound."""
        return 1 / max(self.sigma, 1e-6) ** 2 + (0 if spread is None else 1 / spread**2)

    def parameters(self, kernel: Literal["estimated", "given"], kind: str) -> Tensor:
        """The operator's parameters ``(B, *shape)`` as the setting ``kernel`` of a guidance says: the current estimate,
        differentiable in ``x_t`` where that is, or the true ones. :class:`RecipeError`, which names that guidance's
        ``kind``, where nobody knows them."""
        theta = self.truth if kernel == "given" else self.theta
        if theta is None:
            raise RecipeError(
                f"{kind}: kernel 'given' needs a known kernel: inputs that are degraded here, or one that is told"
                if kernel == "given"
                else f"{kind}: this prior estimates no kernel: put a guidance that does before it, or say kernel: given"
            )
        return theta

    @torch.no_grad()
    def correction(
        self, theta: Tensor, ratio: float | Tensor, iterations: int, believed: Tensor | None = None
    ) -> Tensor:
        """``(A^T A + ratio)^-1 A^T (y - A x0)``, ``(B, 3, H, W)``, for a linear operator: what leads from ``x0`` to
        ``argmin ||y - A x||^2 + ratio ||x - x0||^2``. Exactly for a blur with circular borders and a ratio above 0, for
        others by conjugate gradients, and however few ``iterations`` lower that sum. A constant to gradients.

        ``believed``, as large as ``y``, weighs the pixels of ``y`` in that sum: where it is 0, they are left out. Then,
        too, by conjugate gradients.
        """
        bound = self.degradation.at(theta)
        rest = bound.adjoint(_part(self.y - bound.apply(self.x0), believed))
        if believed is None and isinstance(bound, Blur) and bound.padding == "circular" and _above_zero(ratio):
            return bound.inverse(rest, ratio)

        def product(x: Tensor) -> Tensor:
            return bound.adjoint(_part(bound.apply(x), believed)) + ratio * x

        return conjugate_gradients(product, rest, iterations)


def _above_zero(ratio: float | Tensor) -> bool:
    return bool(torch.as_tensor(ratio).min() > 0)


def _part(y: Tensor, believed: Tensor | None) -> Tensor:
    return y if believed is None else believed * y


@dataclass
class Estimate:
    """A refined clean image, ``(B, 3, H, W)`` in [0, 1], and refined parameters."""

    x0: Tensor
    theta: Tensor | None


class Guidance(Configured[S], ABC):
    """Three places to act in: before the loop, before each transition and after it. All do nothing by default.

    Whatever is computed over an image (a norm, a step length) is computed for each sample by itself:
    an image never depends on its neighbours in a batch.
    """

    needs_gradient: bool = False
    """Whether the loop must track gradients from ``x_t`` through the prior. Weights never have any."""
    estimates_parameters: bool = False
    """Whether it is there to improve the parameters: it is left out where the true ones are given."""

    weights_sha256: str | None = None
    """Of the file with its weights, where its settings name any: results follow from that as well."""
    evaluations_each: int = 0
    """How often ``refine`` and ``correct`` ask the prior in each step, beside the loop."""

    def multiply_adds(self, height: int, width: int) -> int:
        """Of large networks of its own, for a whole result of that size; the prior's evaluations are not among them."""
        return 0

    def unfit(self, degradation: Degradation) -> str | None:
        """Why it cannot serve that operator, in a few words; None where it can. Asked before anything is restored."""
        return None

    def begin(self, problem: Problem, theta: Tensor | None) -> Tensor | None:
        """Before the first step: parameters ``(B, *shape)`` for it to begin with; ``theta`` is what there is so far."""
        return theta

    def refine(self, step: Step) -> Estimate:
        """Before the transition: proximal steps on the image, updates of the parameters."""
        return Estimate(step.x0, step.theta)

    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        """After the transition: move ``x_next`` (padded, in the prior's range)."""
        return x_next


class Known(Guidance[Settings]):
    """Replaces the estimated parameters by the known ones, for inputs that are degraded here.

    With ``sampler.feedback`` the prior restores with them as well, from the second step on.
    """

    def refine(self, step: Step) -> Estimate:
        if step.truth is None:
            raise RecipeError("known: needs known parameters: inputs that are degraded here, or a kernel that is told")
        return Estimate(step.x0, step.truth)


def within(inside: Tensor, around: Tensor) -> Tensor:
    """``around (B, 3, ., .)`` with another picture in its upper left, as padding holds one; or that one itself."""
    if inside.shape == around.shape:
        return inside
    padded = around.clone()
    padded[..., : inside.shape[-2], : inside.shape[-1]] = inside
    return padded


def without_adjoint(degradation: Degradation) -> str | None:
    """Why an operator has no adjoint to solve with; None where it has one."""
    if not degradation.linear:
        return "this operator is not linear"
    return "this operator has no adjoint" if type(degradation).adjoint is Degradation.adjoint else None
