"""Training photos: folders and shards in, random crops out, each a function of (seed, step) alone."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageError, TrainingError
from ..io.decoding import list_members, list_pictures, list_shards, load
from ..io.pictures import eight_bit
from ..io.shards import Member
from ..seeds import Stream

_CACHE_BYTES = 4 << 30


def find_photos(places: Sequence[str]) -> tuple[list[Path | Member], list[str]]:
    """All pictures in folders and below, in the ``.tar`` shards there, and in shards that are named or fit a pattern.

    Sorted within each place; with them lines on what was passed over. An error names the first place without any.
    """
    if not places:
        raise TrainingError("no training photos: name folders with --data, or in the recipe under train.data")
    found: list[Path | Member] = []
    notes: list[str] = []
    for name in places:
        place = Path(name).expanduser()
        matching = [place] if place.exists() else [Path(fit) for fit in sorted(glob.glob(str(place)))]
        if not name or not matching or any(not (p.is_dir() or p.is_file()) for p in matching):  # "": the current folder
            what = "no such folder or .tar; --data names folders of photos, and shards of them"
            raise TrainingError(f"{name or 'an empty name'}: {what}")
        for one in matching:
            found += _photos_in(one, notes)
    return found, notes


def _photos_in(place: Path, notes: list[str]) -> list[Path | Member]:
    """Of a folder with its shards, or of one shard."""
    if place.is_file():
        members, odd = list_members(place)
        if odd:
            notes.append(f"{place}: passed over {odd} links or other members that are no plain files")
        return list(members)
    shards = list_shards(place)
    try:
        found: list[Path | Member] = list(list_pictures(place, recursive=True))
    except ImageError:
        if not shards:
            raise
        found = []
    return found + [member for shard in shards for member in _photos_in(shard, notes)]


class PhotoCrops:
    """Random square crops with flips, quarter turns and shrinking, ``(B, 3, crop, crop)`` in [0, 1].

    Each epoch visits every photo once in its own order. Decoded photos are kept in memory, to 4 GiB. In the place of
    a photo that cannot be used stands the next one that can; ``broken`` says which, by file, and why.
    """

    def __init__(self, files: Sequence[Path | Member], crop: int, rescale: tuple[float, float], seed: int) -> None:
        self.files, self.crop, self.rescale, self.seed = list(files), crop, rescale, seed
        self.broken: dict[Path | Member, str] = {}
        self._kept: dict[int, Image.Image] = {}
        self._bytes = 0

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Crops by their numbers in the run, counted from its first image."""
        return torch.stack([self._crop(number) for number in numbers])

    def _usable(self, index: int) -> Image.Image:
        """The photo of that place in the list, or the next one that can be used."""
        for further in range(len(self.files)):
            file = self.files[(index + further) % len(self.files)]
            if file in self.broken:
                continue
            try:
                return self._photo((index + further) % len(self.files))
            except ImageError as error:
                self.broken[file] = str(error)
        raise TrainingError(f"none of the photos can be used: {next(iter(self.broken.values()))}")

    def _photo(self, index: int) -> Image.Image:
        if index in self._kept:
            return self._kept[index]
        pixels = load(self.files[index]).pixels
        photo = Image.fromarray(eight_bit(pixels))
        if min(photo.size) < self.crop:
            raise ImageError(f"{self.files[index]}: {photo.width}x{photo.height} is smaller than a crop of {self.crop}")
        size = 3 * photo.width * photo.height
        if self._bytes + size <= _CACHE_BYTES:
            self._kept[index] = photo
            self._bytes += size
        return photo

    def _crop(self, number: int) -> Tensor:
        epoch, place = divmod(number, len(self.files))
        order = np.random.default_rng([self.seed, Stream.CROP_ORDER, epoch]).permutation(len(self.files))
        rng = np.random.default_rng([self.seed, Stream.CROP_PLACE, number])
        photo = self._usable(int(order[place]))
        # Shrinking by f takes a window of crop / f pixels to crop pixels.
        shrink = max(rng.uniform(*self.rescale), self.crop / min(photo.size))
        window = min(round(self.crop / shrink), *photo.size)
        left, top = (int(rng.integers(0, side - window + 1)) for side in photo.size)
        box = (left, top, left + window, top + window)
        patch = photo.crop(box)
        if window != self.crop:
            patch = patch.resize((self.crop, self.crop), Image.Resampling.BICUBIC)
        pixels = np.rot90(np.asarray(patch), int(rng.integers(4)))
        if rng.integers(2):
            pixels = pixels[:, ::-1]
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
