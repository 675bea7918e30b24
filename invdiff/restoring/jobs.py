"""What a run has to do: one job a picture, each with a name of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvdiffError
from ..io import pictures as images
from ..pipeline import Pipeline


@dataclass(frozen=True)
class Job:
    """One picture to restore: a file, or a sample photo by name."""

    stem: str
    source: str
    path: Path | None = None


def make_jobs(pipeline: Pipeline, inputs: list[Path]) -> list[Job]:
    """Jobs for files and folders, or for the recipe's sample; stems that clash get their suffix in the name."""
    if not inputs:
        sample = pipeline.recipe.input.sample
        if sample is None:
            raise InvdiffError(f"{pipeline.recipe.path}: the recipe has no input.sample; name pictures with -i")
        return [Job(sample, f"sample:{sample}")]
    files = list(dict.fromkeys(p for given in inputs for p in images.list_images(given)))
    count = Counter(p.stem for p in files)
    jobs = [Job(p.stem if count[p.stem] == 1 else p.name.replace(".", "_"), str(p), p) for p in files]
    stems = Counter(j.stem for j in jobs)
    clash = [stem for stem, n in stems.items() if n > 1]
    clash += [f"{stem}{extra}" for stem in stems for extra in (".compare", ".kernel") if f"{stem}{extra}" in stems]
    if clash:
        raise InvdiffError(f"several inputs would be written to {clash[0]}.png: restore their folders one by one")
    return jobs
