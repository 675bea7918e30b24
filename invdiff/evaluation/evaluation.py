"""``invdiff eval``: datasets under seeded kernels, every contender on the same inputs; what is on disk is kept."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..errors import explained
from ..io.progress import Event, Tell, nobody
from ..kernel_set import KernelSet
from ..metrics.inception import Inception
from ..metrics.result import Judge, border_of
from .bench import Bench
from .contenders import Contender, LineUp
from .fid import distances
from .kernels import OwnKernels
from .plan import Dataset, Plan, PlannedCase
from .publish import Published, publish
from .results import Results
from .summary import Summary

OWN = "own"


@dataclass
class EvaluationOptions:
    """How an evaluation is done, beyond who takes part."""

    kernels: KernelSet = field(default_factory=OwnKernels)
    kernels_label: str = OWN
    repeat: int | None = None
    judges: Sequence[Judge] = ()
    inception: Inception | None = None
    notes: Sequence[str] = ()
    """Lines on what is left out, for the tables' captions."""
    trace: bool = False
    pictures: int = 8
    """How many of each dataset the page shows."""
    debug: bool = False


class Evaluation:
    """One folder of results. ``run()`` does what is missing in it, ``publish()`` makes the tables and the page."""

    def __init__(self, line_up: LineUp, datasets: list[Dataset], folder: Path, options: EvaluationOptions) -> None:
        self.line_up, self.options = line_up, options
        main = line_up.main
        crop = main.recipe.input.crop
        self.plan = Plan(main.pipeline, crop, datasets, options.kernels, options.kernels_label, options.repeat)
        self.results = Results(folder, border_of(self.plan.operator))
        self.results.claim(
            main.recipe.name,
            {"seed": main.recipe.seed, "degradation": main.pipeline.identity["degradation"], "crop": crop},
            methods={contender.label: contender.identity() for contender in line_up.contenders},
            kernels={options.kernels_label: options.kernels.identity()},
            data={dataset.name: str(dataset.folder) for dataset in datasets},
        )
        self.bench = Bench(self.results, options.judges, trace=options.trace)
        self.failures: list[str] = []
        self.made = self.skipped = 0
        self.total = self.plan.total * len(line_up.contenders)

    def run(self, tell: Tell = nobody) -> None:
        """Every picture under its kernels by every contender; a failure is told and noted, and the others go on."""
        done = 0
        for dataset in self.plan.datasets:
            for picture, path in dataset.files:
                end = done + self.plan.repeat * len(self.line_up.contenders)
                try:
                    subject = self.plan.subject(dataset, picture, path)
                    self.results.drop_others(dataset.name, picture, subject.digest)
                    for planned in self.plan.cases(subject):
                        for contender in self.line_up.contenders:
                            failure = self._row(planned, contender)
                            done += 1
                            tell(Event(done, self.total, f"{picture}, {contender.label}", failure=failure))
                except Exception as error:
                    done = end
                    tell(Event(done, self.total, picture, failure=self._failed(str(path), error)))

    def publish(self, *, interrupted: bool = False) -> Published:
        """Write the tables and the page from all that is in the folder, from earlier calls too; what they say."""
        self.results.read()
        fid: dict[tuple[str, str, str], float] = {}
        lines = list(self.options.notes)
        if self.options.inception and interrupted:
            lines.append("FID is left out: interrupted.")
        elif self.options.inception:
            fid, damaged = distances(self.options.inception, self.results)
            lines += damaged
        made = {name for row in self.results.rows.values() for name in row.values}
        return publish(
            self.results,
            Summary(
                name=f"Evaluation of {self.line_up.main.recipe.name}",
                labels=[contender.label for contender in self.line_up.contenders],
                first=self.line_up.main.label,
                facts=[self._how()],
                left_out=[*self.failures, *(line for line in lines if line.partition(" ")[0] not in made)],
                failed=len(self.failures),
                fid=fid,
                pictures=self.options.pictures,
            ),
        )

    def _how(self) -> str:
        """What the inputs are, in a sentence."""
        recipe, settings = self.line_up.main.recipe, self.plan.operator.settings
        crop = "whole pictures" if recipe.input.crop is None else f"centre crops of {recipe.input.crop}"
        rounding = "rounded to 8 bits" if settings.quantize else "not rounded"
        sigma = settings.noise_sigma
        noise = f"{sigma[0]:g} to {sigma[1]:g}" if isinstance(sigma, tuple) else f"{sigma:g}"
        return (
            f"Recipe {recipe.path}, seed {recipe.seed}; {crop}; noise {noise} on [0, 1], {rounding}; "
            f"{self.line_up.main.pipeline.device.type}, {torch.get_num_threads()} threads, torch {torch.__version__} "
            "in the last call."
        )

    def _row(self, planned: PlannedCase, contender: Contender) -> str:
        """One row, made or found; what failed, or nothing."""
        place = replace(planned.place, method=contender.label)
        known = self.results.rows.get(place)
        try:
            row = self.bench.completed(known, planned, contender) if known is not None else None
            if row is None:
                row = self.bench.restored(place, planned, contender)
        except Exception as error:
            return self._failed(f"{place.dataset}/{place.picture}, {place.kernel}, {place.method}", error)
        self.skipped += row is known
        self.made += row is not known
        return ""

    def _failed(self, what: str, error: Exception) -> str:
        if self.options.debug:
            traceback.print_exc()
        text = explained(error)
        self.failures.append(text if what in text else f"{what}: {text}")
        return self.failures[-1]
