"""Where results go, and as what: a folder, or for one photo a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InvdiffError
from ..io.decoding import named_as_picture
from ..io.formats import KINDS, PNG, Format
from .jobs import Job
from .report import REPORT, read_entries
from .result import COMPARE, KERNEL, UNCERTAINTY


@dataclass(frozen=True)
class Destination:
    """The folder of all results and of the report; where a file was named, ``stem`` is its name without the suffix."""

    folder: Path
    format: Format = PNG
    stem: str | None = None

    def of(self, jobs: Sequence[Job], *, force: bool = False) -> list[Job]:
        """The jobs, of one that goes into a file with its name.

        Raises :class:`InvdiffError` where these are several, and where a job would replace the result that an earlier
        run made in this folder of another photo of the same name, or what stands beside one, unless with ``force``.
        """
        if self.stem is None:
            if not force:
                self._check_others(jobs)
            return list(jobs)
        if len(jobs) > 1:
            file = self.folder / f"{self.stem}{self.format.suffix}"
            raise InvdiffError(f"{file}: is one file, and there are {len(jobs)} photos; name a folder with -o")
        return [replace(job, stem=self.stem) for job in jobs]

    def _check_others(self, jobs: Sequence[Job]) -> None:
        entries, _ = read_entries(self.folder / REPORT, {})
        files = [(stem, entry.get("files")) for stem, entry in entries.items()]  # of any type: a report can be edited
        lists = [(stem, list(map(str, names))) for stem, names in files if isinstance(names, list)]
        pictures = {name: stem for stem, names in lists for name in names[:1]}
        beside = {name: stem for stem, names in lists for name in names[1:]}
        for job in jobs:
            written = [(pictures, job.stem + end) for end in (COMPARE, UNCERTAINTY, *KERNEL)]
            for theirs, name in [(beside, job.stem + self.format.suffix), *written]:
                if theirs.get(name, job.stem) != job.stem:
                    what = f"{self.folder / name} belongs to the result of {entries[theirs[name]].get('input')}"
                    raise InvdiffError(f"{job.input}: {what}; name another folder with -o, or --force")
            entry = entries.get(job.stem, {})
            other, result = Path(str(entry.get("photo"))), self.folder / str(entry.get("output"))
            if job.path is None or not (other.is_file() and result.is_file()) or other.samefile(job.path):
                continue
            raise InvdiffError(
                f"{job.input}: {result} is the result of {other}; name another folder with -o, or --force"
            )


def destination_of(place: Path, kind: str | None = None, quality: int | None = None) -> Destination:
    """What ``-o``, ``--format`` and ``--quality`` ask for; raises :class:`InvdiffError` where they do not agree.

    A place that has the name of a picture and is no folder is a file, and its suffix says the kind.
    """
    if str(place) == "-":
        raise InvdiffError("-o -: results are files; name a folder or a file")
    file = not place.is_dir() and named_as_picture(place)
    suffix = place.suffix if file else f".{kind or 'png'}"
    if suffix.lower() not in KINDS:
        raise InvdiffError(f"{place}: {suffix} is not written; end the name in {', '.join(KINDS)}, or name a folder")
    form = Format(suffix) if quality is None else Format(suffix, quality)
    if file and kind is not None and form.kind != KINDS[f".{kind}"]:
        raise InvdiffError(f"--format {kind}: {place} is named as another; leave the option out, or name a folder")
    if form.lossless and quality is not None:
        raise InvdiffError(f"--quality {quality}: goes with jpg and webp; {form.kind} keeps every bit")
    return Destination(place.parent, form, place.stem) if file else Destination(place, form)
