"""What a run would do, found out without restoring anything, or writing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ..errors import explained
from ..metrics.cost import Cost, cost
from ..pipeline import Pipeline
from .run import Run


@dataclass(frozen=True)
class Plan:
    """Of one picture: its size and its result's, width first, the recipe and why it is not the one that was named.

    ``done`` says that an earlier run has made it; ``files`` are what it is written to. ``evaluations`` are those of the
    network, ``multiply_adds`` theirs, and ``peak_bytes`` what one of them takes, weights included. Of a picture that
    cannot be restored there is the ``error``, and nothing else.
    """

    stem: str
    input: str
    error: str | None = None
    size: tuple[int, int] | None = None
    result: tuple[int, int] | None = None
    recipe: str = ""
    why: str = ""
    done: bool = False
    files: tuple[str, ...] = ()
    steps: int = 0
    evaluations: int = 0
    multiply_adds: int = 0
    peak_bytes: int = 0


def plans(run: Run) -> Iterator[Plan]:
    """One for each job, in order."""

    @cache
    def cost_of(pipeline: Pipeline, side: int) -> Cost:
        return cost(pipeline.prior, pipeline.guidance, pipeline.sampler.steps, side)

    for job in run.jobs:
        try:
            ready = run.prepared(job)
            height, width = ready.measurement.photo.pixels.shape[-2:]
            pipeline, draws = ready.pipeline, run.options.samples
            scale, steps = pipeline.degradation.scale, draws * pipeline.sampler.steps
            costs = cost_of(pipeline, math.isqrt(scale * height * scale * width))  # of a square with as many pixels
            yield Plan(
                job.stem,
                job.input,
                size=(width, height),
                result=(scale * width, scale * height),
                recipe=str(pipeline.identity.get("name", "")),
                why=ready.why,
                done=ready.done is not None,
                files=tuple(run.files(job)),
                steps=steps,
                evaluations=steps * (1 + sum(guide.evaluations_each for guide in pipeline.guidance)),
                multiply_adds=draws * costs.image,
                peak_bytes=costs.peak_bytes,
            )
        except Exception as error:
            yield Plan(job.stem, job.input, explained(error))
