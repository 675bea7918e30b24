"""``invdiff run``: many pictures through one pipeline; one that fails does not stop the others."""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..blur import downsample_bicubic
from ..errors import ImageError, InvdiffError, explained
from ..io.atomic import make_folder
from ..io.decoding import load
from ..io.formats import PNG, Format
from ..io.pictures import Photo, eight_bit, sample_photo, save_png
from ..io.plain import plain_data
from ..io.progress import Event, Tell, nobody
from ..metrics.lpips import LPIPS
from ..metrics.result import border_of
from ..pipeline import OnStep, Pipeline
from ..sampler import StepRecord
from .jobs import Job
from .kept_tiles import forget_tiles
from .large import watched
from .progress import JobProgress
from .report import REPORT, conventions_of, is_whole, read_entries, settle_side_files, versions, write_report
from .result import COMPARE, KERNEL, UNCERTAINTY, Result, certificate, entry_of, save, smaller_suffix
from .smaller import Smaller

_SMALL = 128  # pixels a side
_ASIDE, _PREVIEW = "report.edited.json", ".preview.png"


@dataclass(frozen=True)
class RunOptions:
    """How pictures are taken, beyond how they are restored."""

    synthesize: bool = False
    """Inputs are clean: degrade them first, and measure the result against them."""
    crop: int | None = None
    """Side of the centre crop of pictures that are to be degraded; None: whole pictures."""
    halve: bool = False
    """Restore a copy of half the size: noise and grain that drown the finest detail are less there."""
    kernel: Tensor | None = None
    """A known kernel ``(K, K)`` to restore with."""
    lpips: LPIPS | None = None
    samples: int = 1
    """Draws from the posterior; the result is the mean of several."""
    format: Format = PNG
    """What restored pictures are written as; what stands beside them is PNG."""
    denoise: float = 1.0
    """How much of what the result leaves of the photo is noise to be rid of."""
    smaller: Smaller | None = None
    """Also write the result in that size, by antialiased bicubic downsampling."""
    force: bool = False
    """Restore again what is already done."""
    preview: bool = False
    """Keep ``<stem>.preview.png`` at what the last step arrived at, until the picture is done."""
    goes_on: bool = True
    """Keep the tiles of large pictures until they are done, to go on after a kill."""
    debug: bool = False


@dataclass(frozen=True)
class Outcome:
    """One picture's entry in the report, and whether an earlier run had made it."""

    entry: dict[str, Any]
    skipped: bool = False

    @property
    def failed(self) -> bool:
        return "error" in self.entry


Spread = Callable[[Sequence[Job]], Iterator[tuple[Job, Outcome]]]
"""Restores jobs elsewhere: each with what became of it, in any order."""


def failed(job: Job, error: str) -> Outcome:
    """The outcome of a job that came to nothing."""
    return Outcome({"stem": job.stem, "input": job.input, "error": error})


@dataclass(frozen=True)
class Measurement:
    """A degraded picture, and what is known of it: the clean one, cut to the result's frame, and true parameters."""

    photo: Photo
    scene: Tensor | None = None
    """The whole clean picture that was degraded; what lies beyond the photo's frame included."""
    clean: Tensor | None = None
    parameters: Tensor | None = None


@dataclass(frozen=True)
class Prepared:
    """What is known of a job before it is restored.

    ``pipeline`` is the one that restores it, ``why`` says in words why another than was named; ``key`` is what its
    result follows from, and ``done`` the entry of an earlier run with that key, whose files are all there.
    """

    measurement: Measurement
    pipeline: Pipeline
    why: str
    key: str
    done: dict[str, Any] | None


