"""The numbers of ``log.jsonl`` as TensorBoard reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..io.atomic import make_folder

_NO_CURVES = {"step", "steps"}


class Board:
    """A folder of TensorBoard's files, through ``torch.utils.tensorboard``; what a run says goes there as well."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise TrainingError("--tensorboard needs its package: pip install 'invdiff[tensorboard]'") from None
        self.folder, self._make = make_folder(folder), SummaryWriter
        self._writer: Any = None

    @contextlib.contextmanager
    def after(self, step: int) -> Iterator[None]:
        """Within it, a run goes on after a step: what was written of later ones is no longer shown."""
        self._writer = self._make(str(self.folder), purge_step=step + 1)
        try:
            yield
        finally:
            self._writer.close()

    def add(self, record: Mapping[str, Any]) -> None:
        """A record of the log, each number a curve."""
        for name, value in _numbers(record):
            self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()


def _numbers(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{above}{name}/")
        elif isinstance(value, (int, float)) and name not in _NO_CURVES:
            yield above + name, value
