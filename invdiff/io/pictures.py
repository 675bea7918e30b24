"""Photos: pictures as ``(3, H, W)`` float tensors in [0, 1], with what is needed to give back their like."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from ..errors import ImageError
from .atomic import write_atomic
from .deep_png import encode_deep_png
from .former_jpeg import former_jpeg
from .jpeg import Jpeg

_ORIENTATION = 0x0112  # in EXIF
_RESOLUTION = 282  # in a TIFF, and in EXIF
_LAYOUT = {*range(254, 260), 262, 266, *range(273, 285), 296, 317, *range(320, 326), 330, 338, 339, 347, 513, 514}
_LAYOUT |= {*range(529, 533), 34675, _ORIENTATION}
"""Tags in EXIF that speak of the file that was read: how its pixels lie there; and what is kept apart, size in print
and its profile."""
_SIZE = {0xA002, 0xA003}  # in pixels, in EXIF's own part
SAMPLES = {"astronaut": "astronaut", "cat": "chelsea", "coffee": "coffee", "face": "astronaut"}
"""Photos that come with scikit-image, and its names for them; ``face`` is the astronaut's, 256x256."""


@dataclass(frozen=True)
class Metadata:
    """What a result takes over from its photo: colour profile, pixels per inch, EXIF but for what is of the file."""

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes | None = None

    def enlarged(self, factor: float) -> Metadata:
        """Of a picture with ``factor`` times the pixels a side: printed, it stays as large as it was."""
        return self if self.dpi is None else replace(self, dpi=(self.dpi[0] * factor, self.dpi[1] * factor))

    def options(self) -> dict[str, Any]:
        """For Pillow's ``save``."""
        named = {"icc_profile": self.icc, "dpi": self.dpi, "exif": self.exif}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Photo:
    """A picture as the loop wants it, with what is needed to give back its like.

    ``pixels (3, H, W)`` in [0, 1]; ``alpha (H, W)`` in [0, 1] or None; ``grey`` where the picture has
    one channel only, which ``pixels`` repeats; ``jpeg`` how its file was compressed, if it was; ``deep`` where it has
    more than 8 bits a channel: its like has 16.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    grey: bool = False
    metadata: Metadata = Metadata()
    jpeg: Jpeg | None = None
    deep: bool = False

    @cached_property
    def compressed(self) -> Jpeg | None:
        """How it was compressed: by its file, or by a former one that its pixels tell of; they are asked once."""
        return self.jpeg if self.jpeg is not None or self.deep else former_jpeg(self.pixels)

    def shown(self) -> Tensor:
        """The pixels, those under no alpha taken from the nearest visible one.

        What lies hidden there is anything, often black; a network is shown it all the same, and would draw its edge in.
        """
        hidden = None if self.alpha is None else (self.alpha == 0).numpy()
        if hidden is None or not hidden.any() or hidden.all():
            return self.pixels
        from scipy.ndimage import distance_transform_edt  # takes longer to import than most photos want: few have alpha

        rows, cols = distance_transform_edt(hidden, return_distances=False, return_indices=True)
        return self.pixels[:, torch.from_numpy(rows), torch.from_numpy(cols)]

    def restored(self, pixels: Tensor) -> Photo:
        """This photo with new pixels: grey stays grey, alpha is resized to fit (it is never restored)."""
        pixels = pixels.detach().float().cpu().clamp(0, 1)
        if self.grey:
            pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
        height, width = pixels.shape[-2:]
        metadata = self.metadata.enlarged(width / self.pixels.shape[-1])
        alpha = self._resized_alpha(height, width)
        return replace(self, pixels=pixels, alpha=alpha, metadata=metadata, jpeg=None)

    def cropped(self, height: int, width: int, *, centre: bool = False) -> Photo:
        """The top left, or the centre, of that size."""
        top = (self.pixels.shape[-2] - height) // 2 if centre else 0
        left = (self.pixels.shape[-1] - width) // 2 if centre else 0
        window = (..., slice(top, top + height), slice(left, left + width))
        alpha = None if self.alpha is None else self.alpha[window]
        return replace(self, pixels=self.pixels[window], alpha=alpha)

    def to_degrade(self, scale: int, side: int | None) -> Photo:
        """The centre crop of ``side``, or the whole cut at the lower right; sides are multiples of ``scale``."""
        height, width = (min(n, side or n) for n in self.pixels.shape[-2:])
        return self.cropped(height - height % scale, width - width % scale, centre=side is not None)

    def _resized_alpha(self, height: int, width: int) -> Tensor | None:
        if self.alpha is None or self.alpha.shape == (height, width):
            return self.alpha
        picture = Image.fromarray(self.alpha.numpy().astype(np.float32))
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(resized).copy()).clamp(0, 1)

    def to_array(self) -> np.ndarray:
        """uint8, ``(H, W)``, ``(H, W, 2)``, ``(H, W, 3)`` or ``(H, W, 4)`` with alpha last."""
        array = eight_bit(self._planes())
        return array[..., 0] if array.shape[-1] == 1 else array

    def to_file_array(self) -> np.ndarray:
        """The same as a file of it holds it: uint16 of a deep one."""
        if not self.deep:
            return self.to_array()
        array = _of_dtype(self._planes().clamp(0, 1), np.dtype(np.uint16))
        return array[..., 0] if array.shape[-1] == 1 else array

    def to_array_like(self, other: np.ndarray) -> np.ndarray:
        """An array of another one's dtype, and flat where that one is."""
        planes = self._planes()
        array = eight_bit(planes) if other.dtype == np.uint8 else _of_dtype(planes, other.dtype)
        return array[..., 0] if other.ndim == 2 else array

    def _planes(self) -> Tensor:
        """Channels as the picture has them, alpha last."""
        planes = self.pixels[:1] if self.grey else self.pixels
        return planes if self.alpha is None else torch.cat([planes, self.alpha[None]])

    def to_pil(self) -> Image.Image:
        """The picture with its metadata in ``info``: 16 bits where it is grey and has as many, else 8 a channel, as
        Pillow knows no others."""
        deep = self.deep and self.grey and self.alpha is None
        picture = Image.fromarray(self.to_file_array() if deep else self.to_array())
        picture.info.update(self.metadata.options())
        return picture


