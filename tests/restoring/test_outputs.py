"""What ``invdiff run`` writes: kinds of files, a file by name, trees of folders, and what it says beforehand."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

import invdiff
from invdiff.io.decoding import load
from invdiff.io.formats import KINDS, Format
from invdiff.io.pictures import Metadata, from_array

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KIND = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def described(picture):
    """A JPEG that holds a profile, a size in print, and EXIF with a directory below it."""
    path = picture("a.jpg", 12, 17)
    exif = Image.Exif()
    exif[0x010E] = "a test"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    with Image.open(path) as given:
        given.load()
    given.save(path, quality=95, icc_profile=PROFILE, dpi=(72, 72), exif=exif)
    return path


@pytest.mark.parametrize("kind", list(KIND))
def test_each_kind_holds_the_same_picture(recipe, cli, described, tmp_path, report, kind):
    """With metadata, in both sizes, and a certificate of what the file holds; found again by whoever looks for it."""
    path, out = recipe(), tmp_path / "out"
    command = ["run", path, described, "-o", out, "--format", kind, "--scale", 1]
    assert cli(*command).code == 0
    entry = report(out)["a"]
    assert entry["output"] == entry["files"][0] == f"a.{kind}"
    assert {p.name for p in out.iterdir()} == {*entry["files"], "report.json"}
    want = invdiff.load(path).restore(load(described)).image.to_array().astype(float)
    for name, size in ((f"a.{kind}", (68, 48)), (f"a.x1.{kind}", (17, 12))):
        with Image.open(out / name) as found:
            assert (found.format, found.mode, found.size) == (KIND[kind], "RGB", size)
            assert found.info["icc_profile"] == PROFILE
            if kind != "webp":  # which has no place for it
                assert found.info["dpi"][0] == pytest.approx(72 * size[0] / 17, abs=0.02)
            exif = found.getexif()
            assert (exif[0x010E], exif.get_ifd(0x8769)[0x9003]) == ("a test", "2020:01:01 00:00:00")
            held = np.asarray(found)
        if size == (68, 48):
            apart = np.abs(held - want)
            assert apart.max() == 0 if kind in ("png", "tiff") else apart.mean() < 4
            written = torch.from_numpy(held / np.float32(255)).permute(2, 0, 1)
    data = (out / f"a.{kind}").read_bytes()
    assert entry["certificate"]["sha256"] == hashlib.sha256(data).hexdigest()
    kernel = torch.from_numpy(np.load(out / "a.kernel.npy"))
    again = invdiff.load(path).degradation.apply(written[None], kernel[None])[0]
    consistency = -10 * float((again - load(described).pixels).square().mean().log10())
    assert entry["certificate"]["consistency"] == pytest.approx(consistency, abs=0.01)
    assert "1 already done" in cli(*command).out
    (out / f"a.{kind}").unlink()
    assert "1 restored" in cli(*command).out


def test_quality_and_another_kind(recipe, cli, picture, tmp_path, report):
    """Less quality is a smaller file; another kind is done again, and compared by what the reports name."""
    path, photo = recipe(), picture("a.png")
    for quality in (95, 20):
        assert (
            cli("run", path, photo, "-o", tmp_path / f"q{quality}", "--format", "jpg", "--quality", quality).code == 0
        )
    fine, coarse = (tmp_path / name / "a.jpg" for name in ("q95", "q20"))
    assert coarse.stat().st_size < fine.stat().st_size
    assert load(fine).jpeg.quality == 95
    found = json.loads(cli("compare", tmp_path / "q95", tmp_path / "q20", "--json").out)
    error = np.mean((load(fine).to_array().astype(float) - load(coarse).to_array()) ** 2)
    assert found["psnr_rgb_of_a_beside_b"]["a"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    assert "1 restored" in cli("run", path, photo, "-o", tmp_path / "q95").out
    assert report(tmp_path / "q95")["a"]["output"] == "a.png"


def test_what_a_kind_cannot_hold_is_said_before_the_work(recipe, cli, picture, tmp_path):
    """Transparency in a JPEG: no colour to put behind it is right. An alpha that hides nothing is no transparency."""
    opaque, hidden = picture("a.png", mode="RGB"), picture("b.png", mode="RGBA")
    with Image.open(opaque) as given:
        given.convert("RGBA").save(opaque)
    out = tmp_path / "out"
    result = cli("run", recipe(), opaque, hidden, "-o", out, "--format", "jpg")
    assert result.code == 1
    line = f"failed: {hidden}: is transparent in parts, which JPEG cannot be; take --format png, webp or tiff\n"
    assert line in result.err
    assert Image.open(out / "a.jpg").mode == "RGB"
    assert not list(out.glob("b.*"))
    assert cli("run", recipe(), hidden, "-o", out, "--format", "webp").code == 0
    assert Image.open(out / "b.webp").mode == "RGBA"
    flat = from_array(np.zeros((1, 20000), np.uint8))
    with pytest.raises(invdiff.InvdiffError, match="80000 pixels a side, and WebP 16383"):
        Format(".webp").check(flat, 4)
    long = Image.Exif()
    long[0x010E] = "x" * 70000
    with pytest.raises(invdiff.InvdiffError, match="cannot be written as JPEG: EXIF data is too long"):
        Format(".jpg").check(replace(flat, metadata=Metadata(exif=long.tobytes())), 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1300, 900), (7, 5, 2), (7, 5, 3), (800, 500, 4)])
def test_every_level_is_kept_in_a_tiff(dtype, shape):
    """By tifffile, which had no part in it; several strips where it is large."""
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    content = Format(".tif").encode(from_array(array))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        assert np.array_equal(page.asarray(), array)
        assert len(page.dataoffsets) == -(-shape[0] // page.rowsperstrip)
        assert (len(page.dataoffsets) > 1) == (shape[0] > 7)
        assert page.extrasamples == ((tifffile.EXTRASAMPLE.UNASSALPHA,) if shape[2:] in ((2,), (4,)) else ())


def test_16_bit_stays_16_bit_in_a_tiff_and_tags_are_its_own(recipe, cli, tmp_path, report):
    """What a TIFF says of its own layout does not go on into the result."""
    levels = np.random.default_rng(0).integers(0, 65536, (12, 10), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", levels, description="a test", resolution=(72, 72), resolutionunit=2)
    for kind in ("tiff", "jpg", "png"):
        assert cli("run", recipe(), tmp_path / "a.tif", "-o", tmp_path / kind, "--format", kind).code == 0
        with Image.open(tmp_path / kind / f"a.{kind}") as found:
            exif = dict(found.getexif())
            assert exif[270] == "a test"
            if kind != "tiff":
                assert not {256, 257, 273, 279} & set(exif)
    written = tifffile.imread(tmp_path / "tiff" / "a.tiff")
    assert (written.dtype, written.shape) == (np.uint16, (48, 40))
    assert (written % 257 != 0).mean() > 0.9
    assert np.array_equal(written, np.asarray(Image.open(tmp_path / "png" / "a.png")))
    assert Image.open(tmp_path / "jpg" / "a.jpg").mode == "L"
    values = [report(tmp_path / kind)["a"]["certificate"]["consistency"] for kind in ("tiff", "png")]
    assert values[0] == values[1]


def test_a_file_by_name(recipe, cli, picture, tmp_path, report):
    """In the photo's own folder too: the picture is that file, the rest stands beside it, and reports are joined."""
    path, photo = recipe(), picture("a.png")
    out = photo.parent
    assert cli("run", path, photo, "-o", tmp_path / "plain").code == 0
    result = cli("run", path, photo, "-o", out / "Nice one.png")
    assert result.code == 0
    assert "1 already done" in cli("run", path, photo, "-o", out / "Nice one.png").out
    assert cli("run", path, photo, "-o", out / "other.JPG", "--quality", 80).code == 0
    beside = ("compare.png", "kernel.npy", "kernel.png")
    names = {f"{stem}.{end}" for stem, end in (("Nice one", "png"), ("other", "JPG"))}
    names |= {f"{stem}.{end}" for stem in ("Nice one", "other") for end in beside}
    assert {p.name for p in out.iterdir()} == {*names, "a.png", "report.json"}
    assert (out / "Nice one.png").read_bytes() == (tmp_path / "plain" / "a.png").read_bytes()
    entries = report(out)
    assert {stem: e["output"] for stem, e in entries.items()} == {"Nice one": "Nice one.png", "other": "other.JPG"}
    assert load(out / "other.JPG").jpeg.quality == 80
    assert cli("run", path, "-o", tmp_path / "new" / "sample.tif").code == 0
    assert tifffile.imread(tmp_path / "new" / "sample.tif").shape == (64, 64, 3)


