"""The kinds of files that a restored picture is written as."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from ..errors import ImageError, one_line
from .pictures import Photo, encode_png, from_array, from_pil
from .tiff import encode_tiff

KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WebP", ".tif": "TIFF", ".tiff": "TIFF"}
"""By the suffix of a file's name."""
_LONGEST = {"JPEG": 65535, "WebP": 16383}


@dataclass(frozen=True)
class Format:
    """A suffix, one of :data:`KINDS`, and for what is not kept to the last bit a quality from 1 to 100."""

    suffix: str = ".png"
    quality: int = 95

    @property
    def kind(self) -> str:
        return KINDS[self.suffix.lower()]

    @property
    def lossless(self) -> bool:
        return self.kind in ("PNG", "TIFF")

    def check(self, photo: Photo, scale: int) -> None:
        """Raise :class:`ImageError` for a photo whose result, ``scale`` times as large, is no such file."""
        transparent = photo.alpha is not None and bool((photo.alpha < 1).any())
        if self.kind == "JPEG" and transparent:
            raise ImageError("is transparent in parts, which JPEG cannot be; take --format png, webp or tiff")
        side, most = scale * max(photo.pixels.shape), _LONGEST.get(self.kind)
        if most is not None and side > most:
            raise ImageError(f"the result has {side} pixels a side, and {self.kind} {most} at most; take --format png")
        try:
            self.encode(photo.cropped(1, 1))  # what else an encoder minds, it minds in a single pixel: long EXIF
        except Exception as error:
            raise ImageError(f"cannot be written as {self.kind}: {one_line(error)}; take --format png") from None

    def encode(self, photo: Photo) -> bytes:
        """A file of it: with the bits that it has where that can be, and its metadata (WebP has no dpi)."""
        if self.kind == "PNG":
            return encode_png(photo.to_file_array(), photo.metadata)
        if self.kind == "TIFF":
            return encode_tiff(photo.to_file_array(), photo.metadata)
        opaque = replace(photo, alpha=None) if self.kind == "JPEG" else photo
        buffer, options = io.BytesIO(), {"quality": self.quality, **photo.metadata.options()}
        if self.kind == "JPEG":
            options["subsampling"] = 0  # colours as fine as light
        Image.fromarray(opaque.to_array()).save(buffer, self.kind.upper(), **options)
        return buffer.getvalue()

    def pixels_in(self, data: bytes, photo: Photo) -> Tensor:
        """What an encoded photo's file holds, ``(3, H, W)``: of one that is not lossless, decoded again."""
        if self.lossless:
            return from_array(photo.to_file_array()).pixels
        with Image.open(io.BytesIO(data), formats=[self.kind.upper()]) as picture:
            return from_pil(picture).pixels


PNG = Format()
