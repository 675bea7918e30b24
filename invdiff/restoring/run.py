"""``invdiff run``: many pictures through one pipeline; one that fails does not stop the others."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..degradation import BoxSpace, KernelSpace
from ..errors import ImageError, one_line
from ..io import pictures as images
from ..io.atomic import make_folder
from ..io.pictures import Photo
from ..io.sheets import comparison, save_kernel
from ..metrics.lpips import LPIPS
from ..metrics.result import border_of, parameter_metrics, picture_metrics
from ..pipeline import Pipeline
from ..sampler import StepRecord
from .jobs import Job
from .report import read_report, versions, write_report


@dataclass
class Options:
    """What the command line adds to a recipe."""

    synthesize: bool = False
    reference: Path | None = None
    lpips: LPIPS | None = None
    force: bool = False
    debug: bool = False


@dataclass
class Outcome:
    """One picture's entry in the report, and whether an earlier run had made it."""

    entry: dict[str, Any]
    skipped: bool = False

    @property
    def failed(self) -> bool:
        return "error" in self.entry


@dataclass
class Truth:
    """What is known about a picture besides the measurement; all None for a real photo."""

    clean: Tensor | None = None
    parameters: Tensor | None = None


@dataclass
class Run:
    """One call: ``outcomes()`` restores the jobs in order and keeps ``report.json`` up to date."""

    pipeline: Pipeline
    folder: Path
    options: Options
    jobs: list[Job]
    on_step: Callable[[Job, StepRecord], None] | None = None
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_folder(self.folder)
        self.settings = self.pipeline.resolved()
        self.report_path = self.folder / "report.json"
        previous = read_report(self.report_path)
        self.entries = {e["stem"]: e for e in previous.get("images") or [] if isinstance(e, dict) and "stem" in e}

    def outcomes(self) -> Iterator[Outcome]:
        for job in self.jobs:
            try:
                outcome = self._one(job)
            except Exception as error:
                if self.options.debug:
                    traceback.print_exc()
                # A failure leaves an earlier success of the same picture on disk, but not in the report.
                outcome = Outcome({"stem": job.stem, "input": job.source, "error": one_line(error)})
            self.entries[job.stem] = outcome.entry
            self.write()
            yield outcome

    def write(self) -> None:
        recipe, border = self.pipeline.recipe, border_of(self.pipeline.degradation)
        write_report(
            self.report_path,
            {
                "recipe": str(recipe.path),
                "settings": self.settings,
                "seed": recipe.seed,
                "device": str(self.pipeline.device),
                "versions": versions(),
                "conventions": {
                    "psnr_y": f"BT.601 luma, border {border}, 8-bit output",
                    "ssim_y": f"Gaussian window, luma, border {border}",
                    "lpips": self.options.lpips.network if self.options.lpips else None,
                    "psnr_rgb": "all channels, whole picture, 8-bit output",
                    "kernel_l1": "sum of absolute differences of unit-sum kernels",
                    "kernel_l1_shifted": "the same after the best shift by whole pixels; baseline: no blur",
                    "mnc": "maximum normalised cross-correlation of the kernels; baseline: no blur",
                    "kernel_psnr_shifted": "after the best shift; peak: the true kernel's largest value",
                    "lr_psnr": "truth degraded with the estimated kernel against truth degraded with its own",
                    "residual": "root mean square of y - A(x) on [0, 1]",
                },
                "images": [self.entries[k] for k in sorted(self.entries)],
            },
        )

    def _one(self, job: Job) -> Outcome:
        photo, truth = self._measurement(job)
        key = self._key(job, photo, truth)
        known = self.entries.get(job.stem)
        if known is not None and known.get("key") == key and not self.options.force:
            files = known.get("files") or [""]
            if all((self.folder / name).is_file() for name in files):
                return Outcome(known, skipped=True)
        started = time.monotonic()
        callback = (lambda record: self.on_step(job, record)) if self.on_step else None  # type: ignore[misc]
        result = self.pipeline.restore(photo, callback=callback, given=truth.parameters)
        seconds = time.monotonic() - started
        entry: dict[str, Any] = {
            "stem": job.stem,
            "input": job.source,
            "output": f"{job.stem}.png",
            "key": key,
            "seconds": round(seconds, 2),
            "steps": self.pipeline.recipe.sampler.steps,
            "evaluations": result.evaluations,
            "residual": result.residual,
        }
        if result.parameters is not None:
            entry |= self._numbers(result.parameters, truth.parameters)
        entry["metrics"] = self._metrics(photo, result.image, result.parameters, truth)
        entry["files"] = self._save(job, photo, result.image, result.parameters, truth)
        return Outcome(entry)

    def _measurement(self, job: Job) -> tuple[Photo, Truth]:
        """The degraded picture, and what is known about it."""
        photo = images.sample_photo(job.source.partition(":")[2]) if job.path is None else images.load(job.path)
        scale = self.pipeline.degradation.scale
        if not self.options.synthesize:
            return photo, Truth(self._reference(job, photo) if self.options.reference else None)
        photo = photo.to_degrade(scale, self.pipeline.recipe.input.crop)
        if not min(photo.pixels.shape):
            raise ImageError(f"{job.source}: too small to be degraded by {scale}")
        y, parameters = self.pipeline.synthesize(photo.pixels)
        return photo.restored(y), Truth(photo.pixels, parameters)

    def _reference(self, job: Job, photo: Photo) -> Tensor | None:
        """The clean picture of the same stem, cut to whole multiples of the scale; None where there is none."""
        assert self.options.reference is not None
        stem = Path(job.source).stem
        found = [p for p in images.list_images(self.options.reference) if p.stem == stem]
        if not found:
            return None
        clean = images.load(found[0]).pixels
        scale = self.pipeline.degradation.scale
        size = [scale * n for n in photo.pixels.shape[-2:]]
        extra = [have - want for have, want in zip(clean.shape[-2:], size, strict=True)]
        if not all(0 <= e < scale for e in extra):
            have, want = f"{clean.shape[-1]}x{clean.shape[-2]}", f"{size[1]}x{size[0]}"
            raise ImageError(f"{found[0]}: the reference is {have}, the result of {job.source} is {want}")
        return clean[:, : size[0], : size[1]]

    def _metrics(
        self, photo: Photo, restored: Photo, parameters: Tensor | None, truth: Truth
    ) -> dict[str, float] | None:
        if truth.clean is None:
            return None
        operator = self.pipeline.degradation
        networks = [self.options.lpips] if self.options.lpips else []
        clean = operator.frame(truth.clean) if self.options.synthesize else truth.clean
        found: dict[str, float] = {}
        for suffix, image in (("", restored.pixels), ("_baseline", self._baseline(photo))):
            measured = picture_metrics(image, clean, operator, networks)
            found |= {f"{name}{suffix}": value for name, value in measured.items()}
        if truth.parameters is None or parameters is None:
            return found
        found |= parameter_metrics(parameters, truth.parameters, truth.clean, operator)
        if "kernel_l1_shifted" in found:
            still = _no_blur(parameters)
            found["kernel_l1_shifted_baseline"] = metrics.kernel_l1_shifted(still, truth.parameters)
            found["mnc_baseline"] = metrics.mnc(still, truth.parameters)
        return found

    def _numbers(self, parameters: Tensor, truth: Tensor | None) -> dict[str, dict[str, float]]:
        """Named parameters, for the report; a kernel has files of its own."""
        space = self.pipeline.degradation.parameters
        if not isinstance(space, BoxSpace):
            return {}
        known = {"parameters": parameters, **({} if truth is None else {"true_parameters": truth})}
        return {key: dict(zip(space.names, value.tolist(), strict=True)) for key, value in known.items()}

    def _baseline(self, photo: Photo) -> Tensor:
        operator = self.pipeline.degradation
        return operator.frame(operator.baseline(photo.pixels[None])[0])

    def _save(self, job: Job, photo: Photo, restored: Photo, parameters: Tensor | None, truth: Truth) -> list[str]:
        """Write the files of one picture and return their names."""
        suffixes = [".png", ".compare.png"]
        shows = isinstance(self.pipeline.degradation.parameters, KernelSpace)
        kernel, true_kernel = (parameters, truth.parameters) if shows else (None, None)
        panels = [(self._baseline(photo), None), (restored.pixels, kernel)]
        if truth.clean is not None:
            clean = self.pipeline.degradation.frame(truth.clean) if self.options.synthesize else truth.clean
            panels.append((clean, true_kernel))
        images.save_png(comparison(panels), self.folder / f"{job.stem}.compare.png")
        if kernel is not None:
            save_kernel(kernel, self.folder, job.stem)
            suffixes += [".kernel.png", ".kernel.npy"]
        images.save_png(restored.to_array(), self.folder / f"{job.stem}.png")
        return [job.stem + suffix for suffix in suffixes]

    def _key(self, job: Job, photo: Photo, truth: Truth) -> str:
        """What a result follows from: settings, seed, pixels, and what it was measured by."""
        settings = {name: self.settings[name] for name in ("seed", "degradation", "prior", "guidance", "sampler")}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for tensor in (photo.pixels, truth.clean, truth.parameters):
            digest.update(b"-" if tensor is None else tensor.contiguous().numpy().tobytes())
        digest.update(str(self.options.lpips and self.options.lpips.network).encode())
        return digest.hexdigest()[:16]


def _no_blur(like: Tensor) -> Tensor:
    kernel = torch.zeros_like(like)
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
    return kernel


def means(entries: list[dict[str, Any]]) -> dict[str, float]:
    """Mean of each metric over the entries that have it."""
    found = [e["metrics"] for e in entries if e.get("metrics")]
    names = dict.fromkeys(name for m in found for name in m)
    return {n: float(torch.tensor([m[n] for m in found if m.get(n) is not None]).double().mean()) for n in names}