def test_what_cannot_be_named_is_one_line(recipe, refused, picture, tmp_path):
    path, photo, other = recipe(), picture("a.png"), picture("b.png", seed=1)
    before = tree(tmp_path)
    out = tmp_path / "out.png"
    line = refused("run", path, photo, other, "-o", out)
    assert line == f"{out}: is one file, and there are 2 photos; name a folder with -o"
    for suffix in (".gif", ".bmp", ".HEIC", ".cr2"):
        line = refused("run", path, photo, "-o", tmp_path / f"out{suffix}")
        assert line.startswith(f"{tmp_path / f'out{suffix}'}: {suffix} is not written; end the name in .png, .jpg, ")
        assert all(kind in line for kind in KINDS)
    assert "is named as another" in refused("run", path, photo, "-o", out, "--format", "jpg")
    assert "PNG keeps every bit" in refused("run", path, photo, "-o", out, "--quality", 50)
    assert "would be written over" in refused("run", path, photo, "-o", photo)
    other.rename(photo.parent / "x.compare.png")
    assert "would be written over" in refused("run", path, photo.parent / "x.compare.png", "-o", photo.parent / "x.png")
    (photo.parent / "x.compare.png").rename(other)
    assert tree(tmp_path) == before


def test_a_folder_may_look_like_a_file(recipe, cli, picture, tmp_path):
    """One that is there is a folder, and a dot alone makes no picture of a name."""
    (tmp_path / "out.png").mkdir()
    for name in ("out.png", "results.v2"):
        assert cli("run", recipe(), picture("a.png"), "-o", tmp_path / name).code == 0
        assert (tmp_path / name / "a.png").is_file()


