"""``log.jsonl``, a line for each record of a run, and ``log.svg``, the curve of its validation."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ..io.atomic import write_atomic
from ..io.plot import plot


class Log:
    """The records of a run in its folder; each has its ``step``."""

    def __init__(self, folder: Path) -> None:
        self.path, self.picture = folder / "log.jsonl", folder / "log.svg"

    def append(self, record: dict[str, Any]) -> None:
        """Add a line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Every record; a line that a full disk or a kill cut short is left out."""
        found: list[dict[str, Any]] = []
        if not self.path.exists():
            return found
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("step"), int):
                    found.append(record)
        return found

    def forget_after(self, step: int) -> None:
        """Drop what came after a step: it will be written again."""
        if self.path.exists():
            kept = [json.dumps(record) + "\n" for record in self.records() if record["step"] <= step]
            write_atomic(self.path, "".join(kept))

    def draw(self, baseline: float) -> None:
        """The curve of the validation so far, beside what one would show without restoring."""
        curve = [(r["step"], r["validation"]["psnr_y"]) for r in self.records() if "validation" in r]
        curves = {"one step, averaged weights": curve, "not restored": [(step, baseline) for step, _ in curve]}
        write_atomic(self.picture, plot(curves, "PSNR-Y on the validation pictures (dB)"))
