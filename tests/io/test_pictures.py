"""Pictures in and out: every format and mode that a user may bring, and what is not a picture at all."""

import io
import os
import stat
import struct
import zlib

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image

from invdiff.errors import ImageError
from invdiff.io.atomic import make_folder, write_atomic
from invdiff.io.decoding import list_pictures, load
from invdiff.io.pictures import Photo, encode_png, from_array, from_pil, sample_photo, save_png
from invdiff.io.sheets import comparison
from invdiff.seeds import stream


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def written(folder, array, name, **options):
    path = folder / name
    Image.fromarray(array).save(path, **options)
    return path


RGB16 = np.array([[[0, 256, 65535], [255, 1, 32768]], [[40000, 300, 7], [65535, 0, 65280]]], np.uint16)
GREY16 = RGB16[..., 0] + RGB16[..., 1] // 2


# --- formats


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.tif", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
        ("a.bmp", {}),
        ("a.webp", {"lossless": True}),
        ("A.PNG", {}),
    ],
)
@pytest.mark.parametrize("shape", [(7, 5, 3), (1, 1, 3), (6, 9)])
def test_lossless_formats_come_back_exactly(tmp_path, name, options, shape):
    array = noise(*shape)
    photo = load(written(tmp_path, array, name, **options))
    assert photo.pixels.shape == (3, *shape[:2])
    assert photo.pixels.dtype == torch.float32
    rgb = array if array.ndim == 3 else np.stack([array] * 3, -1)
    np.testing.assert_allclose(photo.pixels.permute(1, 2, 0).numpy(), rgb / 255, atol=1e-7)
    assert photo.alpha is None
    if "webp" not in name:  # WebP has no grey of its own
        assert photo.grey == (array.ndim == 2)
        np.testing.assert_array_equal(photo.to_array(), array)