class Run:
    """One call of the command in one folder: ``run()`` restores the jobs in order and keeps ``report.json`` true.

    ``recipe`` is the recipe's path, for the report; ``notes`` are lines on what was found in the folder.
    """

    def __init__(
        self, pipeline: Pipeline, jobs: Sequence[Job], folder: Path, options: RunOptions, recipe: str = ""
    ) -> None:
        pipeline.check_samples(options.samples)
        self.pipeline, self.jobs, self.folder = pipeline.drawing(options.samples), list(jobs), folder
        self.options, self.recipe = options, recipe
        self._check_smaller()
        self._check_names()
        self.outcomes: list[Outcome] = []
        self.report_path = self.folder / REPORT
        self.entries, whole = read_entries(self.report_path, pipeline.identity)
        aside = f"{self.report_path}: not as a run writes it; kept as {_ASIDE}, and what it lacks is done again"
        self.notes = [] if whole else [aside]

    def _check_smaller(self) -> None:
        """Refuse a size that no result has."""
        wanted, scale = self.options.smaller, self.pipeline.degradation.scale
        if wanted is not None and wanted.times is not None and not wanted.times < scale:
            sizes = "it can also be had smaller" if scale > 1 else "name a size in pixels with --size"
            raise InvdiffError(f"--scale {wanted.times:g}: the result is {scale} times the photo's size; {sizes}")

    def _check_names(self) -> None:
        """Refuse to write one file twice, or over what is read."""
        read = {path.resolve(): path for job in self.jobs for path in (job.path, job.reference) if path is not None}
        written: set[str] = set()
        for job in self.jobs:
            for name in [*self.files(job), *([f"{job.stem}{_PREVIEW}"] if self.options.preview else [])]:
                if name in written:
                    raise InvdiffError(f"several inputs would be written to {name}: restore them into several folders")
                over = read.get((self.folder / name).resolve())
                if over is not None:
                    raise InvdiffError(f"{over}: would be written over; choose another name or folder with -o")
                written.add(name)

    def files(self, job: Job) -> list[str]:
        """The names of what a job is written to, the picture's first; of the kernel where one is estimated."""
        options, suffixes = self.options, [self.options.format.suffix, COMPARE]
        if self.pipeline.degradation.parameters.of_blur and options.kernel is None:
            suffixes += KERNEL
        if options.samples > 1:
            suffixes.append(UNCERTAINTY)
        if options.smaller is not None:
            suffixes.append(smaller_suffix(options.smaller, options.format))
        return [job.stem + suffix for suffix in suffixes]

    @property
    def steps(self) -> int:
        """Steps of one picture, in all its draws."""
        return self.pipeline.sampler.steps_in_all * self.options.samples

    def run(self, tell: Tell = nobody, watch: OnStep | None = None, spread: Spread | None = None) -> None:
        """Every job; a failure is told and noted, and the others go on. ``watch`` sees each step's estimates.

        ``spread`` restores them elsewhere; without it, they are restored here, in order.
        """
        make_folder(self.folder)
        self._take_up_report()
        outcomes = self._here(tell, watch) if spread is None else spread(self.jobs)
        for number, (job, outcome) in enumerate(outcomes, start=1):
            self.outcomes.append(outcome)
            settle_side_files(self.folder, self.entries.get(job.stem), outcome.entry)
            self.entries[job.stem] = outcome.entry
            self.write()
            text = outcome.entry.get("error", "")
            failure = text if not text or job.input in text else f"{job.input}: {text}"
            several = len(self.jobs) > 1 and not failure
            line = f"{job.stem}: {outcome.entry['seconds']:.1f} s, {number} of {len(self.jobs)}" if several else ""
            tell(Event(number * self.steps, self.steps * len(self.jobs), job.stem, failure=failure, line=line))
        place = {job.stem: number for number, job in enumerate(self.jobs)}
        self.outcomes.sort(key=lambda outcome: place[outcome.entry["stem"]])

    def _here(self, tell: Tell, watch: OnStep | None) -> Iterator[tuple[Job, Outcome]]:
        """Each job with what became of it; steps are told of as they are gone."""
        for number, job in enumerate(self.jobs):
            progress = JobProgress(tell, job.stem, job.input, number * self.steps, self.steps * len(self.jobs))

            def on_step(record: StepRecord, job: Job = job, progress: JobProgress = progress) -> None:
                progress.step()
                if self.options.preview:
                    shown = self.pipeline.degradation.frame(record.x0)[0].cpu()
                    save_png(eight_bit(shown), self._preview(job), quick=True)
                if watch is not None:
                    watch(record)

            yield job, self.one(job, on_step, progress)

    def one(self, job: Job, on_step: OnStep | None = None, progress: JobProgress | None = None) -> Outcome:
        """Restore one picture, unless that is done; an error is its outcome. ``progress`` hears of large ones."""
        try:
            return self._one(job, on_step, progress)
        except Exception as error:
            if self.options.debug:
                traceback.print_exc()
            # A failure leaves an earlier success of the same picture on disk, but not in the report.
            return failed(job, explained(error))
        finally:
            if self.options.preview:
                self._preview(job).unlink(missing_ok=True)

    def _preview(self, job: Job) -> Path:
        return self.folder / f"{job.stem}{_PREVIEW}"

    def _take_up_report(self) -> None:
        """Entries of earlier runs: another one may have written here since this one was made."""
        earlier, whole = read_entries(self.report_path, self.pipeline.identity)
        self.entries |= earlier
        if not whole:
            os.replace(self.report_path, self.folder / _ASIDE)

    def write(self) -> None:
        """Write ``report.json`` from all that is known."""
        pipeline = self.pipeline
        entries = [self.entries[stem] for stem in sorted(self.entries)]
        write_report(
            self.report_path,
            {
                "recipe": self.recipe,
                "settings": pipeline.identity,
                "seed": pipeline.seed,
                "device": str(pipeline.device),
                "versions": versions(),
                "conventions": conventions_of(entries, border_of(pipeline.degradation)),
                "images": entries,
            },
        )

    def prepared(self, job: Job) -> Prepared:
        """Read a job's picture, and find out what it asks for; raises :class:`InvdiffError` where it cannot be done."""
        measurement = self._measurement(job)
        photo = measurement.photo
        try:
            self.options.format.check(photo, self.pipeline.degradation.scale)
            self._check_sizes_of(photo)
        except InvdiffError as error:
            raise ImageError(f"{job.input}: {error}") from None
        pipeline, why = self.pipeline.choice(photo, self.options.samples)
        key = self._key(measurement, pipeline)
        known = self.entries.get(job.stem)
        done = known is not None and known.get("key") == key and not self.options.force and is_whole(self.folder, known)
        return Prepared(measurement, pipeline, why, key, known if done else None)

    def _check_sizes_of(self, photo: Photo) -> None:
        """Refuse a photo that is too small for the operator, and a size that is larger than this photo's result."""
        height, width = photo.pixels.shape[-2:]
        operator = self.pipeline.degradation
        if min(height, width) < _SMALL:  # others are large enough, and may be too large to be lifted for this
            rows, cols = operator.lift(photo.pixels[None]).shape[-2:]
            operator.output_shape((rows, cols))
        if self.options.smaller is not None:
            self.options.smaller.of((height, width), (operator.scale * height, operator.scale * width))

    def _one(self, job: Job, on_step: OnStep | None, progress: JobProgress | None) -> Outcome:
        ready = self.prepared(job)
        if ready.done is not None:
            forget_tiles(self.folder, job.stem)
            return Outcome(ready.done, skipped=True)
        measurement, pipeline = ready.measurement, ready.pipeline
        height, width = measurement.photo.pixels.shape[-2:]
        place = (self.folder, job.stem, ready.key) if self.options.goes_on else None
        with watched(pipeline, (height, width), self.options.samples, place, progress):
            started = time.monotonic()
            found = self.pipeline.restore(
                measurement.photo,
                kernel=self.options.kernel,
                truth=measurement.parameters,
                callback=on_step,
                samples=self.options.samples,
                denoise=self.options.denoise,
            )
        seconds = time.monotonic() - started
        result = Result(
            pipeline.degradation,
            measurement.photo,
            found.image,
            found.parameters,
            found.findings,
            self.options.kernel is not None,
            found.uncertainty,
            measurement.scene,
            measurement.clean,
            measurement.parameters,
        )
        files = save(result, self.folder, job.stem, self.options.format, self.options.smaller)
        forget_tiles(self.folder, job.stem)
        written = (self.folder / files[0]).read_bytes()
        return Outcome(
            {
                "stem": job.stem,
                "input": job.input,
                "photo": None if job.path is None else str(job.path.absolute()),
                "output": files[0],
                "key": ready.key,
                "seconds": round(seconds, 2),
                "steps": pipeline.sampler.steps_in_all,
                "evaluations": found.evaluations,
                "residual": found.residual,
                **self._entry(result),
                "certificate": certificate(result, written, self.options.format),
                "files": files,
                **({} if pipeline is self.pipeline else {"settings": plain_data(pipeline.identity)}),
            }
        )

    def _entry(self, result: Result) -> dict[str, Any]:
        entry = entry_of(result, [self.options.lpips] if self.options.lpips else [])
        if self.options.halve:
            entry["halved"] = True
            entry["words"]["done"] = f"halved, then {entry['words']['done']}"
        return entry

    def _measurement(self, job: Job) -> Measurement:
        sample = job.input.partition(":")[2]
        photo = sample_photo(sample) if job.path is None else load(job.path)
        operator = self.pipeline.degradation
        if not self.options.synthesize:
            photo = _halved(photo, job, self.pipeline) if self.options.halve else photo
            return Measurement(photo, clean=None if job.reference is None else self._clean(job.reference, job, photo))
        photo = photo.to_degrade(operator.scale, self.options.crop)
        if not min(photo.pixels.shape):
            raise ImageError(f"{job.input}: too small to be degraded by {operator.scale}; give a larger picture")
        y, parameters = self.pipeline.synthesize(photo.pixels)
        return Measurement(photo.restored(y), photo.pixels, operator.frame(photo.pixels), parameters)

    def _clean(self, reference: Path, job: Job, photo: Photo) -> Tensor:
        """The clean picture, cut to whole multiples of the scale."""
        clean = load(reference).pixels
        scale = self.pipeline.degradation.scale
        size = [scale * n for n in photo.pixels.shape[-2:]]
        extra = [have - want for have, want in zip(clean.shape[-2:], size, strict=True)]
        if not all(0 <= e < scale for e in extra):
            have, want = f"{clean.shape[-1]}x{clean.shape[-2]}", f"{size[1]}x{size[0]}"
            raise ImageError(
                f"{reference}: the reference is {have}, the result of {job.input} is {want}; give one of that size"
            )
        return clean[:, : size[0], : size[1]]

    def _key(self, measurement: Measurement, pipeline: Pipeline) -> str:
        """What a result follows from: settings, seed, pixels, a kernel that is told, and what it was measured by."""
        identity = pipeline.identity
        settings = {name: identity.get(name) for name in ("seed", "degradation", "prior", "guidance", "sampler")}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        truth = measurement.clean if measurement.scene is None else measurement.scene
        for tensor in (measurement.photo.pixels, measurement.photo.alpha, truth, measurement.parameters):
            digest.update(b"-" if tensor is None else str(tuple(tensor.shape)).encode())
            digest.update(b"" if tensor is None else tensor.contiguous().numpy().tobytes())
        if self.options.kernel is not None:
            digest.update(b"kernel" + self.options.kernel.contiguous().numpy().tobytes())
        if self.options.samples > 1:
            digest.update(f"samples {self.options.samples} {pipeline.draws!r}".encode())
        if self.options.smaller is not None:
            digest.update(f"smaller {self.options.smaller}".encode())
        if self.options.denoise != 1:
            digest.update(f"denoise {self.options.denoise!r}".encode())
        if self.options.format != PNG:
            digest.update(repr(self.options.format).encode())
        photo = measurement.photo
        digest.update(repr((photo.metadata, photo.jpeg)).encode())
        if photo.grey or photo.deep:
            digest.update(f"grey {photo.grey}, deep {photo.deep}".encode())
        digest.update(str(self.options.lpips and self.options.lpips.network).encode())
        return digest.hexdigest()[:16]


def _halved(photo: Photo, job: Job, pipeline: Pipeline) -> Photo:
    """A copy of half the size, antialiased; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in photo.pixels.shape[-2:])
    if not min(height, width):
        raise ImageError(f"{job.input}: too small to be halved")
    cut = photo.cropped(height, width)
    return cut.restored(downsample_bicubic(cut.shown()[None], 2, wraps=pipeline.degradation.wraps)[0])
