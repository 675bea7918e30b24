"""``report.json``: what was done, with what, and how well."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import ImageError
from ..io.atomic import write_atomic
from ..io.decoding import load
from ..io.plain import as_json, plain_data, read_json
from ..metrics.catalogue import METRICS, RESIDUAL, conventions

REPORT = "report.json"
"""What is known of every picture of a folder, in that folder."""


@cache
def versions() -> dict[str, str]:
    """What a result may depend on besides the recipe."""
    return {
        "invdiff": version("invdiff"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": Image.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def conventions_of(entries: Sequence[Mapping[str, Any]], border: int) -> dict[str, str]:
    """What the numbers of these entries mean, by name; a ``_baseline`` follows the same convention."""
    there = {name for entry in entries for name in entry.get("metrics") or {}}
    found = conventions([name for name in METRICS if name in there], border)
    return {**found, RESIDUAL.name: RESIDUAL.convention}


def settle_side_files(folder: Path, earlier: Mapping[str, Any] | None, entry: dict[str, Any]) -> None:
    """What an earlier run left beside a picture, its kernel or a smaller copy, and this one did not make: where the
    picture is still the same, the entry names it, too; where it is another, it is removed.

    A report can be edited: nothing goes that is not called after the picture.
    """
    before, now = (earlier or {}).get("files"), entry.get("files")
    if earlier is None or not isinstance(before, list) or not isinstance(now, list) or before[:1] != now[:1]:
        return
    for name in map(str, before):
        if name in now or not name.startswith(f"{entry['stem']}.") or ".." in Path(name).parts:
            continue
        what = "key" if entry.get("certificate") is None else "certificate"
        if earlier.get(what) != entry.get(what):
            (folder / name).unlink(missing_ok=True)
        elif (folder / name).is_file():
            now.append(name)


def read_entries(path: Path, settings: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], bool]:
    """The entries of an earlier run's report by stem, and whether all of it is as a run writes it.

    What is not, as after an edit by hand, is left out. Entries made with other settings than ``settings`` get their
    own beside them.
    """
    if not path.exists():
        return {}, True
    try:
        report = read_json(path)
    except (OSError, ValueError):
        return {}, False
    images = report.get("images") if isinstance(report, dict) else None
    if not isinstance(images, list):
        return {}, False
    theirs = report.get("settings")
    others = {} if theirs == plain_data(settings) else {"settings": theirs}
    entries = {e["stem"]: {**others, **e} for e in images if is_entry(e)}
    return entries, len(entries) == len(images)


def is_whole(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether all that an entry names is there, and its picture as it was written, or one that somebody edited."""
    files = entry.get("files")
    if not isinstance(files, list) or not files:
        return False
    places = [folder / str(name) for name in files]
    if not all(place.is_file() and place.stat().st_size for place in places):
        return False
    certificate = entry.get("certificate")
    certified = certificate.get("sha256") if isinstance(certificate, dict) else None
    with places[0].open("rb") as written:
        if hashlib.file_digest(written, "sha256").hexdigest() == certified:
            return True
    try:
        load(places[0])
    except ImageError:
        return False
    return True


def is_entry(found: Any) -> bool:
    """A failure, or a result with the numbers that tables are made of."""
    if not isinstance(found, dict) or not isinstance(found.get("stem"), str):
        return False
    metrics = found.get("metrics") or {}
    if not isinstance(metrics, dict):
        return False
    numbers = [found.get("seconds", 0.0 if "error" in found else None)]
    numbers += [value for value in (found.get("residual"), *metrics.values()) if value is not None]
    return all(isinstance(value, (int, float)) for value in numbers)


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` atomically; numbers that JSON has no word for become null."""
    write_atomic(path, as_json(report) + "\n")
