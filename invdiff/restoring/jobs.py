"""What a run has to do: one job a picture, with a name of its own and the clean picture it is measured against."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..errors import InvdiffError
from ..io.decoding import list_pictures
from .report import REPORT, read_entries

_LONGEST = 200
"""Bytes of a stem: with the longest suffix, and while it is being written, a name has 255 at most."""


@dataclass(frozen=True)
class Job:
    """One picture to restore: a file, or a sample photo by name; ``reference`` is the clean one, if there is any.

    Its results are called ``stem`` and a suffix each; ``name`` is what the picture is called in the folder that was
    given, without its suffix. Both have slashes where it lies in a folder below.
    """

    stem: str
    input: str
    path: Path | None = None
    reference: Path | None = None
    name: str = ""


def jobs_of(inputs: Sequence[Path], *, recursive: bool = False) -> list[Job]:
    """Jobs for files and folders, with ``recursive`` for those below as well; names that clash get their suffix."""
    names: dict[Path, str] = {}
    seen: set[str] = set()  # a file may be spelt in several ways
    for given in inputs:
        beside = beside_results(given)
        for path in list_pictures(given, recursive=recursive):
            if path not in beside and os.path.abspath(path) not in seen:
                seen.add(os.path.abspath(path))
                names[path] = _name(path, given)
    count = Counter(names.values())
    jobs = []
    for path, name in names.items():
        stem = PurePosixPath(name if count[name] == 1 else f"{name[: -len(path.stem)]}{path.name.replace('.', '_')}")
        jobs.append(Job("/".join(map(_short, stem.parts)), str(path), path, name=name))
    return jobs


def beside_results(folder: Path) -> set[Path]:
    """What an earlier run has written into a folder beside its results: comparisons, kernels and so on."""
    entries, _ = read_entries(folder / REPORT, {})
    named = (entry.get("files") for entry in entries.values())
    return {folder / str(name) for names in named if isinstance(names, list) for name in names[1:]}


def job_of_sample(name: str) -> Job:
    """The job of a photo that ships with scikit-image."""
    return Job(name, f"sample:{name}")


def with_references(jobs: Sequence[Job], folder: Path, scale: int, *, recursive: bool = False) -> list[Job]:
    """The jobs with the clean pictures of a folder that belong to them, by name.

    ``0001x4`` belongs to ``0001`` where the scale is 4, as many data sets name theirs; names are compared as they
    look, however a file system spells them. Raises :class:`InvdiffError` where none belongs to any.
    """
    known = {_spelt(_name(path, folder)): path for path in list_pictures(folder, recursive=recursive)}

    def found(job: Job) -> Path | None:
        name = _spelt(job.name)
        return known.get(name) or known.get(name.removesuffix(f"x{scale}"))

    matched = [replace(job, reference=found(job)) for job in jobs]
    if not any(job.reference for job in matched):
        lacking = f"no picture there has the name of an input, such as {jobs[0].name or jobs[0].stem}"
        raise InvdiffError(f"--reference {folder}: {lacking}; give the clean ones the inputs' names")
    return matched


def _name(path: Path, given: Path) -> str:
    """What a picture is called in the folder that was given, or as a file, without its suffix."""
    inside = path.relative_to(given) if given.is_dir() else Path(path.name)
    return (inside.parent / path.stem).as_posix()


def _spelt(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _short(stem: str) -> str:
    """The stem, or as much of it as a file name can hold, and a digest."""
    data = os.fsencode(stem)
    if len(data) <= _LONGEST:
        return stem
    digest = hashlib.sha256(data).hexdigest()[:12]
    return f"{data[: _LONGEST - 13].decode('utf-8', errors='ignore')}~{digest}"
