"""What is kept of a fault of ours: a file to send with a report. Of the pictures there is nothing in it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from ..errors import one_line, without_values
from ..hookspecs import GROUP

_PACKAGES = ("torch", "numpy", "scipy", "pillow", "tifffile", "pydantic", "click", "safetensors")


def keep_crash(error: Exception) -> Path | None:
    """Write versions, command and traceback to the system's temporary folder; None where that cannot be written."""
    try:
        handle, name = tempfile.mkstemp(prefix="invdiff-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(
                "\n".join([*installed_versions(), "", f"command: {shlex.join(sys.argv)}", "", *_story(error)]) + "\n"
            )
    except OSError:
        return None
    return Path(name)


def installed_versions() -> Iterator[str]:
    """Ours, those of what results depend on, and the packages that plugins come from."""
    yield f"python {platform.python_version()}, {platform.platform()}"
    plugins = {entry.dist.name for entry in entry_points(group=GROUP) if entry.dist}
    for package in ("invdiff", *_PACKAGES, *sorted(plugins - {"invdiff"})):
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package}: not installed as a package"


def _story(error: BaseException) -> Iterator[str]:
    """The traceback, that of what led to the error first."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _story(before)
        yield ""
    yield from (line.rstrip() for line in traceback.format_tb(error.__traceback__))
    yield f"{type(error).__name__}: {without_values(one_line(error))}"