def test_folders_keep_their_tree(recipe, cli, picture, tmp_path, report):
    """Names in the report lead to the files; references belong to them by the same paths."""
    given, clean, out = tmp_path / "in", tmp_path / "clean", tmp_path / "out"
    picture("a.png")
    picture("2024/a.png", seed=1)
    picture("2024/may/b.png", seed=2)
    picture("2024/may/b.jpg", seed=3)
    picture(".thumbs/c.png")
    (given / "2024" / "notes.txt").write_text("no picture")
    picture("a.png", 64, 64, folder=clean / "2024")
    command = ["run", recipe(), given, "-o", out, "--recursive", "--reference", clean]
    result = cli(*command)
    assert result.code == 0, result.err
    assert f"{given}: passed over, as no pictures: 1 .txt" in result.err
    entries = report(out)
    assert list(entries) == ["2024/a", "2024/may/b_jpg", "2024/may/b_png", "a"]
    files = {name for entry in entries.values() for name in entry["files"]}
    assert {name.replace("\\", "/") for name in tree(out)} == {*files, "report.json"}
    assert [stem for stem, entry in entries.items() if entry["metrics"]] == ["2024/a"]
    assert cli("run", recipe(), given / "2024" / "a.png", "-o", tmp_path / "alone").code == 0
    assert (out / "2024" / "a.png").read_bytes() == (tmp_path / "alone" / "a.png").read_bytes()
    assert "4 already done" in cli(*command).out
    compared = json.loads(cli("compare", out, out, "--json").out)
    assert set(compared["psnr_rgb_of_a_beside_b"]) == set(entries)


def test_results_do_not_become_inputs(recipe, refused, picture, tmp_path):
    picture("2024/a.png")
    line = refused("run", recipe(), tmp_path / "in", "-o", tmp_path / "in" / "out", "--recursive")
    assert "the output folder lies in an input folder" in line
    assert not (tmp_path / "in" / "out").exists()


