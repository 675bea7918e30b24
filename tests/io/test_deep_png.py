"""PNG of 16 bits: each level, by a reader of the test's own and by Pillow's where that can."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

import invdiff
from invdiff.io.decoding import load
from invdiff.io.deep_png import encode_deep_png
from invdiff.io.pictures import Metadata, Photo, from_array


def levels(channels, height=7, width=5):
    return np.random.default_rng(channels).integers(0, 65536, (height, width, channels), dtype=np.uint16)


def decoded(content):
    """Chunks by their kind, and the levels: lines of the filters none and left, as the standard has them."""
    place, chunks = 8, {}
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        assert struct.unpack(">I", content[place + 8 + length : place + 12 + length]) == (zlib.crc32(kind + data),)
        chunks[kind] = chunks.get(kind, b"") + data
        place += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 16
    pixel = 2 * {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    data, lines = zlib.decompress(chunks[b"IDAT"]), []
    for row in range(height):
        kind, *line = data[row * (width * pixel + 1) : (row + 1) * (width * pixel + 1)]
        for i in range(pixel, len(line) if kind else 0):
            line[i] = (line[i] + line[i - pixel]) % 256
        lines.append(line)
    return chunks, np.array(lines, np.uint8).view(">u2").reshape(height, width, pixel // 2)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_level_is_kept(channels):
    array = levels(channels)
    content = encode_deep_png(array, Metadata())
    assert np.array_equal(decoded(content)[1], array)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()  # whole, and its sums are right
        if channels == 1:
            assert np.array_equal(np.asarray(picture), array[..., 0])
        elif channels > 2:
            assert np.array_equal(np.asarray(picture), array >> 8)  # Pillow's colours have 8 bits


def test_what_is_kept_of_a_photo():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a test"
    content = encode_deep_png(levels(3), Metadata(profile, (300.0, 150.0), exif.tobytes()))
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.info["icc_profile"] == profile
        assert picture.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert picture.getexif()[0x010E] == "a test"


@pytest.mark.parametrize("alpha", [False, True])
def test_a_deep_photo_comes_back_deep(cli, recipe, report, tmp_path, alpha):
    """From the command line: levels between those of 8 bits, the result's own, and its certificate."""
    colours = levels(4 if alpha else 3, 24, 20)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", extrasamples=["unassalpha"] if alpha else None)
    assert cli("run", recipe(), tmp_path / "a.tif", "-o", tmp_path / "out").code == 0
    _, found = decoded((tmp_path / "out" / "a.png").read_bytes())
    assert found.shape == (96, 80, colours.shape[-1])
    assert (found % 257 != 0).mean() > 0.9
    photo = load(tmp_path / "a.tif")
    pipe = invdiff.load(recipe())
    want = pipe.restore(photo).image.pixels.permute(1, 2, 0).double().numpy()
    assert np.abs(found[..., :3] / 65535 - want).max() <= 0.5 / 65535 + 1e-9
    kernel = torch.from_numpy(np.load(tmp_path / "out" / "a.kernel.npy"))
    written = torch.from_numpy(found[..., :3] / 65535).permute(2, 0, 1).float()
    again = pipe.degradation.apply(written[None], kernel[None])[0]
    consistency = -10 * float((again - photo.shown()).square().mean().log10())
    assert report(tmp_path / "out")["a"]["certificate"]["consistency"] == pytest.approx(consistency, abs=0.01)


def test_what_a_file_holds():
    for dtype, deep in ((np.uint8, False), (bool, False), (np.uint16, True), (np.float32, True)):
        photo = from_array((levels(3) > 30000).astype(dtype))
        assert photo.deep is deep
        assert photo.to_file_array().dtype == (np.uint16 if deep else np.uint8)
        assert photo.to_array().dtype == np.uint8  # what is looked at
    assert Photo(torch.rand(3, 2, 2)).to_file_array().dtype == np.uint8
