"""Where results go, and as what: a folder, or for one photo a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InvdiffError
from ..io.decoding import named_as_picture
from ..io.formats import KINDS, PNG, Format
from .jobs import Job


@dataclass(frozen=True)
class Destination:
    """The folder of all results and of the report; where a file was named, ``stem`` is its name without the suffix."""

    folder: Path
    format: Format = PNG
    stem: str | None = None

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs, of one that goes into a file with its name; raises :class:`InvdiffError` where they are several."""
        if self.stem is None:
            return list(jobs)
        if len(jobs) > 1:
            file = self.folder / f"{self.stem}{self.format.suffix}"
            raise InvdiffError(f"{file}: is one file, and there are {len(jobs)} photos; name a folder with -o")
        return [replace(job, stem=self.stem) for job in jobs]


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
