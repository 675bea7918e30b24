"""Files to photos: which decoders are asked, and what they leave to be put right."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from PIL import Image

from ..errors import ImageError, InvdiffError, one_line
from .deep_png import decode_deep_png, is_deep_png
from .pictures import Metadata, Photo, exif_of, from_array, from_pil, orientation_of
from .plain import is_no_file
from .shards import Member, read_index

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".jp2", ".ppm", ".tga"}
)
_PRIVATE, _PUBLIC = 0x8000, {33432, 34665, 34853}  # from there on only copyright, EXIF and places are everybody's
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
"""Pillow's decoders that a file may reach. A suffix says nothing of what is inside: without this list a photo that is
PostScript would be run by Ghostscript."""
_ADVICE = {
    (".heic", ".heif"): "save it as JPEG or PNG",
    (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"): "develop it to TIFF or PNG",
    (".fits", ".fit", ".fts"): "save it as TIFF",
    (".svg", ".pdf", ".eps"): "render it to PNG",
}
"""What to do with kinds that are not read, by suffixes."""
_MAX_PIXELS = 100_000_000
_OPENING = threading.Lock()


class TooManyPixelsError(ImageError):
    """A picture that is larger than whoever asked can take."""


def load(path: Path | Member, most: int | None = None) -> Photo:
    """Read a picture; :class:`ImageError` in one line for whatever is not one, or has more than ``most`` pixels."""
    try:
        if isinstance(path, Path) and is_no_file(path):
            raise ImageError("not a file")
        source = path if isinstance(path, Path) else path.open()
        if path.suffix.lower() in (".tif", ".tiff"):
            deep = _deep_tiff(source, most)
            if deep is not None:
                return deep
        with open_picture(source, most) as picture:
            _refuse_several(picture)
            picture.load()
            orientation = orientation_of(picture)
            photo = from_pil(picture)
            return _deepened(photo, orientation, source) if picture.format == "PNG" else photo
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from None
    except InvdiffError:
        raise
    except Exception as error:  # a damaged file makes the decoders raise almost anything
        unknown = isinstance(error, Image.UnidentifiedImageError)
        raise ImageError(f"{path}: {_no_picture(path) if unknown else one_line(error)}") from None


def open_picture(path: Path | IO[bytes], most: int | None = None) -> Image.Image:
    """A picture, not yet decoded, by one of :data:`FORMATS`. Every file that is taken for a picture is opened here."""
    Image.init()
    with _OPENING:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # we have a limit of our own
        try:
            picture = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    _refuse_bomb(*picture.size, most)
    return picture


def _no_picture(path: Path | Member) -> str:
    """Why a file is none, with what to do where its suffix tells."""
    advice = next((words for suffixes, words in _ADVICE.items() if path.suffix.lower() in suffixes), "")
    return f"not a picture that can be read: {advice or 'if another program opens it, save it there as PNG'}"


def named_as_picture(path: Path) -> bool:
    """Whether a name is one of a picture, of whatever kind: one that is neither read nor written, too."""
    suffix = path.suffix.lower()
    return suffix in Image.registered_extensions() or any(suffix in suffixes for suffixes in _ADVICE)


def _refuse_bomb(width: int, height: int, most: int | None) -> None:
    """Small files can claim any size: refuse it before memory is asked for."""
    if most is not None and width * height > most:
        raise TooManyPixelsError(f"{width}x{height} are more than {most:,} pixels: make it smaller, or cut out a part")
    given = os.environ.get("INVDIFF_MAX_PIXELS", "").strip()
    if given and not given.isdecimal():
        raise InvdiffError(f"INVDIFF_MAX_PIXELS: a whole number is needed, got '{given}'")
    limit = int(given or _MAX_PIXELS)
    if width * height > limit:
        raise ImageError(
            f"{width}x{height} are more than {limit:,} pixels; INVDIFF_MAX_PIXELS, in the environment, allows more"
        )


def _refuse_several(picture: Image.Image) -> None:
    """Of pages and frames nobody knows which is meant; a phone's JPEG (MPO) has its picture first."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise ImageError(f"holds {frames} pictures (pages or frames): save the one that is meant by itself")


def _deepened(photo: Photo, orientation: int, source: Path | IO[bytes]) -> Photo:
    """A PNG's photo with all of its 16 bits, where Pillow has left 8; others as they are."""
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        file.seek(0)
        start = file.read(26)
        array = decode_deep_png(start + file.read()) if is_deep_png(start) else None
    if array is None:
        return photo
    return replace(from_array(_upright(array, orientation)), metadata=photo.metadata)


