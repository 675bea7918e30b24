"""Photos in uncompressed tar files, as webdataset lays them out: found once, read where they lie, never extracted."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import ImageError, one_line

_LARGEST = 1 << 30  # bytes of a photo: a file full of holes can claim any number
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")


@dataclass(frozen=True)
class Member:
    """A file in a shard: its name there, and where its bytes are."""

    shard: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def open(self) -> io.BytesIO:
        """Its bytes, as a file."""
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))


def read_index(shard: Path) -> tuple[list[Member], int]:
    """The files of a shard, sorted by name as those of a folder are, and how many members are none.

    Folders are not counted; links, devices and what no photo is as large as are. Of members of one name the last
    counts. Raises :class:`ImageError` in one line for what is no tar, a compressed one, or one that is cut short.
    """
    found: dict[str, Member] = {}
    odd = 0
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for info in _forwards(archive):
                if info.isreg() and not info.issparse() and info.size <= _LARGEST:
                    name = str(PurePosixPath(info.name))
                    found[name] = Member(shard, name, info.offset_data, info.size)
                elif not info.isdir():
                    odd += 1
            file.seek(archive.offset)
            if any(file.read(tarfile.BLOCKSIZE)):  # a broken header ends the reading without a word
                raise tarfile.ReadError("bad header between its members")
    except OSError as error:
        raise ImageError(f"{shard}: {error.strerror or one_line(error)}") from None
    except Exception as error:  # a damaged file makes the reader raise almost anything
        raise ImageError(f"{shard}: {_no_shard(shard, error)}") from None
    return sorted(found.values(), key=lambda member: PurePosixPath(member.name)), odd


def _forwards(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members, each behind the one before: a size below nothing would lead back for ever."""
    last = -1
    for info in archive:
        if info.offset <= last or info.size < 0:
            raise tarfile.ReadError("a member that does not end")
        last = info.offset
        yield info


def _no_shard(shard: Path, error: Exception) -> str:
    with open(shard, "rb") as file:
        if file.read(8).startswith(_COMPRESSED):
            return "compressed: its photos cannot be read where they lie; unpack it to a plain .tar"
    return f"not a tar of photos that can be read ({one_line(error)})"
