"""PNG with 16 bits a channel, which Pillow reads and writes of grey pictures only (W3C, third edition)."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .pictures import Metadata

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
"""By channels: grey, grey and alpha, colours, colours and alpha."""
_CHANNELS = {colour: channels for channels, colour in _COLOUR_TYPE.items()}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LEFT = 1
"""The filter of a line that holds differences to the pixel on the left."""


def encode_deep_png(array: np.ndarray, metadata: Metadata) -> bytes:
    """A uint16 array ``(H, W)`` or ``(H, W, 1 to 4)``, alpha last, as the bytes of a PNG."""
    array = array[..., None] if array.ndim == 2 else array
    height, width, channels = array.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0)
    lines = np.ascontiguousarray(array.astype(">u2")).view(np.uint8).reshape(height, -1)
    pixel = 2 * channels
    differences = lines.copy()
    differences[:, pixel:] -= lines[:, :-pixel]  # of bytes, modulo 256
    filtered = np.concatenate([np.full((height, 1), _LEFT, np.uint8), differences], axis=1)
    chunks = [(b"IHDR", header)]
    if metadata.icc is not None:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi is not None:
        metres = [round(side / 0.0254) for side in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *metres, 1)))
    if metadata.exif is not None:
        chunks.append((b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def is_deep_png(start: bytes) -> bool:
    """Whether the first 26 bytes of a PNG say that it has 16 bits and several channels."""
    return len(start) >= 26 and start[24] == 16 and _CHANNELS.get(start[25], 1) > 1


def decode_deep_png(data: bytes) -> np.ndarray | None:
    """The uint16 pixels ``(H, W, 2 to 4)`` of a PNG of 16 bits and several channels; None of any other: interlaced, cut
    short, or with a colour that stands for none, which Pillow knows what to do with."""
    chunks = _chunks(data)
    header = chunks.get(b"IHDR", b"")[:13].ljust(13, b"\0")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    channels = _CHANNELS.get(colour, 1)
    if depth != 16 or channels == 1 or interlaced or b"tRNS" in chunks:
        return None
    pixel = 2 * channels
    size = height * (1 + width * pixel)  # and no more: a small file can claim any
    lines = zlib.decompressobj().decompress(chunks.get(b"IDAT", b""), size)
    if len(lines) < size:
        return None
    filtered = np.frombuffer(lines, np.uint8).reshape(height, -1)
    return _unfiltered(filtered[:, 0], filtered[:, 1:].reshape(height, width, pixel)).view(">u2").astype(np.uint16)


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Contents by their kind, those of one kind joined."""
    found: dict[bytes, list[bytes]] = {}
    place = len(_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        found.setdefault(kind, []).append(data[place + 8 : place + 8 + length])
        place += 12 + length
    return {kind: b"".join(parts) for kind, parts in found.items()}


def _unfiltered(kinds: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Bytes ``(H, W, pixel)`` from what each differs by from what its line's filter foretells.

    A pixel follows from those to the left, above, and above to the left: all of one diagonal are done at once.
    """
    height, width, pixel = differences.shape
    found = np.zeros((height + 1, width + 1, pixel), np.uint8)  # what lies beyond the first line and column is nothing
    for diagonal in range(height + width - 1):
        rows = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        cols = diagonal - rows
        left, above, corner = (
            found[rows + down, cols + right].astype(np.int16) for down, right in ((1, 0), (0, 1), (0, 0))
        )
        slope = left + above - corner
        far = [abs(slope - each) for each in (left, above, corner)]
        nearest = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))
        foretold = np.choose(kinds[rows, None], [0 * left, left, above, (left + above) // 2, nearest])
        found[rows + 1, cols + 1] = (differences[rows, cols] + foretold) & 255
    return np.ascontiguousarray(found[1:, 1:])
