"""Plain files and plain data, where others may have put something else."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def is_no_file(path: str | os.PathLike[str]) -> bool:
    """Whether something else stands there: a folder, or a pipe or a device, whose reader may wait for ever."""
    place = Path(path)
    return place.exists() and not place.is_file()


def read_json(path: Path) -> Any:
    """What a file of JSON says; :class:`OSError` or :class:`ValueError` for whatever is none."""
    if is_no_file(path):
        raise ValueError("not a file")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """What JSON says; :class:`ValueError` for whatever is none, brackets without end among it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def plain_data(value: Any) -> Any:
    """The same as JSON can say it: numbers that it has no word for become null."""
    if isinstance(value, Mapping):
        return {str(k): plain_data(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_json(value: Any, encoding: str = "utf-8") -> str:
    """Plain data as JSON that people can read; with escapes where it has letters that the encoding lacks."""
    text = json.dumps(plain_data(value), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(plain_data(value), indent=2, allow_nan=False)
    return text


@dataclass(frozen=True)
class Difference:
    """Where two nests of plain data differ: a dotted key, and what stands there in each, as JSON."""

    key: str
    before: str
    now: str


def differences(old: Any, new: Any, key: str = "") -> Iterator[Difference]:
    """Every one; lists of other lengths differ as a whole. What one of them lacks is null there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        pairs = [(name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new])]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(place, a, b) for place, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        if old != new:
            yield Difference(key, json.dumps(old), json.dumps(new))
        return
    for name, a, b in pairs:
        yield from differences(a, b, f"{key}.{name}".strip("."))
