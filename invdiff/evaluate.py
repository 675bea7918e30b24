"""``invdiff eval``: datasets under seeded kernels, every contender on the same inputs; what is on disk is kept."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import images, metrics
from .contenders import Contender, Solver, build_kind, gather
from .degradation import Degradation, KernelSpace
from .errors import ImageError, InvdiffError, one_line
from .fid import Inception, distances, find_inception
from .files import content_of, slug, stream, write_atomic
from .kernel_files import SUFFIXES as KERNEL_SUFFIXES
from .kernel_set import FileKernels, KernelSet, OwnKernels, TestKernel, draw
from .lpips import LPIPS, find_networks
from .measure import REACH, border_of, parameter_metrics, picture_metrics, residual_rms
from .method import Case, Restored
from .plugins import registry as installed
from .publish import publish
from .report import array_bytes, is_kernel
from .results import Place, Results, Row
from .sampler import StepRecord

_NOISE = 32  # random stream


@dataclass(frozen=True)
class Dataset:
    """A folder of clean pictures (or a single one): stems and files, by name."""

    name: str
    files: list[tuple[str, Path]]


@dataclass
class Options:
    """How an evaluation is done, beyond who takes part."""

    kernels: KernelSet = field(default_factory=OwnKernels)
    kernels_label: str = "own"
    repeat: int | None = None
    networks: Sequence[LPIPS] = ()
    inception: Inception | None = None
    notes: Sequence[str] = ()
    """Lines on what is left out, for the tables' captions."""
    trace: bool = False
    pictures: int = 8
    """How many of each dataset the page shows."""
    debug: bool = False


@dataclass
class Event:
    """What happened last, a row done or found or a failure, and how far all is."""

    done: int
    total: int
    label: str
    row: Row | None = None
    failure: str = ""
    skipped: bool = False


def prepare(
    recipe: Path,
    data: Sequence[Path],
    folder: Path,
    *,
    kernels: str | None = None,
    limit: int | None = None,
    methods: Sequence[str] = (),
    variants: Sequence[str] = (),
    lpips: Path | None = None,
    fid: Path | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str = "auto",
    **others: Any,
) -> Evaluation:
    """An evaluation from what a command line says; every mistake in it is an error here, before anything is restored.

    ``kernels`` is a registered set (``"kind: key=value"``) or a file or folder of measured ones; None is what the
    recipe's operator draws. ``others`` are fields of :class:`Options`.
    """
    datasets = find_datasets(data, limit)
    contenders = gather(recipe, installed(), methods, variants, overrides, seed, device)
    networks, notes = find_networks(lpips)
    inception, lines = find_inception(fid)
    options = Options(networks=networks, inception=inception, notes=[*notes, *lines], **others)
    if kernels is not None:
        operator = next(c for c in contenders if isinstance(c, Solver)).pipeline.degradation
        options.kernels, options.kernels_label = find_kernels(kernels, operator)
    return Evaluation(contenders, datasets, folder, options)


def find_kernels(text: str, operator: Degradation) -> tuple[KernelSet, str]:
    """A set of kernels and its label, from a registered name or from a file or folder."""
    if not isinstance(operator.parameters, KernelSpace):
        raise InvdiffError(f"--kernels {text}: the recipe's operator has no kernel")
    kind = text.partition(":")[0].strip()
    path = Path(text)
    if kind not in installed().kinds("kernels") and (path.exists() or path.suffix.lower() in KERNEL_SUFFIXES):
        return FileKernels(path, operator), path.stem
    return build_kind("kernels", text, installed(), "--kernels")[1], text


def find_datasets(places: Sequence[Path], limit: int | None = None) -> list[Dataset]:
    """Folders of pictures, the first ``limit`` of each by name; an error that names one without any."""
    found = []
    for place in places:
        files = images.list_images(place)[:limit]
        stems = Counter(slug(p.stem) for p in files)
        named = [(p.stem if stems[slug(p.stem)] == 1 else p.name.replace(".", "_"), p) for p in files]
        written = Counter(slug(name) for name, _ in named)
        clash = [path for name, path in named if written[slug(name)] > 1]
        if clash:
            raise InvdiffError(f"{clash[0]}: another picture of the folder has nearly the same name: rename one")
        found.append(Dataset(place.resolve().name if place.is_dir() else place.stem, named))
    names = Counter(dataset.name for dataset in found)
    for name, count in names.items():
        if count > 1:
            raise InvdiffError(f"two datasets are called '{name}': evaluate them into folders of their own")
    return found


