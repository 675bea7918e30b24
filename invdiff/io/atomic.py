"""Writing without ever leaving half a file, and names that a file can have."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

from ..errors import InvdiffError

_LONGEST = 72  # three names in one, with a suffix, fit the usual 255 bytes


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write beside ``path`` and rename: readers see the old file or the whole new one."""
    if isinstance(data, str):
        data = data.encode(errors="backslashreplace")  # names of files may hold what is no text
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def make_folder(path: Path) -> Path:
    """Create an output folder and make sure that files can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InvdiffError(f"{path}: cannot write to this folder ({error.strerror or error})") from None
    return path


def file_name(text: str) -> str:
    """A file name for any text, another for each: what a name cannot hold is percent-encoded, hidden ones included.

    A long one ends in ``~`` and a digest.
    """
    name = quote(text, safe=" =+,", errors="surrogateescape").replace("~", "%7E")
    if name[:1] in ("_", ".", " "):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 17]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name