def eight_bit(pixels: Tensor) -> np.ndarray:
    """``(C, H, W)`` in [0, 1] as uint8 ``(H, W, C)``.

    Every picture of 8 bits is rounded here, so that a file, a PIL image and an array of one result are the same: in
    float32, since wider numbers would decide ties otherwise.
    """
    return pixels.float().clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).numpy()


def _of_dtype(planes: Tensor, dtype: np.dtype) -> np.ndarray:
    """``(C, H, W)`` in [0, 1] as ``(H, W, C)``: whole levels of wider integers, bool, or floats."""
    array = planes.permute(1, 2, 0).double().numpy()
    if np.issubdtype(dtype, np.bool_):
        return array >= 0.5
    return (
        (array * np.iinfo(dtype).max).round().astype(dtype) if np.issubdtype(dtype, np.integer) else array.astype(dtype)
    )


def from_array(array: np.ndarray) -> Photo:
    """A photo from ``(H, W)`` or ``(H, W, 1 to 4)``: uint8, uint16, bool, or floats in [0, 1]."""
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or not 1 <= array.shape[-1] <= 4 or 0 in array.shape:
        raise ImageError(f"an image array is (H, W) or (H, W, 1 to 4), got {array.shape}")
    values: np.ndarray
    if array.dtype == bool:
        values = array.astype(np.float32)
    elif np.issubdtype(array.dtype, np.unsignedinteger) and array.dtype.itemsize <= 4:
        values = array.astype(np.float32) / np.iinfo(array.dtype).max
    elif np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float32)
        if not np.isfinite(values).all() or values.min() < -1e-3 or values.max() > 1 + 1e-3:
            raise ImageError("a float image must be finite and in [0, 1]")
        values = values.clip(0, 1)
    else:
        raise ImageError(f"an image array is uint8, uint16, uint32 or float, got {array.dtype}")
    planes = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
    alpha = planes[-1] if len(planes) in (2, 4) else None
    grey, deep = len(planes) <= 2, array.dtype not in (np.uint8, bool)
    return Photo(planes[:1].expand(3, -1, -1).clone() if grey else planes[:3], alpha, grey, deep=deep)


def from_pil(picture: Image.Image) -> Photo:
    """A photo from any mode of Pillow's, turned upright by its EXIF tag."""
    upright = _from_mode(_turned_upright(picture))
    return replace(upright, metadata=_metadata_of(picture), jpeg=Jpeg.of(picture))


def photo_of(image: Any) -> Photo:
    """A photo from a PIL image or an array; one as it is."""
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, np.ndarray):
        return from_array(image)
    if isinstance(image, Photo):
        return image
    raise ImageError(f"restore takes a PIL image, an array or a tensor, got {type(image).__name__}")