class Evaluation:
    """One folder of results. ``run()`` does what is missing in it."""

    def __init__(self, contenders: list[Contender], datasets: list[Dataset], folder: Path, options: Options) -> None:
        self.contenders, self.datasets, self.options = contenders, datasets, options
        self.main = next(c for c in contenders if isinstance(c, Solver)).pipeline
        self.operator: Degradation = self.main.degradation
        count = options.kernels.count
        self.repeat = options.repeat or count or 1
        if count is not None and self.repeat > count:
            raise InvdiffError(f"--repeat {self.repeat}: there are {count} kernels in this set")
        recipe = self.main.recipe
        self.results = Results(folder, border_of(self.operator))
        self.results.claim(
            recipe.name,
            {"seed": recipe.seed, "degradation": recipe.resolved()["degradation"], "crop": recipe.input.crop},
            {c.label: c.identity() for c in contenders},
        )
        self.failures: list[str] = []
        self.total = sum(len(d.files) for d in datasets) * self.repeat * len(contenders)

    def run(self) -> Iterator[Event]:
        """Every picture under its kernels by every contender; a failure is an event, and the others go on."""
        done = 0
        for dataset in self.datasets:
            for stem, path in dataset.files:
                share = self.repeat * len(self.contenders)
                try:
                    clean = self._clean(path)
                    kernels = self._kernels(clean)
                except Exception as error:
                    done += share
                    yield Event(done, self.total, stem, failure=self._failed(str(path), error))
                    continue
                for kernel in kernels:
                    case = self._case(clean, kernel)
                    for contender in self.contenders:
                        place = Place(dataset.name, stem, self.options.kernels_label, kernel.name, contender.label)
                        done += 1
                        yield self._one(place, contender, case, clean, done)

    def publish(self) -> None:
        """Write the tables and the page from all that is in the folder, from earlier calls too."""
        recipe, settings = self.main.recipe, self.operator.settings
        crop = "whole pictures" if recipe.input.crop is None else f"centre crops of {recipe.input.crop}"
        facts = [
            f"Recipe {recipe.path}, seed {recipe.seed}; {crop}; noise {settings.noise_sigma:g} on [0, 1], "
            f"{'rounded to 8 bits' if settings.quantize else 'not rounded'}; {self.main.device.type}, "
            f"{torch.get_num_threads()} threads, torch {torch.__version__}.",
            *self.options.notes,
        ]
        publish(
            self.results,
            [c.label for c in self.contenders],
            name=f"Evaluation of {recipe.name}",
            facts=facts,
            failures=self.failures,
            fid=distances(self.options.inception, self.results) if self.options.inception else None,
            first=next(c.label for c in self.contenders if isinstance(c, Solver)),
            pictures=self.options.pictures,
        )

    def _one(self, place: Place, contender: Contender, case: Case, clean: Tensor, done: int) -> Event:
        digest = hashlib.sha256(str(content_of(case.y, case.parameters, clean)).encode()).hexdigest()[:16]
        label = f"{place.picture}, {place.method}"
        known = self.results.rows.get(place)
        if known is not None and known.digest == digest and self._complete(known, contender):
            return Event(done, self.total, label, known, skipped=True)
        try:
            row = self._restore(place, contender, case, clean, digest)
        except Exception as error:
            what = f"{place.dataset}/{place.picture}, {place.kernel}, {place.method}"
            return Event(done, self.total, label, failure=self._failed(what, error))
        return Event(done, self.total, label, row)

    def _complete(self, row: Row, contender: Contender) -> bool:
        wanted = {f"lpips_{network.network}" for network in self.options.networks}
        traced = row.trace or not (self.options.trace and contender.traced)
        return wanted <= set(row.values) and bool(traced) and self.results.path(row.place, ".png").is_file()

    def _failed(self, what: str, error: Exception) -> str:
        if self.options.debug:
            traceback.print_exc()
        text = one_line(error)
        self.failures.append(text if what in text else f"{what}: {text}")
        return self.failures[-1]

    def _clean(self, path: Path) -> Tensor:
        """A clean picture ``(3, H, W)``: the recipe's centre crop, or else cut at the lower right to the scale."""
        photo, scale, side = images.load(path), self.operator.scale, self.main.recipe.input.crop
        height, width = (min(n, side or n) for n in photo.pixels.shape[-2:])
        height, width = height - height % scale, width - width % scale
        space = self.operator.parameters
        if isinstance(space, KernelSpace) and min(height, width) < space.size:
            raise ImageError(f"{path}: {width}x{height} pixels are smaller than the kernel, {space.size}x{space.size}")
        self.operator.output_shape((height, width))  # refuses a picture that is too small
        return photo.cropped(height, width, centre=side is not None).pixels

    def _kernels(self, clean: Tensor) -> list[TestKernel]:
        return draw(self.options.kernels, self.repeat, self.operator, self.main.recipe.seed, content_of(clean))

    def _case(self, clean: Tensor, kernel: TestKernel) -> Case:
        """The measurement, as the recipe's operator makes it; its noise follows from seed, picture and kernel."""
        generator = stream(self.main.recipe.seed, _NOISE, *content_of(clean, kernel.parameters))
        y = self.operator.corrupt(self.operator.apply(clean[None], kernel.parameters[None]), generator)[0]
        settings = self.operator.settings
        rounding = 1 / 255**2 / 12 if settings.quantize else 0.0
        return Case(y, kernel.parameters, self.operator, float(settings.noise_sigma**2 + rounding) ** 0.5)

    def _restore(self, place: Place, contender: Contender, case: Case, clean: Tensor, digest: str) -> Row:
        framed = self.operator.frame(clean)
        steps: list[StepRecord] = []
        started = time.monotonic()
        found = contender.restore(case, steps.append if self.options.trace and contender.traced else None)
        seconds = time.monotonic() - started
        if found.image.shape != framed.shape or not bool(found.image.isfinite().all()):
            shapes = f"{tuple(found.image.shape)} for {tuple(framed.shape)}"
            raise ImageError(f"the method's image is of the wrong size, or not finite ({shapes})")
        values = self._measured(found, case, clean)
        values["noise_rms"], values["seconds"] = case.noise, seconds
        trace = [self._step(s, case, clean, contender.estimates) for s in steps]
        row = Row(place, digest, _written(values), trace)
        self._save(row, found, case, framed, steps)
        return row

    def _measured(self, found: Restored, case: Case, clean: Tensor) -> dict[str, float]:
        """All metrics of a result, by column."""
        operator, framed = self.operator, self.operator.frame(clean)
        values = self._named(picture_metrics(found.image, framed, operator, self.options.networks))
        if operator.scale == 1:
            values["psnr_rgb_shifted"] = metrics.psnr_rgb_shifted(metrics.round8(found.image), framed, REACH)
        values["residual_true_rms"] = residual_rms(found.image, case.parameters, case.y, operator)
        if found.parameters is not None:
            values |= self._named(parameter_metrics(found.parameters, case.parameters, clean, operator))
            values["residual_own_rms"] = residual_rms(found.image, found.parameters, case.y, operator)
        return values

    def _named(self, measured: dict[str, float]) -> dict[str, float]:
        """With the convention in each name."""
        border = self.results.border
        names = {"psnr_y": f"psnr_y_border{border}", "ssim_y": f"ssim_y_border{border}", "mnc": "kernel_mnc"}
        return {names.get(name, name): value for name, value in measured.items()}

    def _step(self, record: StepRecord, case: Case, clean: Tensor, estimates: bool) -> dict[str, str]:
        """One step of a trace: the metrics of what is the restored picture there, and of the parameters."""
        image = self.operator.frame(record.x0)[0].cpu().clamp(0, 1)
        values = picture_metrics(image, self.operator.frame(clean), self.operator, self.options.networks)
        if estimates and record.theta is not None:
            values |= parameter_metrics(record.theta[0].cpu(), case.parameters, clean, self.operator)
        return {"step": str(record.index + 1), "t": str(record.t), **_written(self._named(values))}

    def _save(self, row: Row, found: Restored, case: Case, framed: Tensor, steps: list[StepRecord]) -> None:
        """A result's files, its record last."""
        results, place = self.results, row.place
        shown = self.operator.frame(self.operator.baseline(case.y[None])[0])
        images.save_png(images.Photo(framed).to_array(), results.truth(place))
        images.save_png(images.Photo(shown).to_array(), results.path(place, ".png", "_input"))
        images.save_png(images.Photo(found.image).to_array(), results.path(place, ".png"))
        kernels = [(case.parameters, ".npy", "_kernels"), (found.parameters, ".kernel.npy", "")]
        if found.parameters is not None and steps and steps[0].theta is not None:
            kernels.append((steps[0].theta[0].cpu(), ".first.npy", ""))
        for kernel, suffix, part in kernels:
            if kernel is not None and is_kernel(kernel):
                write_atomic(results.path(place, suffix, part), array_bytes(kernel))
        results.save(row)


def _written(values: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in values.items()}
