"""What restoring gives, and methods: other ways to restore, evaluated beside the recipe on the same inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .degradation import Degradation
from .settings import Configured, S


@dataclass(frozen=True)
class Case:
    """A measurement ``y (3, h, w)`` in [0, 1], and what is known of how it came about.

    ``parameters (*shape)`` are the true ones, for methods that are told; ``noise`` is the standard
    deviation of noise and rounding together, on [0, 1].
    """

    y: Tensor
    parameters: Tensor
    degradation: Degradation
    noise: float


@dataclass
class Restoration:
    """What restoring gives.

    ``image`` is ``(3, H, W)`` in [0, 1], or what :meth:`invdiff.Pipeline.restore` makes of it: a picture of the
    kind that was handed in. ``parameters (*shape)``, or ``(B, *shape)`` for a batch, are those it was restored
    with: the own estimate, or what was told; None where there are none. ``residual`` is the root mean square of
    ``y - A(x)`` on [0, 1], ``evaluations`` how often a network was asked.
    """

    image: Any
    parameters: Tensor | None = None
    residual: float | None = None
    evaluations: int = 0


class Method(Configured[S], ABC):
    """One way to restore. Deterministic: whatever it draws, it draws from seeds of its own."""

    def unfit(self, degradation: Degradation) -> str | None:
        """Why it cannot serve that operator, in a few words; None where it can. Asked before anything is restored."""
        return None

    @abstractmethod
    def restore(self, case: Case) -> Restoration:
        """The image has the size of ``degradation.frame`` of the clean one."""
