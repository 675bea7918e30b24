"""TIFF of 8 or 16 bits a channel with all of its photo's metadata, which Pillow writes of the former only, unpacked."""

from __future__ import annotations

import zlib
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

if TYPE_CHECKING:
    from .pictures import Metadata

_STRIP = 2**20
"""Bytes of a strip, about, before it is packed."""
_EXTRA_SAMPLES = 338
_DEFLATE, _GREY, _RGB, _INCHES, _STRAIGHT_ALPHA = 8, 1, 2, 2, 2
_BEGIN = b"Exif\0\0"


def encode_tiff(array: np.ndarray, metadata: Metadata) -> bytes:
    """A uint8 or uint16 array ``(H, W)`` or ``(H, W, 1 to 4)``, alpha last, as the bytes of a TIFF (revision 6.0).

    EXIF is laid out as a TIFF without pixels: they are added to it, packed losslessly.
    """
    array = array[..., None] if array.ndim == 2 else array
    height, width, channels = array.shape
    array = array.astype(array.dtype.newbyteorder("<"))
    rows = max(1, _STRIP // (width * channels * array.itemsize))
    strips = [zlib.compress(np.ascontiguousarray(array[top : top + rows]).tobytes()) for top in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    tag, tags = ExifTags.Base, Image.Exif()
    tags.load(metadata.exif or _BEGIN)
    tags.endian = "<"
    layout: dict[int, Any] = {
        tag.ImageWidth: width,
        tag.ImageLength: height,
        tag.BitsPerSample: (8 * array.itemsize,) * channels,
        tag.Compression: _DEFLATE,
        tag.PhotometricInterpretation: _RGB if channels > 2 else _GREY,
        tag.StripOffsets: tuple(accumulate(sizes[:-1], initial=0)),  # counted from the end of the tags
        tag.SamplesPerPixel: channels,
        tag.RowsPerStrip: rows,
        tag.StripByteCounts: tuple(sizes),
    }
    if channels in (2, 4):
        layout[_EXTRA_SAMPLES] = _STRAIGHT_ALPHA
    if metadata.dpi is not None:
        layout |= {tag.XResolution: metadata.dpi[0], tag.YResolution: metadata.dpi[1], tag.ResolutionUnit: _INCHES}
    if metadata.icc is not None:
        layout[tag.InterColorProfile] = metadata.icc
    for name, value in layout.items():
        tags[name] = value
    return tags.tobytes().removeprefix(_BEGIN) + b"".join(strips)