def test_a_dry_run_says_what_a_run_then_does(recipe, cli, picture, tmp_path, report):
    """Nothing is written, and what was said comes true."""
    path, out = recipe(), tmp_path / "out"
    picture("a.png", 12, 17)
    before = tree(tmp_path)
    command = ["run", path, tmp_path / "in", "-o", out, "--scale", 2, "--format", "jpg"]
    result = cli(*command, "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert tree(tmp_path) == before
    assert not out.exists()
    assert "17x12 to 68x48, by tiny\n  2 steps, 2 evaluations of the network, " in result.out
    (plan,) = json.loads(cli(*command, "--dry-run", "--json").out)["images"]
    assert cli(*command).code == 0
    entry = report(out)["a"]
    assert sorted(plan["files"]) == sorted(entry["files"])
    assert (plan["steps"], plan["evaluations"], plan["done"]) == (entry["steps"], entry["evaluations"], False)
    with Image.open(out / "a.jpg") as found:
        assert tuple(plan["result"]) == found.size
    info = json.loads(cli("info", path, "--size", 57, "--json").out)  # 57 x 57 is about 68 x 48
    assert (plan["multiply_adds"], plan["peak_bytes"]) == (info["image"], info["peak_bytes"])
    again = cli(*command, "--dry-run")
    assert "0 would be restored, 1 already done; results and report.json in " in again.out


def test_a_dry_run_says_which_recipe_and_what_would_fail(recipe, cli, picture, tmp_path):
    recipe(("name: tiny", "name: other"), name="other.yaml")
    path = recipe(("input:", "instead: {recipe: other.yaml, noise: 1, quality: 80}\ninput:"))
    photo, clean, broken = picture("a.jpg"), picture("b.png"), tmp_path / "in" / "c.png"
    Image.open(clean).save(photo, quality=40)
    broken.write_text("no picture")
    result = cli("run", path, tmp_path / "in", "-o", tmp_path / "out", "--dry-run")
    assert result.code == 1
    assert "64x64, by other, chosen rather than tiny for JPEG quality of 40\n" in result.out
    assert "64x64, by tiny\n" in result.out
    assert result.err.startswith(f"would fail: {broken}: not a picture")
    assert "2 would be restored, 1 would fail" in result.out


def test_results_of_one_run_are_the_photos_of_the_next(cli, recipe, picture, tmp_path):
    """What lies beside them is none, and that is said."""
    picture("a.png", 12, 12)
    picture("b.png", 12, 12)
    assert cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "once").code == 0
    done = cli("run", recipe(), tmp_path / "once", "-o", tmp_path / "twice")
    assert done.code == 0
    assert f"{tmp_path / 'once'}: passed over, as beside earlier results: 4" in done.err
    names = {path.name for path in (tmp_path / "twice").glob("*.png")}
    assert {name for name in names if name.count(".") == 1} == {"a.png", "b.png"}
    with Image.open(tmp_path / "twice" / "a.png") as found:
        assert found.size == (16 * 12, 16 * 12)


def test_the_same_numbers_in_another_kind_are_another_photo(cli, recipe, tmp_path, report):
    """Grey and colour, 8 bits and 16: the result is of that kind."""
    grey = np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8)
    kinds = [grey, np.dstack([grey] * 3), grey.astype(np.uint16) * 257]
    modes = []
    for array in kinds:
        Image.fromarray(array).save(tmp_path / "a.png")
        assert cli("run", recipe(), tmp_path / "a.png", "-o", tmp_path / "out").code == 0
        with Image.open(tmp_path / "out" / "a.png") as found:
            modes.append(found.mode)
    assert modes == ["L", "RGB", "I;16"]


def test_nan_is_no_number(refused, recipe, picture, tmp_path):
    assert "'nan' is not a number" in refused(
        "run", recipe(), picture("a.png"), "-o", tmp_path / "out", "--denoise", "nan"
    )


def test_side_files_of_a_picture_that_is_replaced_go_with_it(recipe, cli, picture, tmp_path, report):
    """A kernel, a smaller copy; other pictures' stay, and so do those of a picture that has not changed."""
    path, photo, out = recipe(), picture("a.png"), tmp_path / "out"
    other = picture("a.b.png", seed=1)
    assert cli("run", path, photo, other, "-o", out, "--scale", 1).code == 0
    assert cli("run", path, photo, "-o", out).code == 0
    assert (out / "a.x1.png").exists()
    assert cli("run", path, photo, "-o", out, "--seed", 5, "--set", "sampler.temperature=1").code == 0
    assert not (out / "a.x1.png").exists()
    assert (out / "a.b.x1.png").exists()


