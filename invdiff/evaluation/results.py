"""A folder of results: what stands in it, whose it is, and the table made from it.

A result is a record and a picture beside it, ``pictures/<dataset>/<method>/<picture>.<kernel>.{json,png}``.
Everything else in the folder is made from those, so nothing is lost by an interruption.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvdiffError
from ..io.atomic import file_name, make_folder, write_atomic
from ..io.plain import differences, read_json
from ..metrics.catalogue import METRICS

FORMAT = 1
KEYS = ("dataset", "picture", "kernels", "kernel", "method")
BORDER = "luma_border"
"""The column that says how many pixels luma metrics leave out along the border."""


@dataclass(frozen=True)
class Place:
    """Where a result stands in the table."""

    dataset: str
    picture: str
    kernels: str
    kernel: str
    method: str

    @property
    def case(self) -> str:
        """File name, without suffix, of what belongs to this picture under this kernel."""
        return "@".join(map(file_name, (self.picture, self.kernels, self.kernel)))


@dataclass
class Row:
    """One result. ``values`` are by metric, written as in the table; ``trace`` is such a mapping for each step.

    ``digest`` is the clean picture's.
    """

    place: Place
    digest: str
    values: dict[str, str]
    trace: list[dict[str, str]] = field(default_factory=list)

    def number(self, column: str) -> float | None:
        return float(self.values[column]) if self.values.get(column) else None


class Results:
    """The records of one folder, by place."""

    def __init__(self, folder: Path, luma_border: int) -> None:
        self.folder, self.luma_border = make_folder(folder), luma_border
        self.rows: dict[Place, Row] = {}
        self.read()

    def read(self) -> None:
        """Every record that is on disk, another process's too."""
        self.rows = {}
        for file in sorted((self.folder / "pictures").glob("*/*/*.json")):
            row = _read_row(file)
            if row is not None and self.path(row.place, ".json") == file:
                self.rows[row.place] = row

    def claim(self, recipe: str, inputs: Mapping[str, Any], **named: Mapping[str, Any]) -> None:
        """Make the folder this evaluation's; an error that names the first difference where it is another's.

        ``named`` are methods, kernels and data by label: those of earlier calls are kept, what both know
        must be the same.
        """
        path = self.folder / "evaluation.json"
        ours = json.loads(json.dumps({"inputs": inputs, **named}))
        theirs: dict[str, Any] = {}
        if path.exists():
            try:
                theirs = read_json(path)
                readable = theirs["format"] == FORMAT and all(isinstance(theirs[part], dict) for part in ours)
            except (OSError, ValueError, KeyError, TypeError):
                readable = False
            if not readable:
                raise InvdiffError(f"{path}: not readable as an evaluation: choose another folder with -o")
            difference = f"recipe {recipe}" if theirs.get("recipe") != recipe else ""
            for part in ours:
                both = [key for key in theirs[part] if key in ours[part] or part == "inputs"]
                old, new = ({key: side[part].get(key) for key in both} for side in (theirs, ours))
                first = next((f"{d.key}: {d.before}, now {d.now}" for d in differences(old, new, part)), "")
                difference = difference or first
            if difference:
                raise InvdiffError(
                    f"{self.folder}: holds results of {theirs.get('recipe')} with other settings ({difference}): "
                    "choose another folder with -o"
                )
            ours = {part: {**theirs[part], **found} for part, found in ours.items()}
        whole = {"format": FORMAT, "recipe": recipe, **ours}
        write_atomic(path, json.dumps(whole, indent=2) + "\n")

    def path(self, place: Place, suffix: str, part: str = "") -> Path:
        """A file of a result; with ``part``, one that all methods share, such as the input."""
        folder = self.folder / "pictures" / file_name(place.dataset) / (part or file_name(place.method))
        return folder / f"{place.case}{suffix}"

    def truth(self, place: Place) -> Path:
        return self.folder / "pictures" / file_name(place.dataset) / "_truth" / f"{file_name(place.picture)}.png"

    def save(self, row: Row) -> None:
        """Write a record, last of a result's files: where it stands, the others do."""
        self.rows[row.place] = row
        record = {**asdict(row.place), "digest": row.digest, "values": row.values, "trace": row.trace}
        write_atomic(self.path(row.place, ".json"), json.dumps(record) + "\n")

    def drop_others(self, dataset: str, picture: str, digest: str) -> None:
        """Forget what any method made, under any kernel, of another picture that had this one's name."""
        for row in list(self.rows.values()):
            if (row.place.picture, row.place.dataset) == (picture, dataset) and row.digest != digest:
                for suffix in (".json", ".kernel.npy", ".first.npy", ".png"):
                    self.path(row.place, suffix).unlink(missing_ok=True)
                del self.rows[row.place]

    def ordered(self, methods: Iterable[str] = ()) -> list[Row]:
        """All rows: by dataset, kernels, picture and kernel, then methods in the order given, others after them."""
        order = {label: i for i, label in enumerate(methods)}
        return sorted(
            self.rows.values(),
            key=lambda r: (
                r.place.dataset,
                r.place.kernels,
                r.place.picture,
                r.place.kernel,
                order.get(r.place.method, len(order)),
                r.place.method,
            ),
        )

    def write_csv(self, rows: list[Row]) -> None:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([*KEYS, BORDER, *METRICS])
        for row in rows:
            numbers = (row.values.get(name, "") for name in METRICS)
            writer.writerow([*map(as_text, asdict(row.place).values()), self.luma_border, *numbers])
        write_atomic(self.folder / "results.csv", table.getvalue())


def read_csv(path: Path) -> list[Row]:
    """The rows of a ``results.csv``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            return [
                Row(Place(*(_from_text(r[k]) for k in KEYS)), "", {n: r[n] for n in METRICS if r.get(n)})
                for r in reader
            ]
    except (OSError, ValueError, KeyError, csv.Error):
        raise InvdiffError(
            f"{path}: not readable as a results.csv; 'invdiff eval' into its folder writes it anew"
        ) from None


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def as_text(cell: str) -> str:
    """A name that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _from_text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") else cell


def mean(rows: Iterable[Row], column: str) -> float | None:
    """Over the rows that have it; NaN is no value."""
    found = [v for v in (row.number(column) for row in rows) if v is not None and not math.isnan(v)]
    return sum(found) / len(found) if found else None


def _read_row(file: Path) -> Row | None:
    """A record, or None for what is none: it will be made again."""
    try:
        data = read_json(file)
        trace = [_numbers(step, whole=("step", "t")) for step in data["trace"]]
        return Row(Place(*(str(data[key]) for key in KEYS)), str(data["digest"]), _numbers(data["values"]), trace)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _numbers(found: Mapping[str, Any], whole: Sequence[str] = ()) -> dict[str, str]:
    """Numbers by name as they were written; an error where one is none, or those named ``whole`` are not there."""
    numbers = {str(name): str(value) for name, value in found.items()}
    for value in numbers.values():
        float(value)
    for name in whole:
        int(numbers[name])
    return numbers
