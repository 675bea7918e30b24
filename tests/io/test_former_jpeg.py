"""A JPEG that was saved anew without loss: its tables, grid and colour are read from the pixels alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from invdiff.io.decoding import load
from invdiff.io.former_jpeg import former_jpeg
from invdiff.io.jpeg import Jpeg

RNG = np.random.default_rng(0)
FLAT = (*[20] * 8, *[25] * 24, *[30] * 32)
"""A table that is no multiple of the standard's."""


def tensor(array):
    return torch.from_numpy(array.copy()).permute(2, 0, 1) / 255


def compressed(rgb, **options):
    """The pixels ``(h, w, 3)`` after compression, and the file's own word of it."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", **options)
    file = Image.open(io.BytesIO(buffer.getvalue()))
    return np.asarray(file), Jpeg.of(file)


@pytest.fixture(scope="module")
def scene():
    """A photo that no JPEG is left in: shrunk by 2."""
    return np.asarray(Image.fromarray(data.astronaut()).resize((256, 256), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("quality", [20, 40, 60, 75, 90, 95, 97])
@pytest.mark.parametrize("halved", [False, True])
def test_the_quality_it_had(scene, quality, halved):
    pixels, jpeg = compressed(scene, quality=quality, subsampling=2 if halved else 0)
    found = former_jpeg(tensor(pixels))
    assert found.former
    assert found.kind == "former JPEG"
    assert found.quality == pytest.approx(quality, abs=1)
    assert found.sampling == jpeg.sampling
    assert found.origin == (0, 0)


@pytest.mark.parametrize(("top", "left"), [(0, 1), (3, 0), (7, 7), (8, 5), (13, 10)])
def test_the_grid_of_a_crop(scene, top, left):
    pixels, _ = compressed(scene, quality=60)
    found = former_jpeg(tensor(pixels[top:, left:]))
    assert found.origin == (-top % 16, -left % 16)
    assert found.quality == 60


@pytest.mark.parametrize("offset", [(0, 0), (13, 10)])
@pytest.mark.parametrize("sampling", [0, 2])
def test_done_again_it_stays(scene, offset, sampling):
    """Done again it changes what the file's own tables change; blocks that the crop cut through aside."""

    def changed(jpeg, y):
        return float((jpeg.again(y) - y)[:, 16:-16, 16:-16].square().mean().sqrt())

    pixels, jpeg = compressed(scene, quality=70, subsampling=sampling)
    y = tensor(pixels[offset[0] :, offset[1] :])
    assert changed(former_jpeg(y), y) == pytest.approx(changed(jpeg, tensor(pixels)), rel=0.1)


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_what_compression_did(scene, quality):
    """Against the difference to what was compressed, and as the file itself says it."""
    pixels, jpeg = compressed(scene, quality=quality)
    y = tensor(pixels[5:, 2:])
    true = float((y - tensor(scene[5:, 2:])).square().mean().sqrt())
    assert former_jpeg(y).error(y) == pytest.approx(true, rel=0.25)
    assert former_jpeg(y).error(y) == pytest.approx(jpeg.error(tensor(pixels)), rel=0.05)


def test_tables_of_another_encoder(scene):
    """Each step that the picture shows is found; the others are the nearest standard table's."""
    pixels, _ = compressed(scene, qtables=[FLAT, FLAT])
    found = np.array(former_jpeg(tensor(pixels)).tables[0])
    low = [1, 2, 3, 8, 9, 10, 16, 17, 24]
    np.testing.assert_array_equal(found[low], np.array(FLAT)[low])


@pytest.mark.parametrize("turned", [1, 2, 3])
def test_of_a_turned_photo(scene, turned):
    pixels, _ = compressed(scene[:, :200], quality=60)
    assert former_jpeg(tensor(np.rot90(pixels, turned))).quality == pytest.approx(60, abs=2)


def test_of_a_grey_photo(scene):
    pixels, _ = compressed(scene.mean(-1).astype(np.uint8), quality=60)
    assert former_jpeg(tensor(np.repeat(pixels[..., None], 3, -1))).quality == 60


@pytest.mark.parametrize("side", [1, 7, 8, 15, 16, 23])
def test_of_tiny_pictures_nothing_wrong_is_said(scene, side):
    pixels, _ = compressed(scene[100:, 100:][:side, :side], quality=50)
    found = former_jpeg(tensor(pixels))
    assert found is None or found.quality == pytest.approx(50, abs=15)
    assert former_jpeg(tensor(scene[:side, :side])) is None


def _enlarged(scene):
    return np.asarray(Image.fromarray(compressed(scene, quality=60)[0]).resize((300, 300), Image.Resampling.BICUBIC))


NEVER = {
    "a photo": lambda scene: scene,
    "flat": lambda scene: np.full((64, 64, 3), 90, np.uint8),
    "noise": lambda scene: RNG.integers(0, 256, (96, 96, 3), np.uint8),
    "stripes": lambda scene: np.tile(np.array([0, 0, 255, 255], np.uint8)[:, None], (24, 24))[..., None].repeat(3, -1),
    "few colours": lambda scene: scene // 32 * 32,
    "a ramp": lambda scene: np.arange(256, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, -1),
    "text": lambda scene: (data.page()[:128, :256, None] > 120).repeat(3, -1).astype(np.uint8) * 255,
    "lossy, but no JPEG": lambda scene: webp(scene),
    "enlarged since then": _enlarged,
}


def webp(rgb):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=50)
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.mark.parametrize("kind", NEVER)
def test_what_was_none_or_tells_no_more(scene, kind):
    assert former_jpeg(tensor(NEVER[kind](scene))) is None


def test_photos_ask_their_pixels(scene, tmp_path):
    """A file's own tables come first; pixels of more than 8 bits are no decoded JPEG's."""
    pixels, _ = compressed(scene, quality=60)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98)
    Image.fromarray((pixels[..., 0].astype(np.uint16)) * 257).save(tmp_path / "a.tif")
    assert load(tmp_path / "a.png").compressed.quality == 60
    assert load(tmp_path / "a.jpg").compressed == load(tmp_path / "a.jpg").jpeg
    assert load(tmp_path / "a.tif").compressed is None