def test_a_damaged_result_is_made_again(recipe, cli, picture, tmp_path):
    command = ["run", recipe(), picture("a.png"), "-o", tmp_path / "out"]
    assert cli(*command).code == 0
    whole = (tmp_path / "out" / "a.png").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\0" * len(whole)):
        (tmp_path / "out" / "a.png").write_bytes(damaged)
        assert "1 restored" in cli(*command).out
        assert (tmp_path / "out" / "a.png").read_bytes() == whole


def test_an_edited_result_is_left_alone(recipe, cli, picture, tmp_path):
    command = ["run", recipe(), picture("a.png"), "-o", tmp_path / "out"]
    assert cli(*command).code == 0
    Image.new("RGB", (5, 4)).save(tmp_path / "out" / "a.png")
    assert "0 restored, 1 already done" in cli(*command).out
    with Image.open(tmp_path / "out" / "a.png") as found:
        assert found.size == (5, 4)


def test_another_photo_of_the_same_name_does_not_replace_a_result(recipe, cli, refused, picture, tmp_path):
    path, photo, out = recipe(), picture("a.png"), tmp_path / "out"
    assert cli("run", path, photo, "-o", out).code == 0
    before = (out / "a.png").read_bytes()
    other = photo.parent / "below" / "a.png"
    other.parent.mkdir()
    other.write_bytes(picture("b.png", seed=1).read_bytes())
    line = refused("run", path, other, "-o", out)
    assert line == f"{other}: {out / 'a.png'} is the result of {photo}; name another folder with -o, or --force"
    assert (out / "a.png").read_bytes() == before
    assert cli("run", path, other, "-o", out / "a.png").code == 0  # the file was named
    assert cli("run", path, photo, "-o", out, "--force").code == 0
    assert (out / "a.png").read_bytes() == before
    photo.unlink()
    assert cli("run", path, other, "-o", out).code == 0  # nobody has the first one any more


def test_photos_of_one_name_each_from_its_own_folder(recipe, cli, refused, picture, tmp_path, monkeypatch):
    """Paths that read alike are no one photo."""
    path, out = recipe(), tmp_path / "out"
    for number, folder in enumerate(("first", "second")):
        picture("a.png", seed=number, folder=tmp_path / folder)
    monkeypatch.chdir(tmp_path / "first")
    assert cli("run", path, "a.png", "-o", out).code == 0
    monkeypatch.chdir(tmp_path / "second")
    line = refused("run", path, "a.png", "-o", out)
    first = tmp_path / "first" / "a.png"
    assert line == f"a.png: {out / 'a.png'} is the result of {first}; name another folder with -o, or --force"
    assert "1 already done" in cli("run", path, first, "-o", out).out


@pytest.mark.parametrize("order", [("a", "a.kernel"), ("a.kernel", "a")])
def test_what_stands_beside_a_result_is_no_other_ones_result(recipe, cli, refused, picture, tmp_path, order):
    path, out = recipe(), tmp_path / "out"
    first, second = (picture(f"{name}.png") for name in order)
    assert cli("run", path, first, "-o", out).code == 0
    before = (out / "a.kernel.png").read_bytes()
    said = f"{second}: {out / 'a.kernel.png'} belongs to the result of {first}; name another folder with -o, or --force"
    assert refused("run", path, second, "-o", out) == said
    assert (out / "a.kernel.png").read_bytes() == before


def test_one_file_however_it_is_spelt(recipe, cli, refused, picture, tmp_path):
    photo = picture("a.png")
    spelt = photo.parent / ".." / photo.parent.name / photo.name
    result = cli("run", recipe(), photo, spelt, "-o", tmp_path / "out")
    assert (result.code, (tmp_path / "out" / "a.png").exists()) == (0, True)
    assert refused("run", recipe(), photo, "-o", "-") == "-o -: results are files; name a folder or a file"


def test_a_plan_says_which_photos_are_too_small(recipe, cli, picture, tmp_path):
    path, photo = recipe(), picture("a.png", 1, 40)
    for more in ([], ["--dry-run"]):
        result = cli("run", path, photo, "-o", tmp_path / "out", *more)
        assert result.code == 1
        assert f"{photo}: 160x4 pixels of the result are too few" in result.err + result.out
