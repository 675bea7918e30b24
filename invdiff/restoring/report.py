"""``report.json``: what was done, with what, and how well."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..io.atomic import write_atomic
from ..metrics.catalogue import METRICS, conventions


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
    return {**found, "residual": "root mean square of y - A(x) on [0, 1], with the parameters it was restored with"}


def read_report(path: Path) -> dict[str, Any]:
    """An earlier run's report, or an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def entries_of(report: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A report's entries by stem; what is none, as after an edit by hand, is left out.

    Those made with other settings than ``settings`` get their own beside them.
    """
    images = report.get("images")
    entries = [e for e in images if isinstance(e, dict)] if isinstance(images, list) else []
    others = {} if report.get("settings") == _plain(settings) else {"settings": report.get("settings")}
    return {e["stem"]: {**others, **e} for e in entries if isinstance(e.get("stem"), str)}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` atomically; numbers that JSON has no word for become null."""
    write_atomic(path, json.dumps(_plain(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
