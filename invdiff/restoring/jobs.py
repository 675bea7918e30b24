"""What a run has to do: one job a picture, each with a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvdiffError
from ..io.pictures import list_pictures


@dataclass(frozen=True)
class Job:
    """One picture to restore: a file, or a sample photo by name."""

    stem: str
    input: str
    path: Path | None = None


def jobs_of(inputs: Sequence[Path]) -> list[Job]:
    """Jobs for files and folders; stems that clash get their suffix in the name."""
    files = list(dict.fromkeys(p for given in inputs for p in list_pictures(given)))
    count = Counter(p.stem for p in files)
    jobs = [Job(p.stem if count[p.stem] == 1 else p.name.replace(".", "_"), str(p), p) for p in files]
    stems = Counter(j.stem for j in jobs)
    clash = [stem for stem, n in stems.items() if n > 1]
    clash += [f"{stem}{extra}" for stem in stems for extra in (".compare", ".kernel") if f"{stem}{extra}" in stems]
    if clash:
        raise InvdiffError(f"several inputs would be written to {clash[0]}.png: restore their folders one by one")
    return jobs


def job_of_sample(name: str) -> Job:
    """The job of a photo that ships with scikit-image."""
    return Job(name, f"sample:{name}")