def _metadata_of(picture: Image.Image) -> Metadata:
    """What a result takes over; whatever of it is damaged is left out."""
    icc, dpi = picture.info.get("icc_profile"), picture.info.get("dpi")
    if not _says_resolution(picture):
        dpi = None
    lies = orientation_of(picture)
    data = exif_of(picture.getexif)  # which takes that out
    try:
        resolution = None if dpi is None else (float(dpi[0]), float(dpi[1]))
        if resolution is not None and lies >= 5:  # turned by a quarter
            resolution = resolution[::-1]
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        resolution = None
    # A profile that speaks of other channels than the result has would be worse than none.
    profile = icc if isinstance(icc, bytes) and picture.mode not in ("CMYK", "LAB", "YCbCr") else None
    return Metadata(profile, resolution, data)


def _says_resolution(picture: Image.Image) -> bool:
    """Whether the file says how large it is in print; Pillow takes 1 dpi for TIFFs, 72 for JPEGs that do not."""
    if picture.format == "TIFF":
        return _RESOLUTION in getattr(picture, "tag_v2", ())
    if picture.format in ("JPEG", "MPO") and picture.info.get("jfif_unit") not in (1, 2):
        try:
            return _RESOLUTION in picture.getexif()
        except Exception:
            return False
    return True


def exif_of(read: Callable[[], Image.Exif]) -> bytes | None:
    """EXIF without what is of the file it was read from; None where there is none, or it cannot be read."""
    try:
        exif = read()
        for tag in _LAYOUT:
            exif.pop(tag, None)
        if ExifTags.IFD.Exif in exif:
            for tag in _SIZE:
                exif.get_ifd(ExifTags.IFD.Exif).pop(tag, None)
        return exif.tobytes() if len(exif) else None
    except Exception:  # EXIF is written by anything, and Pillow's reader raises almost anything
        return None


def _turned_upright(picture: Image.Image) -> Image.Image:
    """Undo the EXIF orientation, whatever else the EXIF holds."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a rational of -1 / 0, a loop: what stands beside the orientation is no reason to stop
        orientation, flip = orientation_of(picture), Image.Transpose
        turns = {2: flip.FLIP_LEFT_RIGHT, 3: flip.ROTATE_180, 4: flip.FLIP_TOP_BOTTOM, 5: flip.TRANSPOSE}
        turns |= {6: flip.ROTATE_270, 7: flip.TRANSVERSE, 8: flip.ROTATE_90}
        return picture.transpose(turns[orientation]) if orientation in turns else picture


def orientation_of(picture: Image.Image) -> int:
    """How its EXIF says that it lies, 1 (upright) to 8; 1 where it says nothing that can be read."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _from_mode(picture: Image.Image) -> Photo:
    if picture.mode.startswith("I"):  # 16 bit grey; Pillow may hand it out in 32
        array = np.asarray(picture).astype(np.int64)
        if array.size and (array.min() < 0 or array.max() > 65535):
            raise ImageError("integer pixels beyond 16 bit")
        return from_array(array.astype(np.uint16))
    if picture.mode in ("RGBa", "La"):  # Pillow's own, multiplied by alpha: it turns them into no other mode
        picture = picture.convert(picture.mode.upper())
    if picture.mode in ("1", "L") and "transparency" in picture.info:
        picture = picture.convert("L").convert("LA") if picture.mode == "1" else picture.convert("LA")
    elif picture.mode in ("P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "PA" else "RGB")
    if picture.mode == "F":
        return from_array(np.asarray(picture))
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    return from_array(np.asarray(picture))


def sample_photo(name: str) -> Photo:
    """A photo that is installed with scikit-image."""
    import skimage.data

    array = getattr(skimage.data, SAMPLES[name])()
    return from_array(array[:256, 96:352] if name == "face" else array)


def encode_png(array: np.ndarray, metadata: Metadata | None = None, *, quick: bool = False) -> bytes:
    """An array of 8 or 16 bits as a PNG; ``quick``: for what is only looked at, in less time and a larger file."""
    if array.dtype == np.uint16:
        return encode_deep_png(array, metadata or Metadata())
    buffer, options = io.BytesIO(), metadata.options() if metadata else {}
    Image.fromarray(array).save(buffer, "PNG", **options, **({"compress_level": 1} if quick else {}))
    return buffer.getvalue()


def save_png(array: np.ndarray, path: Path, metadata: Metadata | None = None, *, quick: bool = False) -> None:
    """Write an array of 8 or 16 bits as PNG, atomically."""
    write_atomic(path, encode_png(array, metadata, quick=quick))
