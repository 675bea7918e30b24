"""Plain files and plain data, where others may have put something else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def is_no_file(path: str | os.PathLike[str]) -> bool:
    """Whether something else stands there: a folder, or a pipe or a device, whose reader may wait for ever."""
    place = Path(path)
    return place.exists() and not place.is_file()


def parse_json(text: str) -> Any:
    """What JSON says; :class:`ValueError` for whatever is none, brackets without end among it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
