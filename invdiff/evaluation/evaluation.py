"""``invdiff eval``: datasets under seeded kernels, every contender on the same inputs; what is on disk is kept."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import metrics
from ..degradation import Degradation, KernelSpace
from ..errors import ImageError, InvdiffError, one_line
from ..io import pictures as images
from ..io.atomic import write_atomic
from ..io.sheets import array_bytes
from ..kernel_set import KernelSet, TestKernel
from ..method import Case, Restored
from ..metrics.inception import Inception
from ..metrics.lpips import LPIPS
from ..metrics.result import REACH, border_of, parameter_metrics, picture_metrics, residual_rms
from ..sampler import StepRecord
from ..seeds import Stream, content_of, stream
from .contenders import Contender, Solver
from .fid import distances
from .kernels import OwnKernels, draw
from .publish import publish
from .results import Place, Results, Row

OWN = "own"


@dataclass(frozen=True)
class Dataset:
    """A folder of clean pictures, or some of them: what each is called, and its file."""

    name: str
    folder: Path
    files: list[tuple[str, Path]]


@dataclass
class Options:
    """How an evaluation is done, beyond who takes part."""

    kernels: KernelSet = field(default_factory=OwnKernels)
    kernels_label: str = OWN
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
            methods={c.label: c.identity() for c in contenders},
            kernels={options.kernels_label: options.kernels.identity()},
            data={d.name: str(d.folder) for d in datasets},
        )
        self.failures: list[str] = []
        self.total = sum(len(d.files) for d in datasets) * self.repeat * len(contenders)

    def run(self) -> Iterator[Event]:
        """Every picture under its kernels by every contender; a failure is an event, and the others go on."""
        done = 0
        for dataset in self.datasets:
            for stem, path in dataset.files:
                left = self.repeat * len(self.contenders)
                try:
                    clean = self._clean(path)
                    digest = "".join(f"{word:08x}" for word in content_of(clean)[:2])
                    self.results.drop_others(dataset.name, stem, digest)
                    for kernel in self._kernels(clean):
                        case = self._case(clean, kernel)
                        place = Place(dataset.name, stem, self.options.kernels_label, kernel.name, "")
                        for contender in self.contenders:
                            left -= 1
                            done += 1
                            yield self._one(
                                replace(place, method=contender.label), contender, case, clean, digest, done
                            )
                except Exception as error:
                    done += left
                    yield Event(done, self.total, stem, failure=self._failed(str(path), error))

    def publish(self, *, interrupted: bool = False) -> None:
        """Write the tables and the page from all that is in the folder, from earlier calls too."""
        self.results.read()
        fid: dict[tuple[str, str, str], float] = {}
        lines = list(self.options.notes)
        if self.options.inception and interrupted:
            lines.append("FID is left out: interrupted.")
        elif self.options.inception:
            fid, damaged = distances(self.options.inception, self.results)
            lines += damaged
        made = {name for row in self.results.rows.values() for name in row.values}
        recipe, settings = self.main.recipe, self.operator.settings
        crop = "whole pictures" if recipe.input.crop is None else f"centre crops of {recipe.input.crop}"
        facts = [
            f"Recipe {recipe.path}, seed {recipe.seed}; {crop}; noise {settings.noise_sigma:g} on [0, 1], "
            f"{'rounded to 8 bits' if settings.quantize else 'not rounded'}; {self.main.device.type}, "
            f"{torch.get_num_threads()} threads, torch {torch.__version__} in the last call.",
            *(note for note in lines if note.partition(" ")[0] not in made),
        ]
        publish(
            self.results,
            [c.label for c in self.contenders],
            name=f"Evaluation of {recipe.name}",
            facts=facts,
            failures=self.failures,
            fid=fid,
            first=next(c.label for c in self.contenders if isinstance(c, Solver)),
            pictures=self.options.pictures,
        )

    def _one(self, place: Place, contender: Contender, case: Case, clean: Tensor, digest: str, done: int) -> Event:
        label = f"{place.picture}, {place.method}"
        known = self.results.rows.get(place)
        try:
            if known is not None and self._restored(known, contender):
                row = self._with_lpips(known, self.operator.frame(clean))
                if row is not None:
                    return Event(done, self.total, label, row, skipped=row is known)
            row = self._restore(place, contender, case, clean, digest)
        except Exception as error:
            what = f"{place.dataset}/{place.picture}, {place.kernel}, {place.method}"
            return Event(done, self.total, label, failure=self._failed(what, error))
        return Event(done, self.total, label, row)

    def _restored(self, row: Row, contender: Contender) -> bool:
        """Whether an earlier call left the picture, and, if they are asked for, the steps with all that is measured."""
        if self.options.trace and contender.traced:
            wanted = {f"lpips_{network.network}" for network in self.options.networks}
            if not row.trace or not wanted <= set(row.trace[0]):
                return False
        return self.results.path(row.place, ".png").is_file()

    def _with_lpips(self, row: Row, framed: Tensor) -> Row | None:
        """The row, with distances that it lacks measured on its saved picture, which is what they are taken of.

        None where that picture is damaged.
        """
        missing = [n for n in self.options.networks if f"lpips_{n.network}" not in row.values]
        if not missing:
            return row
        try:
            image = images.load(self.results.path(row.place, ".png")).pixels
        except ImageError:
            return None
        found = {f"lpips_{network.network}": network(image, framed) for network in missing}
        row = replace(row, values={**row.values, **_written(found)})
        self.results.save(row)
        return row

    def _failed(self, what: str, error: Exception) -> str:
        if self.options.debug:
            traceback.print_exc()
        text = one_line(error)
        self.failures.append(text if what in text else f"{what}: {text}")
        return self.failures[-1]

    def _clean(self, path: Path) -> Tensor:
        """A clean picture ``(3, H, W)``: the recipe's centre crop, or else cut at the lower right to the scale."""
        clean = images.load(path).to_degrade(self.operator.scale, self.main.recipe.input.crop).pixels
        height, width = clean.shape[-2:]
        space = self.operator.parameters
        if isinstance(space, KernelSpace) and min(height, width) < space.size:
            raise ImageError(f"{path}: {width}x{height} pixels are smaller than the kernel, {space.size}x{space.size}")
        for shown in (clean, self.operator.frame(clean)):  # what is restored is blurred once more, to be measured
            self.operator.output_shape((shown.shape[-2], shown.shape[-1]))  # refuses a picture that is too small
        return clean

    def _kernels(self, clean: Tensor) -> list[TestKernel]:
        return draw(self.options.kernels, self.repeat, self.operator, self.main.recipe.seed, content_of(clean))

    def _case(self, clean: Tensor, kernel: TestKernel) -> Case:
        """The measurement, as the recipe's operator makes it; its noise follows from seed, picture and kernel."""
        generator = stream(self.main.recipe.seed, Stream.MEASUREMENT_NOISE, *content_of(clean, kernel.parameters))
        y = self.operator.corrupt(self.operator.apply(clean[None], kernel.parameters[None]), generator)[0]
        settings = self.operator.settings
        rounding = 1 / 255**2 / 12 if settings.quantize else 0.0
        return Case(y, kernel.parameters, self.operator, float(settings.noise_sigma**2 + rounding) ** 0.5)

    def _restore(self, place: Place, contender: Contender, case: Case, clean: Tensor, digest: str) -> Row:
        framed = self.operator.frame(clean)
        trace: list[dict[str, str]] = []
        first: list[Tensor] = []
        watching = 0.0

        def watch(record: StepRecord) -> None:
            nonlocal watching
            since = time.monotonic()
            trace.append(self._step(record, case, clean, contender.estimates))
            if not first and contender.estimates and record.theta is not None:
                first.append(record.theta[0].cpu())
            watching += time.monotonic() - since

        started = time.monotonic()
        found = contender.restore(case, watch if self.options.trace and contender.traced else None)
        seconds = time.monotonic() - started - watching
        if found.image.shape != framed.shape or not bool(found.image.isfinite().all()):
            shapes = f"{tuple(found.image.shape)} for {tuple(framed.shape)}"
            raise ImageError(f"the method's image is of the wrong size, or not finite ({shapes})")
        values = self._measured(found, case, clean)
        values["noise_rms"], values["seconds"] = case.noise, seconds
        known = self.results.rows.get(place)  # whose picture is gone, or which has no trace: keep the rest
        row = Row(
            place,
            digest,
            {**(known.values if known else {}), **_written(values)},
            trace or (known.trace if known else []),
        )
        self._save(row, found, case, framed, first)
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

    def _save(self, row: Row, found: Restored, case: Case, framed: Tensor, first: list[Tensor]) -> None:
        """A result's files, its record last."""
        results, place = self.results, row.place
        shown = self.operator.frame(self.operator.baseline(case.y[None])[0])
        images.save_png(images.Photo(framed).to_array(), results.truth(place))
        images.save_png(images.Photo(shown).to_array(), results.path(place, ".png", "_input"))
        images.save_png(images.Photo(found.image).to_array(), results.path(place, ".png"))
        kernels = [(case.parameters, ".npy", "_kernels"), (found.parameters, ".kernel.npy", "")]
        kernels += [(kernel, ".first.npy", "") for kernel in first]
        for kernel, suffix, part in kernels if isinstance(self.operator.parameters, KernelSpace) else ():
            if kernel is not None:
                write_atomic(results.path(place, suffix, part), array_bytes(kernel))
        results.save(row)


def _written(values: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in values.items()}
