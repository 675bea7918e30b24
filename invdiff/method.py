"""Methods: other ways to restore a measurement, evaluated beside the recipe on the same inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from .degradation import Degradation
from .settings import Settings


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
class Restored:
    """A clean image ``(3, H, W)`` in [0, 1], and the method's own estimate of the parameters, if it makes one."""

    image: Tensor
    parameters: Tensor | None = None


class Method(ABC):
    """One way to restore. Deterministic: whatever it draws, it draws from seeds of its own."""

    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings if settings is not None else self.Settings()

    def unfit(self, degradation: Degradation) -> str | None:
        """Why it cannot serve that operator, in a few words; None where it can. Asked before anything is restored."""
        return None

    @abstractmethod
    def restore(self, case: Case) -> Restored:
        """The image has the size of ``degradation.frame`` of the clean one."""
