"""Kinds of files that went wrong without a word: right now, or one clear line."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, ImageCms

from invdiff.errors import ImageError
from invdiff.io.decoding import list_pictures, load, passed_over
from invdiff.io.pictures import from_pil, save_png


def ramp(height=12, width=16):
    return np.linspace(0, 65535, height * width).reshape(height, width).astype(np.uint16)


def colours(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 65535, (height, width, 3), dtype=np.uint16)


# --- TIFF


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_min_is_white(tmp_path, depth):
    """Scans and X-rays: the tag says that zero is paper."""
    shown = (ramp() >> (8 if depth is np.uint8 else 0)).astype(depth)
    tifffile.imwrite(tmp_path / "a.tif", np.iinfo(depth).max - shown, photometric="miniswhite")
    photo = load(tmp_path / "a.tif")
    np.testing.assert_allclose(photo.pixels[0].numpy(), shown / np.iinfo(depth).max, atol=1e-6)
    assert photo.grey


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_premultiplied_alpha(tmp_path, dtype):
    top = 65535 if dtype is np.uint16 else 1.0
    colour = (colours() / 65535 * top).astype(np.float64)
    alpha = np.tile(np.linspace(0.25, 1, 16), (12, 1))[..., None]
    stored = np.concatenate([colour * alpha, alpha * top], -1)
    stored = stored.round().astype(dtype) if dtype is np.uint16 else stored.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    photo = load(tmp_path / "a.tif")
    np.testing.assert_allclose(photo.pixels.permute(1, 2, 0).numpy(), colour / top, atol=2e-4)
    np.testing.assert_allclose(photo.alpha.numpy(), alpha[..., 0], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_in_range(tmp_path, dtype, channels):
    values = (colours()[..., :channels] / 65535).astype(dtype)
    kind = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", values if channels == 3 else values[..., 0], photometric=kind)
    if channels == 1 and dtype is not np.float32:
        pytest.skip("grey floats of other sizes are Pillow's to refuse")
    photo = load(tmp_path / "a.tif")
    np.testing.assert_allclose(photo.pixels[0].numpy(), values[..., 0].astype(np.float32), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 40.0, -3.0])
def test_floats_out_of_range_are_one_line(tmp_path, bad):
    values = (colours() / 65535).astype(np.float32)
    values[3, 4, 1] = bad
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    with pytest.raises(ImageError, match=r"a\.tif: a float image must be finite and in \[0, 1\]"):
        load(tmp_path / "a.tif")


def test_pages_and_frames_are_one_line(tmp_path):
    frames = [Image.fromarray((colours(seed=i) >> 8).astype(np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    for name in ("pages.tif", "film.gif", "film.webp", "film.png"):
        with pytest.raises(ImageError, match=r"holds \d pictures \(pages or frames\)"):
            load(tmp_path / name)


# --- transparency


def sprite(hidden):
    """A soft disc on nothing; what lies under no alpha has that colour."""
    rows, cols = np.mgrid[0:48, 0:48]
    alpha = (20 - np.hypot(rows - 24, cols - 24)).clip(0, 4) / 4
    pixels = np.zeros((48, 48, 4), np.uint8)
    pixels[..., :3] = (200, 60, 40)
    pixels[..., 3] = (alpha * 255).round()
    pixels[pixels[..., 3] == 0, :3] = hidden
    return Image.fromarray(pixels)


def test_what_is_hidden_does_not_show(recipe):
    """Whatever colour lies under no alpha, the result on grey is the same; it was 12 grey levels off along the edge."""
    import invdiff

    pipe = invdiff.load("blindsr_x4", overrides=["sampler.steps=1", "guidance=[]"], device="cpu")
    shown = []
    for hidden in ((0, 0, 0), (255, 255, 255), (200, 60, 40)):
        out = np.asarray(pipe.restore(sprite(hidden)).image).astype(float)
        alpha = out[..., 3:] / 255
        shown.append(alpha * out[..., :3] + (1 - alpha) * 128)
    for other in shown[:2]:
        assert np.abs(other - shown[2]).max() <= 1
    edge = (alpha[..., 0] > 0.05) & (alpha[..., 0] < 0.95)
    right = alpha * np.array([200, 60, 40.0]) + (1 - alpha) * 128
    assert np.sqrt(np.square(shown[0] - right)[edge].mean()) < 4


def test_nothing_visible_at_all():
    photo = from_pil(Image.new("RGBA", (9, 7), (10, 20, 30, 0)))
    assert torch.equal(photo.alpha, torch.zeros(7, 9))
    assert photo.pixels[:, 0, 0].mul(255).round().tolist() == [10, 20, 30]


# --- metadata


def wide_gamut():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def described(**more):
    exif = Image.Exif()
    exif[0x010F], exif[0x0132] = "A camera", "2026:01:02 03:04:05"
    for tag, value in more.items():
        exif[int(tag.removeprefix("t"))] = value
    return exif


def test_profile_resolution_and_exif_are_kept(cli, recipe, tmp_path):
    picture = Image.fromarray((colours(20, 16) >> 8).astype(np.uint8))
    profile = wide_gamut()
    exif = described(t274=6)
    (tmp_path / "in").mkdir()
    picture.save(tmp_path / "in" / "a.jpg", icc_profile=profile, dpi=(300, 300), exif=exif)
    assert cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "out").code == 0
    with Image.open(tmp_path / "out" / "a.png") as result:
        assert result.size == (4 * 20, 4 * 16)  # turned upright
        assert result.info["icc_profile"] == profile
        assert result.info["dpi"] == pytest.approx((1200, 1200), rel=1e-3)  # printed, as large as before
        found = result.getexif()
        assert (found[0x010F], found[0x0132]) == ("A camera", "2026:01:02 03:04:05")
        assert 0x0112 not in found
    with Image.open(tmp_path / "in" / "a.jpg") as given:
        import invdiff

        out = invdiff.load(recipe()).restore(given).image
    assert out.info["icc_profile"] == profile


def test_a_profile_of_ink_is_not_put_on_light(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg", icc_profile=wide_gamut())
    assert load(tmp_path / "a.jpg").metadata.icc is None


@pytest.mark.parametrize("broken", [b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0garbage", b"Exif\0\0"])
def test_broken_exif_does_not_refuse_a_photo(tmp_path, broken):
    Image.new("RGB", (9, 7)).save(tmp_path / "a.jpg", exif=broken)
    photo = load(tmp_path / "a.jpg")
    assert photo.pixels.shape == (3, 7, 9)
    save_png(photo.to_array(), tmp_path / "b.png", photo.metadata)


def test_an_impossible_number_beside_the_orientation(tmp_path):
    """A signed rational of -1 / 0: the orientation is read, the rest left."""
    import struct

    entries = [(0x0112, 3, 1, struct.pack("<HH", 6, 0)), (0x9204, 10, 1, struct.pack("<I", 38))]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI", t, k, n) + v for t, k, n, v in entries)
    data = b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd + struct.pack("<I", 0) + struct.pack("<ii", -1, 0)
    Image.new("RGB", (9, 7)).save(tmp_path / "a.jpg", exif=data)
    assert load(tmp_path / "a.jpg").pixels.shape == (3, 9, 7)


# --- folders and names


def test_what_a_folder_holds_besides_is_said(cli, recipe, picture, tmp_path):
    for name in ("a.jpe", "b.jfif", "c.avif"):
        picture("x.png", 16, 16)
        with Image.open(tmp_path / "in" / "x.png") as file:
            file.save(tmp_path / "in" / name, {".jpe": "JPEG", ".jfif": "JPEG", ".avif": "AVIF"}[name[1:]])
        (tmp_path / "in" / "x.png").unlink()
    for name in ("d.HEIC", "e.CR2", "f.CR2", "notes.txt", ".hidden"):
        (tmp_path / "in" / name).write_bytes(b"?")
    done = cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "out")
    assert done.code == 0
    assert "3 restored" in done.out
    assert "passed over, as no pictures: 2 .cr2, 1 .heic, 1 .txt" in done.err
    assert [p.name for p in list_pictures(tmp_path / "in")] == ["a.jpe", "b.jfif", "c.avif"]
    assert len(passed_over(tmp_path / "in")) == 4
    assert passed_over(tmp_path / "in" / "e.CR2") == []


@pytest.mark.parametrize(
    ("name", "advice"),
    [("a.HEIC", "save it as JPEG"), ("a.nef", "develop it"), ("a.fits", "TIFF"), ("a.svg", "PNG"), ("a.pdf", "render")],
)
def test_a_kind_that_is_not_read_says_what_to_do(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"SIMPLE  =                    T" + bytes(3000))
    with pytest.raises(ImageError, match=f"not a picture that can be read: .*{advice}"):
        load(tmp_path / name)


def test_references_by_the_names_that_data_sets_have(cli, recipe, picture, report, tmp_path):
    import unicodedata

    low, high = tmp_path / "lr", tmp_path / "hr"
    names = {"0001x4": "0001", "b": "b", unicodedata.normalize("NFD", "hübsch"): unicodedata.normalize("NFC", "hübsch")}
    for one, other in names.items():
        picture(f"{one}.png", 16, 16, folder=low)
        picture(f"{other}.png", 64, 64, folder=high)
    picture("alone.png", 16, 16, folder=low)
    done = cli("run", recipe(), low, "-o", tmp_path / "out", "--reference", high)
    assert done.code == 0
    assert "no reference for alone" in done.err
    measured = {stem for stem, entry in report(tmp_path / "out").items() if entry["metrics"]}
    assert measured == set(names)


def test_references_of_none_of_them(refused, recipe, picture, tmp_path):
    photo = picture("a.png", 16, 16)
    picture("b.png", 64, 64, folder=tmp_path / "hr")
    message = refused("run", recipe(), photo, "-o", tmp_path / "out", "--reference", tmp_path / "hr")
    assert "no picture there has the name of an input, such as a; " in message


def test_a_name_as_long_as_names_can_be(cli, recipe, picture, tmp_path):
    picture("p" * 243 + ".png", 16, 16)
    picture("猫" * 81 + ".png", 16, 16, seed=1)
    done = cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    made = [p.name for p in (tmp_path / "out").iterdir() if p.suffixes == [".png"]]
    assert len(made) == 2
    assert all("~" in name for name in made)
    assert "2 already done" in cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "out").out


def test_a_deep_tiff_keeps_profile_and_resolution(tmp_path):
    profile = wide_gamut()
    tifffile.imwrite(
        *(tmp_path / "a.tif", colours()),
        photometric="rgb",
        resolution=(118.11, 118.11),
        resolutionunit="CENTIMETER",
        extratags=[(34675, 7, len(profile), profile, True)],
    )
    metadata = load(tmp_path / "a.tif").metadata
    assert metadata.icc == profile
    assert metadata.dpi == pytest.approx((300, 300), rel=1e-3)


def test_deep_grey_with_a_transparent_value(tmp_path):
    """16 bit and a transparent grey: the values stay what they are."""
    picture = Image.fromarray(ramp())
    picture.save(tmp_path / "a.png", transparency=5)
    np.testing.assert_allclose(load(tmp_path / "a.png").pixels[0].numpy(), ramp() / 65535, atol=1e-6)


def test_whatever_a_decoder_raises_is_one_line(tmp_path, monkeypatch):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.avif")
    data = bytearray((tmp_path / "a.avif").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (tmp_path / "a.avif").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.avif: ") as caught:
        load(tmp_path / "a.avif")
    assert "\n" not in str(caught.value)


def test_another_transparency_is_another_picture(cli, recipe, tmp_path):
    picture = Image.fromarray(np.full((16, 16, 4), 100, np.uint8))
    picture.save(tmp_path / "a.png")
    command = ["run", recipe(), tmp_path / "a.png", "-o", tmp_path / "out"]
    assert "1 restored" in cli(*command).out
    picture.putalpha(50)
    picture.save(tmp_path / "a.png")
    assert "1 restored" in cli(*command).out


def test_references_are_not_written_over(refused, recipe, picture, tmp_path):
    photo = picture("a.png", 16, 16)
    clean = picture("a.png", 64, 64, folder=tmp_path / "hr")
    before = clean.read_bytes()
    message = refused("run", recipe(), photo, "-o", clean.parent, "--reference", clean.parent)
    assert "the output folder is an input folder" in message
    assert clean.read_bytes() == before


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_exif_of_a_deep_tiff(tmp_path, dtype):
    """Its tags are its EXIF: who took it stays; how it lies, and what a program wrote for itself, do not."""
    pixels = np.random.default_rng(0).random((8, 12, 3)).astype(np.float32)
    pixels = pixels if dtype == np.float32 else (pixels * 65535).astype(dtype)
    tags = [
        (271, 2, 0, "Canon", True),
        (274, 3, 1, 6, True),
        (315, 2, 0, "An Artist", True),
        (50838, 4, 2, (1, 2), True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", resolution=(300, 300), extratags=tags)
    photo = load(tmp_path / "a.tif")
    assert photo.pixels.shape == (3, 12, 8)
    exif = Image.Exif()
    exif.load(photo.metadata.exif)
    assert (exif[271], exif[315]) == ("Canon", "An Artist")
    assert not {274, 50838, 256, 257, 258, 273} & set(exif)
    assert photo.metadata.dpi == pytest.approx((300, 300))


def test_size_and_resolution_of_the_photo_are_not_those_of_its_result(cli, recipe, tmp_path):
    """As a phone writes it, lying on its side: EXIF has both, too, and what is said there is of that file alone."""
    exif = described(t274=6, t282=72.0, t283=144.0, t296=2)
    own = exif.get_ifd(ExifTags.IFD.Exif)
    own[0xA002], own[0xA003], own[0x9003] = 20, 16, "2026:01:02 03:04:05"
    (tmp_path / "in").mkdir()
    picture = Image.fromarray((colours(16, 20) >> 8).astype(np.uint8))
    picture.save(tmp_path / "in" / "a.jpg", dpi=(72, 144), exif=exif)
    for kind in ("png", "jpg", "webp", "tiff"):
        out = tmp_path / kind
        assert cli("run", recipe(), tmp_path / "in", "-o", out, "--format", kind).code == 0
        with Image.open(out / f"a.{kind}") as result:
            assert result.size == (4 * 16, 4 * 20)
            found = result.getexif()
            if kind != "webp":
                assert result.info["dpi"] == pytest.approx((4 * 144, 4 * 72), rel=1e-3)
            if kind != "tiff":  # whose tags are the file's own
                assert not {282, 283, 296} & set(found)
            assert dict(found.get_ifd(ExifTags.IFD.Exif)) == {0x9003: "2026:01:02 03:04:05"}


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["minisblack", "miniswhite"])
def test_deep_grey_with_alpha(tmp_path, dtype, kind):
    top = 65535 if dtype is np.uint16 else 1
    grey, alpha = (colours(seed=seed)[..., 0] / 65535 for seed in (0, 1))
    shown = [((1 - grey if kind == "miniswhite" else grey) * top), alpha * top]
    stored = np.stack(shown, -1)
    stored = stored.round().astype(dtype) if dtype is np.uint16 else stored.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=kind, extrasamples=["unassalpha"], planarconfig="contig")
    photo = load(tmp_path / "a.tif")
    assert photo.grey
    np.testing.assert_allclose(photo.pixels[0].numpy(), grey, atol=2e-5)
    np.testing.assert_allclose(photo.alpha.numpy(), alpha, atol=2e-5)


def test_deep_grey_with_alpha_is_read_as_it_is_written(cli, recipe, tmp_path):
    stored = np.stack([colours()[..., 0], colours(seed=1)[..., 0]], -1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", extrasamples=["unassalpha"])
    for name, out in (("a.tif", "once"), ("once/a.tiff", "twice")):
        command = ["run", recipe(), tmp_path / name, "-o", tmp_path / out, "--format", "tiff"]
        assert cli(*command, "--set", "sampler.steps=1").code == 0
    photo = load(tmp_path / "twice" / "a.tiff")
    assert (photo.grey, photo.deep, photo.alpha is not None) == (True, True, True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_sample_of_nobody_knows_what_is_no_alpha(tmp_path, dtype):
    """Infrared, which scanners add."""
    stored = np.concatenate([colours(), colours(seed=1)[..., :1]], -1) / 65535
    stored = stored.astype(dtype) if dtype is np.float32 else (stored * np.iinfo(dtype).max).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["unspecified"])
    photo = load(tmp_path / "a.tif")
    assert photo.alpha is None
    np.testing.assert_allclose(photo.pixels[2].numpy(), colours()[..., 2] / 65535, atol=0.004)


def test_floats_whose_white_is_nothing(tmp_path):
    grey = (colours()[..., 0] / 65535).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", 1 - grey, photometric="miniswhite")
    np.testing.assert_allclose(load(tmp_path / "a.tif").pixels[0].numpy(), grey, atol=1e-6)


def test_linked_folders_are_folders(cli, recipe, picture, tmp_path):
    """But one that leads back to where it lies is entered once."""
    if not hasattr(os, "symlink"):
        pytest.skip("no links here")
    picture("a.png", 16, 16, folder=tmp_path / "tree" / "sub")
    picture("b.png", 16, 16, folder=tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", tmp_path / "tree" / "linked")
    os.symlink(tmp_path / "tree", tmp_path / "tree" / "sub" / "round")
    assert cli("run", recipe(), tmp_path / "tree", "-o", tmp_path / "out", "--recursive").code == 0
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("?.png")}
    assert found == {"sub/a.png", "linked/b.png"}


@pytest.mark.parametrize(("mode", "plain"), [("RGBa", "RGBA"), ("La", "LA")])
def test_colours_that_pillow_has_multiplied_by_alpha(mode, plain):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, len(plain)), dtype=np.uint8)
    picture = Image.fromarray(pixels, plain).convert(mode)
    found, want = from_pil(picture), from_pil(picture.convert(plain))
    assert found.alpha is not None
    assert torch.equal(found.pixels, want.pixels)
    assert torch.equal(found.alpha, want.alpha)


def test_sixteen_bits_of_grey_stay_in_a_picture_of_pillow():
    array = np.random.default_rng(0).integers(0, 65536, (9, 11), dtype=np.uint16)
    back = from_pil(Image.fromarray(array)).to_pil()
    assert back.mode.startswith("I;16")
    assert np.array_equal(np.asarray(back), array)


def test_a_tiff_without_a_resolution_gets_none(tmp_path):
    picture = Image.new("RGB", (8, 8))
    picture.save(tmp_path / "without.tif")
    picture.save(tmp_path / "with.tif", dpi=(72, 72))
    assert load(tmp_path / "without.tif").metadata.dpi is None
    assert load(tmp_path / "with.tif").metadata.dpi == (72, 72)


def test_a_jpeg_without_a_resolution_has_none(tmp_path):
    picture, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif[ExifTags.Base.Make] = "ACME"
    picture.save(tmp_path / "without.jpg", exif=exif)
    picture.save(tmp_path / "jfif.jpg", exif=exif, dpi=(72, 72))
    exif[ExifTags.Base.XResolution], exif[ExifTags.Base.ResolutionUnit] = 240.0, 2
    picture.save(tmp_path / "exif.jpg", exif=exif)
    for name, dpi in (("without", None), ("jfif", (72, 72)), ("exif", (240, 240))):
        assert load(tmp_path / f"{name}.jpg").metadata.dpi == dpi
