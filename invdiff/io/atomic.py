"""Writing without ever leaving half a file, and names that a file can have."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from ..errors import InvdiffError

_LONGEST = 72  # three names in one, with a suffix, fit the usual 255 bytes


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write beside ``path`` and rename: readers see the old file or the whole new one."""
    if isinstance(data, str):
        data = data.encode(errors="backslashreplace")  # names of files may hold what is no text
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    # With the rights of any new file. The umask of a process could only be asked by changing it, for all its threads.
    handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within it, the system's errors say which file is written: of a full disk they do not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a folder to this process while it writes there; an error where another one of this machine does.

    The lock goes with the process, however that ends. Where there are no such locks, nothing is kept.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]
    place = Path(tempfile.gettempdir()) / f"invdiff-{digest}.lock"  # beside results it would be taken for one
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # of another user, or on a file system without locks
            flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW  # a link there would be somebody else's
            while True:
                file = stack.enter_context(os.fdopen(os.open(place, flags, 0o600), "w"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    busy = f"{folder}: another process is writing here; wait for it, or choose another -o"
                    raise InvdiffError(busy) from None
                if _stands_at(place, file.fileno()):  # else whoever had it removed it, and it would keep nobody out
                    break
            stack.callback(place.unlink, missing_ok=True)
        yield


def _stands_at(place: Path, handle: int) -> bool:
    """Whether an open file is the one that has this name."""
    try:
        return os.path.samestat(os.stat(place), os.fstat(handle))
    except FileNotFoundError:
        return False


def make_folder(path: Path) -> Path:
    """Create an output folder and make sure that files can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InvdiffError(
            f"{path}: cannot write to this folder ({error.strerror or error}); choose another with -o"
        ) from None
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
