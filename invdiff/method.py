"""What restoring gives, and methods: other ways to restore, evaluated beside the recipe on the same inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from .degradation import Degradation
from .errors import ImageError
from .io.notebook import as_array, enlarged, panels_html
from .io.pictures import encode_png
from .io.sheets import comparison, kernel_picture, uncertainty_picture
from .settings import Configured, S

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .metrics.words import Findings


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


@dataclass(frozen=True)
class TracedStep:
    """What a step of restoring arrived at: ``image (3, H, W)`` in [0, 1], parameters and residual as in the result."""

    image: Tensor
    parameters: Tensor | None
    residual: float | None


@dataclass
class Restoration:
    """What restoring gives. In a notebook it shows itself: before, after, the kernel, and what the numbers say.

    ``image`` is ``(3, H, W)`` in [0, 1], or what :meth:`invdiff.Pipeline.restore` makes of it: a picture of the
    kind that was handed in. ``parameters (*shape)``, or ``(B, *shape)`` for a batch, are those it was restored
    with: the own estimate, or what was told; None where there are none. ``residual`` is the root mean square of
    ``y - A(x)`` on [0, 1], ``evaluations`` how often a network was asked. ``findings`` says of one image, in
    numbers and words, what was found and how well the result explains it. Of several draws ``image`` is the mean and
    ``uncertainty (H, W)`` says how far off each pixel is, a standard deviation on [0, 1]: that of the draws, or of the
    truth about their mean, where the recipe says what was measured. ``before`` is what was handed in, ``trace`` every
    step, if it was asked for.
    """

    image: Any
    parameters: Tensor | None = None
    residual: float | None = None
    evaluations: int = 0
    findings: Findings | None = field(default=None, repr=False)
    uncertainty: Tensor | None = field(default=None, repr=False)
    before: Any = field(default=None, repr=False)
    trace: Sequence[TracedStep] = field(default=(), repr=False)

    def plot(self) -> Figure:
        """Before, after and the kernel, as a matplotlib figure; with a trace also six steps and the residual over all.

        Raises :class:`invdiff.InvdiffError` where matplotlib is not installed.
        """
        from .io.figure import figure

        rows = [self._panels()]
        if self.trace:
            last = len(self.trace) - 1
            chosen = sorted({round(last * part / 5) for part in range(6)})
            named = {f"step {place + 1}": self.trace[place] for place in chosen}
            rows.append({name: as_array(step.image) for name, step in named.items()})
            kernels = {name: kernel_picture(k, 84) for name, step in named.items() if _is_kernel(k := step.parameters)}
            rows += [kernels] if kernels else []
        return figure(rows, [step.residual for step in self.trace], "residual")

    def _panels(self) -> dict[str, np.ndarray]:
        """The pictures worth showing, by name; of a batch the first eight."""
        if isinstance(self.image, Tensor) and self.image.ndim == 4:
            return {f"restored {place}": as_array(image) for place, image in enumerate(self.image[:8], 1)}
        shown = {} if self.before is None else {"before": as_array(self.before)}
        shown["restored"] = as_array(self.image)
        if _is_kernel(self.parameters):
            shown["kernel"] = kernel_picture(self.parameters, 210)
        if self.uncertainty is not None:
            shown["uncertainty"] = uncertainty_picture(self.uncertainty)[0]
        return shown

    def _words(self) -> list[str]:
        from .metrics.catalogue import RESIDUAL

        found = [] if self.findings is None else list(self.findings.words.values())
        found += [] if self.residual is None else [f"residual {RESIDUAL.number(self.residual)}: {RESIDUAL.meaning}"]
        if self.parameters is not None and not _is_kernel(self.parameters) and self.parameters.ndim == 1:
            found.append("parameters " + ", ".join(f"{value:.4g}" for value in self.parameters.tolist()))
        return found + ([f"{self.evaluations} evaluations of the network"] if self.evaluations else [])

    def _repr_html_(self) -> str:
        return panels_html(self._panels(), self._words())

    def _repr_png_(self) -> bytes:
        """Before and after side by side, the kernel in the corner; after alone where nothing else is known."""
        shown = self._panels()
        pictures = [picture for name, picture in shown.items() if name not in ("kernel", "uncertainty")]
        height, width = pictures[-1].shape[:2]
        same = [enlarged(picture, (height, width)) for picture in pictures]
        images = [torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255 for picture in same]
        kernels = [None] * (len(images) - 1) + [self.parameters if "kernel" in shown else None]
        return encode_png(comparison(list(zip(images, kernels, strict=True))))


def _is_kernel(parameters: Tensor | None) -> TypeGuard[Tensor]:
    """Whether those of one image are a picture themselves."""
    return parameters is not None and parameters.ndim == 2


class Method(Configured[S], ABC):
    """One way to restore. Deterministic: whatever it draws, it draws from seeds of its own."""

    def unfit(self, degradation: Degradation) -> str | None:
        """Why it cannot serve that operator, in a few words; None where it can. Asked before anything is restored."""
        return None

    @property
    def wants_estimate(self) -> bool:
        """Whether ``case.parameters`` shall be those that the evaluated recipe estimates, and not the true ones."""
        return False

    @abstractmethod
    def restore(self, case: Case) -> Restoration:
        """The image has the size of ``degradation.frame`` of the clean one."""


def joined(singles: list[Restoration]) -> Restoration:
    """Those of a batch as one."""
    if not singles:
        raise ImageError("an empty batch")
    residuals = [s.residual for s in singles if s.residual is not None]
    parameters = [s.parameters for s in singles if s.parameters is not None]
    deviations = [s.uncertainty for s in singles if s.uncertainty is not None]
    return Restoration(
        torch.stack([s.image for s in singles]),
        torch.stack(parameters) if parameters else None,
        sum(residuals) / len(residuals) if residuals else None,
        singles[0].evaluations,
        uncertainty=torch.stack(deviations) if deviations else None,
    )