def _deep_tiff(path: Path | IO[bytes], most: int | None) -> Photo | None:
    """A TIFF of 16 bit or of floats that Pillow cannot read, or reads wrongly; None for the others."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            _refuse_bomb(page.imagewidth, page.imagelength, most)
            colour = page.photometric == tifffile.PHOTOMETRIC.RGB
            inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            grey = page.photometric == tifffile.PHOTOMETRIC.MINISBLACK and page.samplesperpixel > 1
            ours = colour or inverted or grey  # of grey without alpha Pillow has 16 bits, and 32 of floats
            deep = page.dtype == np.uint16 and ours
            floats = page.dtype in (np.float16, np.float32, np.float64) and (ours or page.dtype != np.float32)
            if len(file.pages) > 1 or not (deep or floats):
                return None
            array = page.asarray()
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                array = np.moveaxis(array, 0, -1)
            array = array if array.ndim == 3 else array[..., None]
            channels = 3 if colour else 1
            alphas = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
            transparent = any(kind in alphas for kind in page.extrasamples[:1])
            array = array[..., : channels + transparent].copy()  # what else there is, infrared, say, is no part of it
            if inverted:
                top = 1 if np.issubdtype(array.dtype, np.floating) else np.iinfo(array.dtype).max
                array[..., :channels] = top - array[..., :channels]
            if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples[:1]:
                array = _divided_by_alpha(array)
            tag = page.tags.get("Orientation")
            orientation = int(tag.value) if tag else 1
            upright = _upright(array, orientation)
            exif = exif_of(lambda: _exif_in(path))
            return replace(from_array(upright), metadata=replace(_tiff_metadata(page.tags, orientation), exif=exif))
    except InvdiffError:
        raise
    except Exception:  # a damaged file makes the reader raise almost anything; Pillow says what is wrong with it
        return None


def _exif_in(path: Path | IO[bytes]) -> Image.Exif:
    """The EXIF of a TIFF, which is the tags of its first page, whatever its pixels are."""
    exif = Image.Exif()
    with path.open("rb") if isinstance(path, Path) else nullcontext(path) as file:
        file.seek(0)
        exif.load_from_fp(io.BytesIO(file.read()))
    for tag in [tag for tag in exif if tag >= _PRIVATE and tag not in _PUBLIC]:
        del exif[tag]  # of a microscope's program, say: of that file alone
    return exif


def _tiff_metadata(tags: Any, orientation: int) -> Metadata:
    """Profile and resolution of a TIFF's tags."""
    profile, unit = tags.get("InterColorProfile"), tags.get("ResolutionUnit")
    sides = [tags.get(name) for name in ("XResolution", "YResolution")]
    inches = {2: 1.0, 3: 2.54}.get(int(unit.value) if unit else 2)
    dpi = None
    if inches and all(side is not None and side.value[1] for side in sides):
        dpi = (inches * sides[0].value[0] / sides[0].value[1], inches * sides[1].value[0] / sides[1].value[1])
        dpi = dpi[::-1] if orientation >= 5 else dpi  # turned by a quarter
    return Metadata(bytes(profile.value) if profile else None, dpi)


def _divided_by_alpha(array: np.ndarray) -> np.ndarray:
    """Colours of a premultiplied ``(H, W, C)``, alpha last, as they are; under no alpha there is none."""
    top = np.iinfo(array.dtype).max if np.issubdtype(array.dtype, np.integer) else 1.0
    whole = np.issubdtype(array.dtype, np.integer)
    values = array.astype(np.float64)
    colours = (values[..., :-1] * top / np.maximum(values[..., -1:], 1e-12)).clip(0, top)
    straight = np.concatenate([colours.round() if whole else colours, values[..., -1:]], axis=-1)
    return straight.astype(array.dtype)


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo a TIFF or EXIF orientation, 1 to 8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def list_pictures(path: Path, *, recursive: bool = False) -> list[Path]:
    """The file itself, or the pictures in a folder, sorted by name; ``recursive``: in the folders below it as well."""
    if path.is_dir():
        found = [p for p in _files_in(path, recursive) if p.suffix.lower() in SUFFIXES]
        if not found:
            raise ImageError(f"{path}: no pictures in this folder ({', '.join(sorted(SUFFIXES))})")
        return found
    if not path.exists():
        raise ImageError(f"{path}: no such file or folder")
    if not path.is_file():
        raise ImageError(f"{path}: neither a file nor a folder")
    return [path]


def list_shards(folder: Path) -> list[Path]:
    """The ``.tar`` files in a folder and below, sorted by name."""
    return [p for p in _files_in(folder, True) if p.suffix.lower() == ".tar"]


def list_members(shard: Path) -> tuple[list[Member], int]:
    """The pictures in a shard, sorted by name, and how many members are links or other odd things."""
    members, odd = read_index(shard)
    found = [m for m in members if m.suffix.lower() in SUFFIXES and not PurePosixPath(m.name).name.startswith(".")]
    if not found:
        raise ImageError(f"{shard}: no pictures in this shard ({', '.join(sorted(SUFFIXES))})")
    return found, odd


def passed_over(path: Path, *, recursive: bool = False) -> list[Path]:
    """The files in a folder that are not taken for pictures; none for a file."""
    return [p for p in _files_in(path, recursive) if p.suffix.lower() not in SUFFIXES] if path.is_dir() else []


def _files_in(folder: Path, recursive: bool) -> list[Path]:
    return sorted(_walked(folder, recursive))


def _walked(folder: Path, recursive: bool, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Through links to folders, too, but for one that leads back to a folder ``above``."""
    place = folder.resolve()
    if place in above:
        return
    for path in folder.iterdir():
        # Hidden files are other systems' notes beside the pictures, not pictures; so is what lies in hidden folders.
        if path.name.startswith("."):
            continue
        if not path.is_dir():  # a link to nothing, or a pipe, is a picture that cannot be read, and not none
            yield path
        elif recursive:
            yield from _walked(path, recursive, above | {place})
