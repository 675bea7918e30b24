"""What a JPEG's own tables tell: the quality that Pillow wrote it with, and what compressing changes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from invdiff.io.decoding import load
from invdiff.io.jpeg import Jpeg


def written(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


@pytest.fixture
def photo(picture):
    return Image.open(picture("a.png", 40, 56)).copy()


@pytest.mark.parametrize("quality", [1, 5, 25, 49, 50, 62, 75, 90, 95, 99, 100])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_quality_it_was_written_with(photo, quality, mode):
    assert Jpeg.of(written(photo.convert(mode), quality=quality)).quality == quality


def test_tables_of_another_encoder(photo):
    """Half the standard's steps are quality 75; with a few of them moved it is about that."""
    table = list(written(photo, quality=75).quantization[0])
    table[3], table[40] = table[3] + 2, table[40] - 5
    assert Jpeg.of(written(photo, qtables=[table, table])).quality == pytest.approx(75, abs=2)


@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_compressing_again_is_what_compressed_it(photo, sampling):
    """The same encoder, tables and sampling on the same pixels: the same picture, to the last level."""
    first = written(photo, quality=60, subsampling=sampling)
    pixels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1) / 255
    again = Jpeg.of(first).again(pixels)
    np.testing.assert_array_equal((again.permute(1, 2, 0) * 255).round().numpy(), np.asarray(first))


@pytest.mark.parametrize("quality", [30, 60, 75, 90])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("turned", [0, 1, 2])
def test_what_compression_did_is_read_off_the_file(quality, sampling, turned):
    """Against the difference to what was compressed, which the file does not have; also of a photo that was turned."""
    rgb = data.astronaut()[40:304, 60:316]  # 264 rows: turned, the blocks begin at its edge, or in the middle of one
    file = written(Image.fromarray(rgb[: 264 - 4 * (turned == 1)]), quality=quality, subsampling=sampling)
    pixels = torch.from_numpy(np.rot90(np.asarray(file), turned).copy()).permute(2, 0, 1) / 255
    clean = torch.from_numpy(np.rot90(rgb[: file.height], turned).copy()).permute(2, 0, 1) / 255
    true = float((pixels - clean).square().mean().sqrt())
    assert Jpeg.of(file).error(pixels) == pytest.approx(true, rel=0.25)


def test_of_a_large_photo_the_middle_is_read():
    """On its own grid of blocks still: grey around it changes nothing."""
    small = data.astronaut()[:512, :512].repeat(2, 0).repeat(2, 1)
    large = np.full((1024 + 208, 1024 + 80, 3), 128, np.uint8)
    large[104:-104, 40:-40] = small
    files = [written(Image.fromarray(image), quality=70) for image in (small, np.roll(large, (-8, -8), (0, 1)))]
    one, other = (Jpeg.of(f).error(torch.from_numpy(np.asarray(f).copy()).permute(2, 0, 1) / 255) for f in files)
    assert other == pytest.approx(one, rel=0.02)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (4, 4), (40, 3), (5, 5)])
def test_of_tiny_pictures_hardly_anything_is_read(photo, size):
    found = Jpeg.of(written(photo, quality=60)).error(torch.rand(3, *size, generator=torch.Generator().manual_seed(0)))
    assert 0 <= found < 0.5


def test_a_file_keeps_it_and_its_result_does_not(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    photo.save(tmp_path / "a.jpg", quality=62, exif=exif)
    found = load(tmp_path / "a.jpg")
    assert found.jpeg.quality == 62
    assert found.restored(found.pixels).jpeg is None
    photo.save(tmp_path / "a.png")
    assert load(tmp_path / "a.png").jpeg is None
