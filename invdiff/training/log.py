"""``log.jsonl``, a line for each record of a run, and ``log.svg``, the curve of its validation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..io.atomic import naming, write_atomic
from ..io.plain import parse_json
from ..io.plot import plot
from .board import Board


@dataclass
class Losses:
    """The losses of the steps since the last line of the log, to be its mean: total, of the image, of parameters."""

    sums: Tensor = field(default_factory=lambda: torch.zeros(3))
    steps: int = 0

    def add(self, values: Tensor) -> None:
        self.sums, self.steps = self.sums + values, self.steps + 1

    def mean(self) -> Tensor:
        return self.sums / self.steps


class Log:
    """The records of a run in its folder, and on a board where there is one; each has its ``step``."""

    def __init__(self, folder: Path, board: Board | None = None) -> None:
        self.path, self.picture = folder / "log.jsonl", folder / "log.svg"
        self.board = board

    @contextlib.contextmanager
    def after(self, step: int) -> Iterator[None]:
        """Within it, a run goes on after a step: what came later is dropped, it will be written again."""
        self._forget_after(step)
        with self.board.after(step) if self.board else contextlib.nullcontext():
            yield

    def append(self, record: dict[str, Any]) -> None:
        """Add a line."""
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.board:
            self.board.add(record)

    def records(self) -> list[dict[str, Any]]:
        """Every record; a line that a full disk or a kill cut short is left out."""
        found: list[dict[str, Any]] = []
        if not self.path.exists():
            return found
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                record = parse_json(line)
                if isinstance(record, dict) and isinstance(record.get("step"), int):
                    found.append(record)
        return found

    def _forget_after(self, step: int) -> None:
        if self.path.exists():
            kept = [json.dumps(record) + "\n" for record in self.records() if record["step"] <= step]
            write_atomic(self.path, "".join(kept))

    def draw(self, baseline: float) -> None:
        """The curve of the validation so far, beside what one would show without restoring."""
        measured = [(r["step"], _psnr(r)) for r in self.records()]
        curve = [(step, value) for step, value in measured if value is not None]
        curves = {"one step, averaged weights": curve, "not restored": [(step, baseline) for step, _ in curve]}
        write_atomic(self.picture, plot(curves, "PSNR-Y on the validation pictures (dB)"))


def _psnr(record: Mapping[str, Any]) -> float | None:
    """Of a validation; None for other records, and for what somebody edited."""
    found = record.get("validation")
    value = found.get("psnr_y") if isinstance(found, dict) else None
    return value if isinstance(value, float) else None
