"""Two folders of ``invdiff run``, or two of its pictures, set against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageError, InvdiffError
from ..io.decoding import load
from ..io.plain import Difference, differences, read_json
from ..metrics.picture import psnr_rgb
from .report import REPORT, is_entry


def read_report(folder: Path) -> dict[str, Any]:
    """A folder's report; :class:`InvdiffError` for what is none."""
    path = folder / REPORT
    try:
        report = read_json(path)
        if isinstance(report["settings"], dict) and all(map(is_entry, report["images"])):
            return dict(report)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InvdiffError(f"{path}: not a report of 'invdiff run'; give a folder that it wrote")


def numbers_of(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By picture, what was measured of it; those that failed are left out."""
    found = {}
    for image in report["images"]:
        if "error" not in image:
            values = {**(image.get("metrics") or {}), **{name: image.get(name) for name in ("residual", "seconds")}}
            found[image["stem"]] = {name: float(value) for name, value in values.items() if value is not None}
    return found


def settings_apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Every setting in which two reports differ."""
    return list(differences(a["settings"], b["settings"]))


def pictures_apart(places: Sequence[tuple[Path, Mapping[str, Any]]], stems: Sequence[str]) -> dict[str, float]:
    """By picture that two folders, each with its report, have in one size: how near the two are, PSNR-RGB in dB."""
    files = [{e["stem"]: folder / str(e.get("output")) for e in report["images"]} for folder, report in places]
    found = {}
    for stem in stems:
        try:
            ours, theirs = (load(named[stem]).pixels for named in files)
        except ImageError:
            continue
        if ours.shape == theirs.shape:
            found[stem] = psnr_rgb(ours, theirs)
    return found
