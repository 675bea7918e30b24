"""One restored picture: what is measured of it, and the files that it becomes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..blur import resize_bicubic
from ..degradation import BoxSpace, Degradation
from ..errors import ImageError
from ..io.atomic import write_atomic
from ..io.formats import Format
from ..io.pictures import Photo, save_png
from ..io.sheets import comparison, save_kernel, uncertainty_picture
from ..metrics.lpips import LPIPS
from ..metrics.result import parameter_metrics, picture_metrics, residual_rms
from ..metrics.words import Findings
from .smaller import Smaller


@dataclass(frozen=True)
class Result:
    """A photo, what it became, and what is known of the truth.

    ``parameters (*shape)`` are those it was restored with, ``findings`` what was found; ``told`` says that the
    parameters were not estimated. ``scene`` is the whole clean picture that was degraded, ``clean`` the part of it that
    the result shows, ``truth`` the true parameters; ``uncertainty`` is that of several draws.
    """

    operator: Degradation
    photo: Photo
    restored: Photo
    parameters: Tensor | None = None
    findings: Findings | None = None
    told: bool = False
    uncertainty: Tensor | None = None
    scene: Tensor | None = None
    clean: Tensor | None = None
    truth: Tensor | None = None

    @property
    def estimate(self) -> Tensor | None:
        """The parameters, if they were estimated."""
        return None if self.told else self.parameters

    @property
    def baseline(self) -> Tensor:
        """What one would show without restoring."""
        return self.operator.frame(self.operator.baseline(self.photo.pixels[None])[0])


def entry_of(result: Result, networks: Sequence[LPIPS]) -> dict[str, Any]:
    """What ``report.json`` says of the result itself: what was found, named parameters, and metrics where the truth is
    known."""
    entry: dict[str, Any] = {}
    if result.findings is not None:
        entry |= {"words": result.findings.words, "findings": result.findings.numbers}
    if result.uncertainty is not None:
        white = entry["uncertainty_white"] = uncertainty_picture(result.uncertainty)[1]
        entry["words"]["map"] = f"white in the uncertainty map is {255 * white:.0f} grey levels or more"
    space = result.operator.parameters
    if isinstance(space, BoxSpace) and result.estimate is not None:
        known = {"parameters": result.estimate, "true_parameters": result.truth}
        for name, value in known.items():
            if value is not None:
                entry[name] = dict(zip(space.names, value.tolist(), strict=True))
    entry["metrics"] = None if result.clean is None else _metrics(result, result.clean, networks)
    return entry


def _metrics(result: Result, clean: Tensor, networks: Sequence[LPIPS]) -> dict[str, float]:
    """By name; ``<name>_baseline`` is the same of what one would show without restoring."""
    operator, space = result.operator, result.operator.parameters
    found: dict[str, float] = {}
    for suffix, image in (("", result.restored.pixels), ("_baseline", result.baseline)):
        measured = picture_metrics(image, clean, operator, networks)
        found |= {f"{name}{suffix}": value for name, value in measured.items()}
    if result.truth is None or result.estimate is None or result.scene is None:
        return found
    found |= parameter_metrics(result.estimate, result.truth, result.scene, operator)
    if "kernel_l1_shifted" in found:
        still = space.neutral(result.estimate[None])[0]
        found["kernel_l1_shifted_baseline"] = metrics.kernel_l1_shifted(still, result.truth)
        found["kernel_mnc_baseline"] = metrics.mnc(still, result.truth)
    return found


def certificate(result: Result, written: bytes, form: Format) -> dict[str, Any] | None:
    """What whoever has the files can verify: the ``written`` picture, degraded again, against the photo, in dB, beside
    what noise and compression leave. None where no parameters are known, or the picture is too small to be degraded."""
    if result.parameters is None or result.findings is None:
        return None
    as_written = form.pixels_in(written, result.restored)
    try:
        again = residual_rms(as_written, result.parameters, result.photo.shown(), result.operator)
    except ImageError:
        return None
    return {
        "consistency": -20 * math.log10(max(again, 1e-10)),
        "noise": -20 * math.log10(result.findings.floor),
        "sha256": hashlib.sha256(written).hexdigest(),
    }


COMPARE, UNCERTAINTY, KERNEL = ".compare.png", ".uncertainty.png", (".kernel.png", ".kernel.npy")
"""What stands beside a result, by the end of its name."""


def smaller_suffix(size: Smaller, form: Format) -> str:
    """The end of the name of a result in another size."""
    return f".{size}{form.suffix}"


def save(result: Result, folder: Path, stem: str, form: Format, smaller: Smaller | None = None) -> list[str]:
    """Write the files of one picture, the picture itself last, and return their names, the picture's first.

    ``smaller`` adds the result in that size, by antialiased bicubic downsampling.
    """
    suffixes = [form.suffix, COMPARE]
    size = (result.photo.pixels.shape[-2], result.photo.pixels.shape[-1])
    known = (result.estimate, result.truth)
    kernel, true_kernel = (None if theta is None else result.operator.shown(theta, size) for theta in known)
    panels = [(result.baseline, None), (result.restored.pixels, kernel)]
    if result.clean is not None:
        panels.append((result.clean, true_kernel))
    save_png(comparison(panels), folder / f"{stem}{COMPARE}", quick=True)
    if kernel is not None:
        save_kernel(kernel, folder, stem)
        suffixes += KERNEL
    if result.uncertainty is not None:
        save_png(uncertainty_picture(result.uncertainty)[0], folder / f"{stem}{UNCERTAINTY}")
        suffixes.append(UNCERTAINTY)
    if smaller is not None:
        whole = result.restored.pixels
        shape = smaller.of(size, (whole.shape[-2], whole.shape[-1]))
        shrunk = resize_bicubic(whole, *shape, wraps=result.operator.wraps)
        write_atomic(folder / f"{stem}{smaller_suffix(smaller, form)}", form.encode(result.restored.restored(shrunk)))
        suffixes.append(smaller_suffix(smaller, form))
    write_atomic(folder / f"{stem}{form.suffix}", form.encode(result.restored))
    return [stem + suffix for suffix in suffixes]


def means(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean of each metric over the report's entries that have it."""
    found = [e["metrics"] for e in entries if e.get("metrics")]
    names = dict.fromkeys(name for m in found for name in m)
    return {n: float(torch.tensor([m[n] for m in found if m.get(n) is not None]).double().mean()) for n in names}
