"""PNG with 16 bits a channel, which Pillow writes of grey pictures only."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .pictures import Metadata

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
"""By channels: grey, grey and alpha, colours, colours and alpha."""
_LEFT = 1
"""The filter of a line that holds differences to the pixel on the left."""


def encode_deep_png(array: np.ndarray, metadata: Metadata) -> bytes:
    """A uint16 array ``(H, W)`` or ``(H, W, 1 to 4)``, alpha last, as the bytes of a PNG (W3C, third edition)."""
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
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
