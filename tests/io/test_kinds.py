"""Every kind of file that is read, by name and by content, and the page that lists them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from invdiff.io.decoding import FORMATS, SUFFIXES, list_pictures, load

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")

LOSSLESS = {
    "a.png": ("PNG", {}),
    "a.tif": ("TIFF", {}),
    "deflated.tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "a.webp": ("WEBP", {"lossless": True}),
    "a.jp2": ("JPEG2000", {"irreversible": False}),
    "a.bmp": ("BMP", {}),
    "a.dib": ("DIB", {}),
    "a.ppm": ("PPM", {}),
    "a.pgm": ("PPM", {}),
    "a.tga": ("TGA", {}),
    "run_lengths.tga": ("TGA", {"compression": "tga_rle"}),
}
LOSSY = {
    "a.jpg": ("JPEG", {"quality": 95}),
    "a.jpeg": ("JPEG", {"quality": 95, "progressive": True}),
    "a.jpe": ("JPEG", {"quality": 95}),
    "a.jfif": ("JPEG", {"quality": 95}),
    "a.avif": ("AVIF", {"quality": 95}),
    "lossy.webp": ("WEBP", {"quality": 95}),
}


@pytest.fixture
def scene():
    """Smooth colours ``(24, 31, 3)``, which lossy kinds keep nearly."""
    rows, cols = np.mgrid[0:24, 0:31]
    waves = [np.sin(rows / 5), np.cos(cols / 6), np.sin((rows + cols) / 8)]
    return (127 + 100 * np.dstack(waves)).round().astype(np.uint8)


def written(folder, array, name, kind, **options):
    Image.fromarray(array).save(folder / name, kind, **options)
    return folder / name


def read(path):
    return load(path).to_array()


@pytest.mark.parametrize(
    ("name", "grey"),
    [
        (name, grey)
        for name in LOSSLESS
        for grey in (False, True)
        if grey == {"a.pgm": True, "a.ppm": False}.get(name, grey)
    ],
)
def test_a_lossless_kind_is_read_to_the_last_bit(tmp_path, scene, name, grey):
    kind, options = LOSSLESS[name]
    array = scene[..., 0] if grey else scene
    found = load(written(tmp_path, array, name, kind, **options))
    shown = np.repeat(array[..., None], 3, 2) if grey else array
    np.testing.assert_allclose(found.pixels.permute(1, 2, 0).numpy() * 255, shown, atol=1e-4)


@pytest.mark.parametrize("name", LOSSY)
def test_a_lossy_kind_is_read_nearly(tmp_path, scene, name):
    kind, options = LOSSY[name]
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    found = read(written(tmp_path, scene, name, kind, **options)).astype(int)
    assert np.sqrt(np.square(found - scene).mean()) < 5


def test_of_a_phones_several_pictures_the_first_is_meant(tmp_path, scene):
    """The one beside it is a preview, or a map of depths."""
    first, other = Image.fromarray(scene), Image.fromarray(255 - scene)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[other], quality=95)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert (picture.format, picture.n_frames) == ("MPO", 2)
    assert np.sqrt(np.square(read(tmp_path / "a.jpg").astype(int) - scene).mean()) < 5


def test_a_gif_of_one_frame(tmp_path, scene):
    colours = Image.fromarray(scene).quantize(64)
    colours.save(tmp_path / "a.gif")
    np.testing.assert_array_equal(read(tmp_path / "a.gif"), np.asarray(colours.convert("RGB")))


def test_a_folder_is_searched_for_every_suffix_of_the_page(tmp_path):
    """Those that the page's first column names, in capitals too."""
    column = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| ")]
    suffixes = {suffix for cell in column for suffix in re.findall(r"`(\.[a-z0-9]+)`", cell)}
    assert suffixes == SUFFIXES
    for suffix in suffixes:
        for name in (f"a{suffix}", f"B{suffix.upper()}"):
            (tmp_path / name).write_bytes(b"")
    assert len(list_pictures(tmp_path)) == 2 * len(suffixes)


def test_every_decoder_is_tried_here():
    tried = {kind for kind, _ in [*LOSSLESS.values(), *LOSSY.values()]} | {"MPO", "GIF"}
    assert tried == set(FORMATS)


def test_each_row_of_the_page_has_its_test():
    """In the file that it names, by that name; and a row without any is no row of it."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| kind", "| what"))]
    assert len(rows) > 30
    for row in rows:
        found = re.search(r"`(tests/[\w/]+\.py)::(\w+)` \|$", row)
        assert found, row
        tree = ast.parse((ROOT / found[1]).read_text(encoding="utf-8"))
        assert found[2] in {part.name for part in tree.body if isinstance(part, ast.FunctionDef)}, row