@pytest.mark.parametrize(("name", "options"), [("a.jpg", {"quality": 95}), ("a.jpeg", {"quality": 95}), ("a.webp", {})])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_come_back_nearly(tmp_path, name, options, channels):
    ramp = np.add.outer(np.arange(32) * 3, np.arange(40) * 2).astype(np.uint8)  # smooth: compresses well
    array = ramp if channels == 1 else np.stack([ramp, 255 - ramp, ramp // 2], -1)
    photo = load(written(tmp_path, array, name, **options))
    shown = photo.pixels.permute(1, 2, 0).numpy() * 255
    assert np.abs(shown - (array if channels == 3 else array[..., None])).mean() < 3
    if "jp" in name:
        assert photo.grey == (channels == 1)


def test_channels_keep_their_order(tmp_path):
    array = np.zeros((2, 2, 3), np.uint8)
    array[..., 0] = 255
    assert load(written(tmp_path, array, "red.png")).pixels[:, 0, 0].tolist() == [1, 0, 0]


TURNED = {  # EXIF 2.3, table of Orientation: where the stored first row and column belong
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_exif_turns_the_picture_upright(tmp_path, orientation, name):
    array = noise(4, 6, 3)
    options = {"lossless": True} if "webp" in name else {}
    photo = load(written(tmp_path, array, name, exif=exif(orientation), **options))
    np.testing.assert_array_equal(photo.to_array(), TURNED[orientation](array))


def test_a_phones_jpeg_is_turned(tmp_path):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:, :16] = 255  # stored with its white half on the left; turned clockwise that is the top
    photo = load(written(tmp_path, array, "a.jpg", exif=exif(6), quality=95))
    assert photo.pixels.shape == (3, 32, 16)
    assert photo.pixels[:, :14].min() > 0.9
    assert photo.pixels[:, 18:].max() < 0.1


# --- modes


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_alpha_is_kept(tmp_path, name):
    array = noise(5, 6, 4)
    array[..., 3] = np.arange(30).reshape(5, 6) * 8 + 1
    photo = load(written(tmp_path, array, name, **({"lossless": True, "exact": True} if "webp" in name else {})))
    assert photo.pixels.shape == (3, 5, 6)
    np.testing.assert_allclose(photo.alpha.numpy(), array[..., 3] / 255, atol=1e-7)
    np.testing.assert_array_equal(photo.to_array(), array)
    assert photo.to_pil().mode == "RGBA"


def test_grey_with_alpha_stays_that(tmp_path):
    array = noise(5, 6, 2)
    photo = load(written(tmp_path, array, "a.png"))
    assert photo.grey
    np.testing.assert_array_equal(photo.to_array(), array)
    assert photo.to_pil().mode == "LA"


def test_16_bit_grey_does_not_wrap(tmp_path):
    photo = load(written(tmp_path, GREY16, "a.png"))
    assert photo.grey
    np.testing.assert_allclose(photo.pixels[1].numpy(), GREY16 / 65535, atol=1e-7)
    np.testing.assert_array_equal(photo.to_array(), np.round(GREY16 / 65535 * 255))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("array", [GREY16, RGB16, np.dstack([RGB16, RGB16[..., 1]])], ids=["L", "RGB", "RGBA"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_tiff_does_not_wrap(tmp_path, order, array, compression):
    path = tmp_path / "a.tif"
    channels = 1 if array.ndim == 2 else array.shape[-1]
    options = {"photometric": "minisblack"} if channels == 1 else {"photometric": "rgb"}
    if channels == 4:
        options["extrasamples"] = ["unassalpha"]
    tifffile.imwrite(path, array, byteorder=order, compression=compression, **options)
    photo = load(path)
    want = (array if channels > 1 else np.stack([array] * 3, -1)) / 65535
    np.testing.assert_allclose(photo.pixels.permute(1, 2, 0).numpy(), want[..., :3], atol=1e-7)
    assert photo.grey == (channels == 1)
    if channels == 4:
        np.testing.assert_allclose(photo.alpha.numpy(), want[..., 3], atol=1e-7)


def test_a_16_bit_tiff_is_turned_upright(tmp_path):
    path = tmp_path / "a.tif"
    array = np.concatenate([RGB16, RGB16[:, ::-1] // 2], 1)  # 2 rows, 4 columns
    tifffile.imwrite(path, array, photometric="rgb", extratags=[(0x0112, "H", 1, 6, True)])
    np.testing.assert_allclose(load(path).pixels.permute(1, 2, 0).numpy(), np.rot90(array, -1) / 65535, atol=1e-7)


def test_a_16_bit_tiff_in_planes(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(RGB16, -1, 0), photometric="rgb", planarconfig="separate")
    photo = load(path)
    np.testing.assert_allclose(photo.pixels.permute(1, 2, 0).numpy(), RGB16 / 65535, atol=1 / 255)


def test_16_bit_ink_is_not_taken_for_light(tmp_path):
    path = tmp_path / "a.tif"
    ink = np.zeros((2, 2, 4), np.uint16)
    ink[..., 0] = 65535
    tifffile.imwrite(path, ink, photometric="separated")
    photo = load(path)
    assert photo.alpha is None
    torch.testing.assert_close(photo.pixels[:, 0, 0], torch.tensor([0.0, 1.0, 1.0]))


def png16(samples, colour):
    """A 16-bit PNG, which Pillow cannot write in colour: signature, header, one zlib stream, end."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_colour_png_does_not_wrap(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png16(RGB16, 2))
    np.testing.assert_allclose(load(path).pixels.permute(1, 2, 0).numpy(), RGB16 / 65535, atol=1e-7)


def test_float_tiff(tmp_path):
    path, array = tmp_path / "a.tif", np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    tifffile.imwrite(path, array)
    photo = load(path)
    assert photo.grey
    np.testing.assert_allclose(photo.pixels[0].numpy(), array, atol=1e-7)


def palette_picture():
    picture = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], np.uint8)).convert("P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    return picture


def test_palette(tmp_path):
    palette_picture().save(tmp_path / "a.png")
    photo = load(tmp_path / "a.png")
    want = np.array([[[255, 0, 0], [0, 255, 0], [10, 20, 30]], [[10, 20, 30], [0, 255, 0], [255, 0, 0]]])
    np.testing.assert_array_equal(photo.to_array(), want)


@pytest.mark.parametrize(("transparency", "alpha"), [(1, [255, 0, 255]), (bytes([7, 255, 128]), [7, 255, 128])])
def test_palette_with_transparency(tmp_path, transparency, alpha):
    palette_picture().save(tmp_path / "a.png", transparency=transparency)
    photo = load(tmp_path / "a.png")
    array = photo.to_array()
    np.testing.assert_array_equal(array[..., :3][0], [[255, 0, 0], [0, 255, 0], [10, 20, 30]])
    np.testing.assert_array_equal(array[..., 3], [alpha, alpha[::-1]])


def test_grey_with_a_transparent_value_stays_grey(tmp_path):
    array = np.array([[7, 200], [100, 7]], np.uint8)
    photo = load(written(tmp_path, array, "a.png", transparency=7))
    np.testing.assert_array_equal(photo.alpha.numpy(), array != 7)
    assert photo.grey
    np.testing.assert_allclose(photo.pixels[2].numpy(), array / 255, atol=1e-7)


INKS = {
    (0, 0, 0, 0): (255, 255, 255),
    (255, 0, 0, 0): (0, 255, 255),
    (0, 0, 0, 255): (0, 0, 0),
    (0, 255, 255, 0): (255, 0, 0),
}


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
@pytest.mark.parametrize("ink", INKS)
def test_cmyk(tmp_path, name, ink):
    Image.new("CMYK", (16, 16), ink).save(tmp_path / name)
    photo = load(tmp_path / name)
    assert photo.alpha is None
    np.testing.assert_allclose(photo.to_array()[8, 8], INKS[ink], atol=2)


def test_one_bit(tmp_path):
    array = np.array([[True, False, True], [False, False, True]])
    Image.fromarray(array).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "1"
    photo = load(tmp_path / "a.png")
    assert photo.grey
    np.testing.assert_array_equal(photo.to_array(), array * np.uint8(255))


# --- arrays


@pytest.mark.parametrize(
    ("dtype", "top"),
    [(np.uint8, 255), (np.uint16, 65535), (bool, 1), (np.float32, 1), (np.float64, 1), (np.float16, 1)],
)
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 2), (4, 5, 3), (4, 5, 4)])
def test_from_array(dtype, top, shape):
    unit = np.random.default_rng(0).random(shape)
    array = (unit * top).round().astype(dtype) if np.dtype(dtype).kind != "f" else unit.astype(dtype)
    photo = from_array(array)
    channels = shape[2] if len(shape) == 3 else 1
    assert photo.pixels.shape == (3, 4, 5)
    assert photo.grey == (channels < 3)
    assert (photo.alpha is None) == (channels in (1, 3))
    want = array.astype(np.float64).reshape(4, 5, channels) / top
    np.testing.assert_allclose(photo.pixels[0].numpy(), want[..., 0], atol=1e-7)
    if channels > 2:
        np.testing.assert_allclose(photo.pixels[2].numpy(), want[..., 2], atol=1e-7)
    if photo.alpha is not None:
        np.testing.assert_allclose(photo.alpha.numpy(), want[..., -1], atol=1e-7)


def test_a_photo_owns_its_pixels():
    array = np.full((4, 5, 3), 0.5, np.float32)
    photo = from_array(array)
    array[:] = 0
    assert (photo.pixels == 0.5).all()


@pytest.mark.parametrize(
    ("array", "where"),
    [
        (np.zeros(5, np.uint8), r"\(5,\)"),
        (np.zeros((2, 3, 4, 3), np.uint8), r"\(2, 3, 4, 3\)"),
        (np.zeros((4, 4, 5), np.uint8), r"\(4, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.zeros((4, 4), complex), "complex"),
        (np.full((4, 4), np.nan), "finite"),
        (np.full((4, 4), np.inf), "finite"),
        (np.full((4, 4, 3), 255.0), r"\[0, 1\]"),
        (np.full((4, 4, 3), -0.5), r"\[0, 1\]"),
    ],
)
def test_wrong_arrays_are_refused(array, where):
    with pytest.raises(ImageError, match=where):
        from_array(array)


def test_integers_beyond_16_bit_are_refused():
    for value in (-1, 65536):
        with pytest.raises(ImageError, match="16 bit"):
            from_pil(Image.fromarray(np.full((2, 2), value, np.int32)))


# --- giving back the like


def test_restored_keeps_the_kind():
    pixels = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0))
    assert from_array(noise(4, 6, 3)).restored(pixels).to_array().shape == (8, 12, 3)
    grey = from_array(noise(4, 6)).restored(pixels)
    np.testing.assert_allclose(grey.to_array(), pixels.mean(0).numpy() * 255, atol=0.51)
    assert (grey.pixels == grey.pixels[:1]).all()
    assert from_array(noise(4, 6, 2)).restored(pixels).to_array().shape == (8, 12, 2)
    wild = from_array(noise(4, 6, 3)).restored(pixels * 3 - 1)
    assert wild.pixels.min() == 0
    assert wild.pixels.max() == 1


def test_a_picture_an_array_and_a_file_are_rounded_alike(tmp_path):
    """At ties too, where float32 and float64 differ in what they take for one."""
    ties = ((torch.arange(254) + 0.5) / 255).reshape(1, 2, 127).expand(3, -1, -1)
    photo = Photo(ties.clone())
    save_png(photo.to_array(), tmp_path / "x.png")
    found = [
        photo.to_array(),
        np.asarray(photo.to_pil()),
        load(tmp_path / "x.png").to_array(),
        comparison([(ties, None)]),
    ]
    array = photo.to_array_like(np.zeros((1, 1, 3), np.uint8))
    assert array.dtype == np.uint8
    for other in found:
        np.testing.assert_array_equal(array, other)


def test_alpha_is_resized_to_the_restored_picture():
    # A ramp of alpha enlarged 4 times is the finer ramp: old pixel i lies at new pixel 4 i + 1.5.
    alpha = np.tile(np.arange(16, dtype=np.float64) / 15, (10, 1))
    photo = from_array(np.dstack([np.zeros((10, 16, 3)), alpha])).restored(torch.zeros(3, 40, 64))
    assert photo.alpha.shape == (40, 64)
    want = (np.arange(64) - 1.5) / 4 / 15
    np.testing.assert_allclose(photo.alpha[20, 8:-8].numpy(), want[8:-8], atol=1e-6)
    assert photo.alpha.min() >= 0
    assert photo.alpha.max() <= 1
    assert photo.to_array().shape == (40, 64, 4)


def test_alpha_of_the_same_size_is_untouched():
    photo = from_array(noise(6, 7, 4))
    assert torch.equal(photo.restored(torch.zeros(3, 6, 7)).alpha, photo.alpha)


def test_cropped():
    array = noise(8, 10, 4)
    photo = from_array(array)
    np.testing.assert_array_equal(photo.cropped(4, 6).to_array(), array[:4, :6])
    np.testing.assert_array_equal(photo.cropped(4, 6, centre=True).to_array(), array[2:6, 2:8])


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 2), (5, 6, 3), (5, 6, 4)])
def test_save_png(tmp_path, shape):
    array, path = noise(*shape), tmp_path / "new" / "a.png"
    save_png(array, path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), array)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(array)))), array)


@pytest.mark.parametrize(("name", "source"), [("astronaut", "astronaut"), ("cat", "chelsea"), ("coffee", "coffee")])
def test_sample_photos(name, source):
    np.testing.assert_array_equal(sample_photo(name).to_array(), getattr(skimage.data, source)())


# --- what is not a picture


def jpeg(quality=90):
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def tiff16():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.tile(RGB16, (30, 30, 1)), photometric="rgb", compression="zlib")
    return buffer.getvalue()


def damaged_tiff16():
    """A whole 16-bit TIFF with its compressed pixels overwritten."""
    data = bytearray(tiff16())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        start = file.pages.first.dataoffsets[0]
    data[start : start + 8] = b"\xff" * 8
    return bytes(data)


def bad_tag_tiff16():
    """A 16-bit TIFF that ends within its table of tags."""
    data = tiff16()
    (table,) = struct.unpack("<I", data[4:8])
    return data[: table + 7]


NOT_PICTURES = {
    "zero.png": b"",
    "zero.tif": b"",
    "text.png": b"this is not a picture\n" * 20,
    "text.jpg": b"nor is this",
    "text.tif": b"and this least of all",
    "noise.png": noise(500).tobytes(),
    "half.jpg": jpeg()[:1500],
    "head.jpg": jpeg()[:40],
    "half.png": encode_png(noise(64, 64, 3))[:3000],
    "header.png": encode_png(noise(64, 64, 3))[:20],
    "half.tif": tiff16()[:60],
    "tags.tif": bad_tag_tiff16(),
    "pixels.tif": damaged_tiff16(),
}


@pytest.mark.parametrize(
    "name",
    NOT_PICTURES,
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns before it gives up
def test_what_is_not_a_picture_is_named_in_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(NOT_PICTURES[name])
    with pytest.raises(ImageError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) > len(f"{path}: ") + 5
    assert "\n" not in message


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        load(tmp_path / "none.png")
    with pytest.raises(ImageError, match="not a file"):
        load(tmp_path)


def test_a_wrong_suffix_does_not_matter(tmp_path):
    array = noise(4, 5, 3)
    path = tmp_path / "png.jpg"
    path.write_bytes(encode_png(array))
    np.testing.assert_array_equal(load(path).to_array(), array)


# --- folders


def test_list_pictures(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.tiff", "d.WebP", "e.bmp", "f.jpeg", "g.tif", ".hidden.png", "notes.txt", "h.gif"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "z.png").write_bytes(b"")
    names = [p.name for p in list_pictures(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "c.tiff", "d.WebP", "e.bmp", "f.jpeg", "g.tif"]
    assert list_pictures(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]  # one file: as asked


def test_a_folder_named_like_a_picture_is_none(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").mkdir()
    assert [p.name for p in list_pictures(tmp_path)] == ["a.png"]


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(ImageError, match=r"no pictures in this folder.*png"):
        list_pictures(tmp_path)
    with pytest.raises(ImageError, match="no such file or folder"):
        list_pictures(tmp_path / "none")


# --- atomic writes


def test_write_atomic(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    write_atomic(path, "früh")
    assert path.read_bytes() == "früh".encode()
    write_atomic(path, b"late")
    assert path.read_bytes() == b"late"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomic(path, 5)  # the temporary file is open by then
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        save_png(noise(4, 4, 3), path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_written_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_make_folder(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path / "a" / "b") == []


def test_streams_are_independent_and_repeatable():
    first, again = (torch.randn(1000, generator=stream(1, 2)) for _ in range(2))
    assert torch.equal(first, again)
    for key in ((1,), (2, 1), (1, 3), (0, 2)):
        other = torch.randn(1000, generator=stream(*key))
        assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) < 0.15  # 4.7 deviations of 1 / sqrt(1000)
