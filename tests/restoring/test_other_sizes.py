"""The same size, but clean and sharp; or twice: the result, shrunk exactly, in a file beside it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from invdiff.io.decoding import load


@pytest.mark.parametrize("scale", [1, 2])
def test_shrunk_exactly(recipe, cli, picture, tmp_path, report, scale):
    """As Pillow shrinks it: antialiased bicubic, to a level; alpha, grey and the size in print follow."""
    path, out = recipe(), tmp_path / "out"
    picture("a.png", 12, 17)
    photo = picture("b.png", 12, 17, mode="LA")
    Image.open(photo).save(photo, dpi=(72, 72))
    assert cli("run", path, tmp_path / "in", "-o", out, "--scale", scale).code == 0
    for stem, mode in (("a", "RGB"), ("b", "LA")):
        with Image.open(out / f"{stem}.png") as large, Image.open(out / f"{stem}.x{scale}.png") as small:
            assert (small.size, small.mode) == ((17 * scale, 12 * scale), mode)
            if mode == "LA":
                assert small.info["dpi"][0] == pytest.approx(72 * scale, abs=0.1)
            ours = np.asarray(small.convert("RGB")).astype(int)
            theirs = large.convert("RGB").resize(small.size, Image.Resampling.BICUBIC)
        inner = (slice(2, -2), slice(2, -2))  # beyond the border Pillow leaves out what is mirrored here
        assert np.abs(ours - np.asarray(theirs))[inner].max() <= 2
        assert f"{stem}.x{scale}.png" in report(out)[stem]["files"]


@pytest.mark.parametrize(
    ("asked", "name", "size"),
    [
        (("--scale", 1.5), "a.x1.5.png", (26, 18)),  # 17 times 1.5 is 25.5, to the even
        (("--scale", 3), "a.x3.png", (51, 36)),
        (("--scale", 0.01), "a.x0.01.png", (1, 1)),
        (("--size", "34"), "a.34.png", (34, 24)),
        (("--size", "x12"), "a.x12.png", (17, 12)),
        (("--size", "34x12"), "a.34x12.png", (17, 12)),
        (("--size", "17x40"), "a.17x40.png", (17, 12)),
        (("--size", "68x48"), "a.68x48.png", (68, 48)),
    ],
)
def test_any_size(recipe, cli, picture, tmp_path, report, asked, name, size):
    """Times the photo's size, or in pixels, of its own shape; as large as the result it is the result."""
    out = tmp_path / "out"
    result = cli("run", recipe(), picture("a.png", 12, 17), "-o", out, *asked)
    assert result.code == 0, result.err
    with Image.open(out / name) as small, Image.open(out / "a.png") as large:
        assert small.size == size
        if size == large.size:
            assert np.array_equal(np.asarray(small), np.asarray(large))
    assert name in report(out)["a"]["files"]


def test_the_rest_is_of_the_large_one(recipe, cli, picture, tmp_path, report):
    path, photo = recipe(), picture("a.png")
    assert cli("run", path, photo, "-o", tmp_path / "plain").code == 0
    command = ["run", path, photo, "-o", tmp_path / "both", "--scale", 1]
    assert cli(*command).code == 0
    assert (tmp_path / "plain" / "a.png").read_bytes() == (tmp_path / "both" / "a.png").read_bytes()
    plain, both = (report(tmp_path / name)["a"]["certificate"] for name in ("plain", "both"))
    assert plain == both
    assert "1 already done" in cli(*command).out
    (tmp_path / "both" / "a.x1.png").unlink()
    assert "1 restored" in cli(*command).out
    assert load(tmp_path / "both" / "a.x1.png").pixels.shape == (3, 16, 16)


def test_a_size_that_cannot_be_had(recipe, cli, refused, picture, tmp_path):
    path, photo = recipe(), picture("a.png")
    for scale in ("inf", "nan"):
        assert f"'{scale}' is not a number" in refused("run", path, photo, "-o", tmp_path / "out", "--scale", scale)
    for scale in (4, 8):
        line = refused("run", path, photo, "-o", tmp_path / "out", "--scale", scale)
        assert line == f"--scale {scale}: the result is 4 times the photo's size; it can also be had smaller"
    for size in ("0", "", "x", "-3", "12x", "1920x", "x0", "9" * 30, "1e3", "12 x 9"):
        line = refused("run", path, photo, "-o", tmp_path / "out", "--size", size)
        assert line == f"--size {size}: is a width, a height, or both to fit into: 1920, x1080, 1920x1080"
    result = cli("run", path, photo, "-o", tmp_path / "out", "--size", "65")
    assert result.code == 1
    assert f"failed: {photo}: --size 65: would be 65x65, and the result has 64x64 pixels\n" in result.err
    assert not (tmp_path / "out" / "a.png").exists()
    line = refused("run", path, photo, "-o", tmp_path / "out", "--size", "60", "--scale", 1)
    assert line == "--scale and --size say the same thing: give one of them"
    picture("a.x1.png")
    line = refused("run", path, tmp_path / "in", "-o", tmp_path / "out", "--scale", 1)
    assert line == "several inputs would be written to a.x1.png: restore them into several folders"
