"""Two folders of ``invdiff eval`` set against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InvdiffError
from ..io.plain import Difference, differences, read_json
from .results import Row, read_csv

EVALUATION, TABLE = "evaluation.json", "results.csv"
Key = tuple[str, str, str]


def settings_apart(a: Path, b: Path) -> list[Difference]:
    """Every setting in which two evaluations differ: inputs, and the methods that both have."""
    old, new = (_read(folder / EVALUATION) for folder in (a, b))
    both = {
        part: [{name: side[part][name] for name in old[part] if name in new[part]} for side in (old, new)]
        for part in ("methods", "kernels")
    }
    found = list(differences(old["inputs"], new["inputs"], "inputs"))
    return found + [d for part, (ours, theirs) in both.items() for d in differences(ours, theirs, part)]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
        if all(isinstance(found[part], dict) for part in ("inputs", "methods", "kernels")):
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InvdiffError(f"{path}: not an evaluation; give a folder that 'invdiff eval' wrote")


def numbers_of(folder: Path) -> dict[Key, dict[tuple[str, str], dict[str, float]]]:
    """By dataset, set of kernels and method, and then by picture and kernel, what was measured."""
    found: dict[Key, dict[tuple[str, str], dict[str, float]]] = {}
    for row in read_csv(folder / TABLE):
        place = row.place
        group = found.setdefault((place.dataset, place.kernels, place.method), {})
        group[place.picture, place.kernel] = _numbers(row)
    return found


def _numbers(row: Row) -> dict[str, float]:
    values = {name: row.number(name) for name in row.values}
    return {name: value for name, value in values.items() if value is not None}
