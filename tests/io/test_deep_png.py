"""PNG of 16 bits: each level, by a reader of the test's own and by Pillow's where that can."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

import invdiff
from invdiff.errors import ImageError
from invdiff.io.decoding import list_members, load
from invdiff.io.deep_png import decode_deep_png, encode_deep_png
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


def foretold(kind, left, above, corner):
    """A byte as the standard's five filters foretell it, one at a time."""
    slope = left + above - corner
    nearest = min((left, above, corner), key=lambda each: abs(slope - each))
    return (0, left, above, (left + above) // 2, nearest)[kind]


def filtered(array, kinds):
    """The bytes of a PNG of uint16 ``(H, W, C)`` whose lines have those filters."""
    height, width, channels = array.shape
    pixel, lines = 2 * channels, array.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    rows = []
    for y, kind in enumerate(kinds):
        line = [kind]
        for x in range(width * pixel):
            left, above = lines[y, x - pixel] if x >= pixel else 0, lines[y - 1, x] if y else 0
            corner = lines[y - 1, x - pixel] if x >= pixel and y else 0
            line.append((lines[y, x] - foretold(kind, left, above, corner)) % 256)
        rows.append(bytes(int(each) for each in line))
    return _file(array.shape, zlib.compress(b"".join(rows)))


def _file(shape, data, interlaced=0, more=()):
    height, width, channels = shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, interlaced)
    half = len(data) // 2  # in two chunks, as large files have it
    chunks = [(b"IHDR", header), *more, (b"IDAT", data[:half]), (b"IDAT", data[half:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("size", [(9, 7), (1, 6), (6, 1), (3, 11)])
def test_every_filter_is_read(channels, size):
    """Each line by another one; the upper bytes are what Pillow reads."""
    array = levels(channels, *size)
    array[size[0] // 2 :] = np.linspace(0, 65535, size[1]).astype(np.uint16)[:, None]  # smooth: the nearest differ
    content = filtered(array, [(y + size[1]) % 5 for y in range(size[0])])
    found = decode_deep_png(content)
    assert found.dtype == np.uint16
    assert np.array_equal(found, array)
    if channels > 2:
        with Image.open(io.BytesIO(content)) as picture:
            assert np.array_equal(np.asarray(picture), array >> 8)


def test_what_is_left_to_pillow(tmp_path):
    """8 bits, one channel, lines missing, another order of lines, a colour that stands for none: no photo is lost."""
    whole = encode_deep_png(levels(3), Metadata())
    plain = io.BytesIO()
    Image.new("RGB", (4, 4)).save(plain, "PNG")
    short = _file((7, 5, 3), zlib.compress(bytes(30)))
    clear = _file((1, 2, 3), zlib.compress(bytes(13)), more=[(b"tRNS", bytes(6))])
    for content in (
        plain.getvalue(),
        encode_deep_png(levels(1), Metadata()),
        short,
        clear,
        whole[:20],
        b"",
        _file((7, 5, 3), b"", 1),
    ):
        assert decode_deep_png(content) is None
    (tmp_path / "clear.png").write_bytes(clear)
    assert float(load(tmp_path / "clear.png").alpha.max()) == 0
    (tmp_path / "short.png").write_bytes(short)
    with pytest.raises(ImageError, match=r"short\.png"):
        load(tmp_path / "short.png")


def test_a_coloured_png_of_16_bits_is_read_with_all_of_them(tmp_path):
    """Turned upright, with its profile and resolution, from a shard too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    array = levels(3)
    (tmp_path / "a.png").write_bytes(encode_deep_png(array, Metadata(None, (300.0, 300.0), exif.tobytes())))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "a.png")
    for source in (tmp_path / "a.png", list_members(tmp_path / "a.tar")[0][0]):
        photo = load(source)
        assert photo.deep
        assert photo.metadata.dpi == pytest.approx((300, 300), abs=0.02)
        assert np.array_equal(photo.to_file_array(), np.rot90(array, -1))


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
