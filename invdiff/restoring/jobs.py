"""What a run has to do: one job a picture, with a name of its own and the clean picture it is measured against."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InvdiffError
from ..io.decoding import list_pictures

_LONGEST = 200
"""Bytes of a stem: with the longest suffix, and while it is being written, a name has 255 at most."""


@dataclass(frozen=True)
class Job:
    """One picture to restore: a file, or a sample photo by name; ``reference`` is the clean one, if there is any."""

    stem: str
    input: str
    path: Path | None = None
    reference: Path | None = None


def jobs_of(inputs: Sequence[Path]) -> list[Job]:
    """Jobs for files and folders; stems that clash get their suffix in the name."""
    files = list(dict.fromkeys(p for given in inputs for p in list_pictures(given)))
    count = Counter(p.stem for p in files)
    jobs = [Job(_short(p.stem if count[p.stem] == 1 else p.name.replace(".", "_")), str(p), p) for p in files]
    stems = Counter(j.stem for j in jobs)
    clash = [stem for stem, n in stems.items() if n > 1]
    beside = (".compare", ".kernel", ".uncertainty")
    clash += [f"{stem}{extra}" for stem in stems for extra in beside if f"{stem}{extra}" in stems]
    if clash:
        raise InvdiffError(f"several inputs would be written to {clash[0]}.png: restore their folders one by one")
    return jobs


def job_of_sample(name: str) -> Job:
    """The job of a photo that ships with scikit-image."""
    return Job(name, f"sample:{name}")


def with_references(jobs: Sequence[Job], folder: Path, scale: int) -> list[Job]:
    """The jobs with the clean pictures of a folder that belong to them, by stem.

    ``0001x4`` belongs to ``0001`` where the scale is 4, as many data sets name theirs; names are compared as they
    look, however a file system spells them. Raises :class:`InvdiffError` where none belongs to any.
    """
    known = {_spelt(path.stem): path for path in list_pictures(folder)}

    def found(job: Job) -> Path | None:
        stem = _spelt(Path(job.input).stem)
        return known.get(stem) or known.get(stem.removesuffix(f"x{scale}"))

    matched = [replace(job, reference=found(job)) for job in jobs]
    if not any(job.reference for job in matched):
        lacking = f"no picture there has the name of an input, such as {jobs[0].stem}"
        raise InvdiffError(f"--reference {folder}: {lacking}; give the clean ones the inputs' names")
    return matched


def _spelt(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _short(stem: str) -> str:
    """The stem, or as much of it as a file name can hold, and a digest."""
    data = os.fsencode(stem)
    if len(data) <= _LONGEST:
        return stem
    digest = hashlib.sha256(data).hexdigest()[:12]
    return f"{data[: _LONGEST - 13].decode('utf-8', errors='ignore')}~{digest}"
