"""What a run would do, found out without restoring anything, or writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import explained
from .forecast import forecast
from .run import Run


@dataclass(frozen=True)
class Plan:
    """Of one picture: its size and its result's, width first, the recipe and why it is not the one that was named.

    ``halved`` says that the size is that of a copy of half the photo's; ``done`` that an earlier run has made it;
    ``files`` are what it is written to. ``evaluations`` are those of the network, ``multiply_adds`` theirs,
    ``peak_bytes`` what one of them takes, weights included, and ``seconds`` what all take here; ``takes`` says so in
    words. Of a picture that cannot be restored there is the ``error``, and nothing else.
    """

    stem: str
    input: str
    error: str | None = None
    size: tuple[int, int] | None = None
    result: tuple[int, int] | None = None
    halved: bool = False
    recipe: str = ""
    why: str = ""
    done: bool = False
    files: tuple[str, ...] = ()
    steps: int = 0
    evaluations: int = 0
    multiply_adds: int = 0
    peak_bytes: int = 0
    seconds: float = 0.0
    takes: str = ""


def plans(run: Run) -> Iterator[Plan]:
    """One for each job, in order."""

    for job in run.jobs:
        try:
            ready = run.prepared(job)
            height, width = ready.measurement.photo.pixels.shape[-2:]
            pipeline, draws = ready.pipeline, run.options.samples
            scale, steps = pipeline.degradation.scale, draws * pipeline.sampler.steps_in_all
            takes = forecast(pipeline, height, width, draws)
            yield Plan(
                job.stem,
                job.input,
                size=(width, height),
                result=(scale * width, scale * height),
                halved=run.options.halve,
                recipe=str(pipeline.identity.get("name", "")),
                why=ready.why,
                done=ready.done is not None,
                files=tuple(run.files(job)),
                steps=steps,
                evaluations=draws * pipeline.evaluations,
                multiply_adds=takes.multiply_adds,
                peak_bytes=takes.peak_bytes,
                seconds=takes.seconds,
                takes=str(takes),
            )
        except Exception as error:
            yield Plan(job.stem, job.input, explained(error))
