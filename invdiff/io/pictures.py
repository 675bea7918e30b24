"""Pictures to ``(3, H, W)`` float tensors in [0, 1] and back: EXIF, alpha, grey, 16 bit; atomic writes."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import ImageError, one_line
from .atomic import write_atomic

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
"""Pillow's decoders that a file may reach. A suffix says nothing of what is inside: without this list a photo that is
PostScript would be run by Ghostscript."""
_MAX_PIXELS = 100_000_000
SAMPLES = {"astronaut": "astronaut", "cat": "chelsea", "coffee": "coffee", "face": "astronaut"}
"""Photos that come with scikit-image, and its names for them; ``face`` is the astronaut's, 256x256."""


@dataclass(frozen=True)
class Photo:
    """A picture as the loop wants it, with what is needed to give back its like.

    ``pixels (3, H, W)`` in [0, 1]; ``alpha (H, W)`` in [0, 1] or None; ``grey`` where the picture has
    one channel only, which ``pixels`` repeats.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    grey: bool = False

    def restored(self, pixels: Tensor) -> Photo:
        """This photo with new pixels: grey stays grey, alpha is resized to fit (it is never restored)."""
        pixels = pixels.detach().float().cpu().clamp(0, 1)
        if self.grey:
            pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
        return replace(self, pixels=pixels, alpha=self._resized_alpha(pixels.shape[-2], pixels.shape[-1]))

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
        array = (self._planes().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        return array[..., 0] if array.shape[-1] == 1 else array

    def to_array_like(self, other: np.ndarray) -> np.ndarray:
        """An array of another one's dtype, and flat where that one is."""
        array = self._planes().permute(1, 2, 0).double().numpy()
        if other.ndim == 2:
            array = array[..., 0]
        if other.dtype == bool:
            return array >= 0.5
        if np.issubdtype(other.dtype, np.integer):
            return (array * np.iinfo(other.dtype).max).round().astype(other.dtype)
        return array.astype(other.dtype)

    def _planes(self) -> Tensor:
        """Channels as the picture has them, alpha last."""
        planes = self.pixels[:1] if self.grey else self.pixels
        return planes if self.alpha is None else torch.cat([planes, self.alpha[None]])

    def to_pil(self) -> Image.Image:
        return Image.fromarray(self.to_array())


def from_array(array: np.ndarray) -> Photo:
    """A photo from ``(H, W)`` or ``(H, W, 1 to 4)``: uint8, uint16, bool, or floats in [0, 1]."""
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or not 1 <= array.shape[-1] <= 4 or 0 in array.shape:
        raise ImageError(f"an image array is (H, W) or (H, W, 1 to 4), got {array.shape}")
    values: np.ndarray
    if array.dtype == bool:
        values = array.astype(np.float32)
    elif np.issubdtype(array.dtype, np.unsignedinteger):
        values = array.astype(np.float32) / np.iinfo(array.dtype).max
    elif np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float32)
        if not np.isfinite(values).all() or values.min() < -1e-3 or values.max() > 1 + 1e-3:
            raise ImageError("a float image must be finite and in [0, 1]")
        values = values.clip(0, 1)
    else:
        raise ImageError(f"an image array is uint8, uint16 or float, got {array.dtype}")
    planes = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
    alpha = planes[-1] if len(planes) in (2, 4) else None
    grey = len(planes) <= 2
    return Photo(planes[:1].expand(3, -1, -1).clone() if grey else planes[:3], alpha, grey)


def from_pil(picture: Image.Image) -> Photo:
    """A photo from any mode of Pillow's, turned upright by its EXIF tag."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("1", "L") and "transparency" in picture.info:
        picture = picture.convert("L").convert("LA") if picture.mode == "1" else picture.convert("LA")
    elif picture.mode in ("P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "PA" else "RGB")
    if picture.mode.startswith("I"):  # 16 bit grey; Pillow may hand it out in 32
        array = np.asarray(picture).astype(np.int64)
        if array.size and (array.min() < 0 or array.max() > 65535):
            raise ImageError("integer pixels beyond 16 bit")
        return from_array(array.astype(np.uint16))
    if picture.mode == "F":
        return from_array(np.asarray(picture))
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    return from_array(np.asarray(picture))


def open_picture(path: Path) -> Image.Image:
    """A picture, not yet decoded, by one of :data:`FORMATS`. Every file that is taken for a picture is opened here."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have a limit of our own
        picture = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    _refuse_bomb(*picture.size)
    return picture


def _refuse_bomb(width: int, height: int) -> None:
    """Small files can claim any size: refuse it before memory is asked for."""
    limit = int(os.environ.get("INVDIFF_MAX_PIXELS") or _MAX_PIXELS)
    if width * height > limit:
        raise ImageError(
            f"{width}x{height} are more than {limit:,} pixels; INVDIFF_MAX_PIXELS, in the environment, allows more"
        )


def load(path: Path) -> Photo:
    """Read a picture; :class:`ImageError` in one line for whatever is not one."""
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            deep = _deep_tiff(path)
            if deep is not None:
                return from_array(deep)
        with open_picture(path) as picture:
            picture.load()
            return from_pil(picture)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        reason = (
            "not a picture that can be read" if isinstance(error, Image.UnidentifiedImageError) else one_line(error)
        )
        raise ImageError(f"{path}: {reason}") from None


def _deep_tiff(path: Path) -> np.ndarray | None:
    """A TIFF of 16 bit a channel in colour, which Pillow cannot read; None for the others."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            _refuse_bomb(page.imagewidth, page.imagelength)
            if page.dtype != np.uint16 or page.photometric != tifffile.PHOTOMETRIC.RGB:
                return None
            array = page.asarray()
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                array = np.moveaxis(array, 0, -1)
            tag = page.tags.get("Orientation")
            return _upright(array, int(tag.value) if tag else 1)
    except ImageError:
        raise
    except Exception:  # a damaged file makes the reader raise almost anything; Pillow says what is wrong with it
        return None


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo a TIFF or EXIF orientation, 1 to 8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def sample_photo(name: str) -> Photo:
    """A photo that is installed with scikit-image."""
    import skimage.data

    array = getattr(skimage.data, SAMPLES[name])()
    return from_array(array[:256, 96:352] if name == "face" else array)


def encode_png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def save_png(array: np.ndarray, path: Path) -> None:
    """Write an 8-bit array as PNG, atomically."""
    write_atomic(path, encode_png(array))


def list_pictures(path: Path, *, recursive: bool = False) -> list[Path]:
    """The file itself, or the pictures in a folder, sorted by name; ``recursive``: in the folders below it as well."""
    if path.is_dir():
        # Hidden files are other systems' notes beside the pictures, not pictures.
        found = sorted(
            p
            for p in (path.rglob("*") if recursive else path.iterdir())
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
        )
        if not found:
            raise ImageError(f"{path}: no pictures in this folder ({', '.join(sorted(SUFFIXES))})")
        return found
    if not path.exists():
        raise ImageError(f"{path}: no such file or folder")
    if not path.is_file():
        raise ImageError(f"{path}: neither a file nor a folder")
    return [path]
