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


def test_a_size_that_cannot_be_had(recipe, refused, picture, tmp_path):
    path, photo = recipe(), picture("a.png")
    for scale in (3, 4, 8):
        line = refused("run", path, photo, "-o", tmp_path / "out", "--scale", scale)
        assert line == f"--scale {scale}: the result is 4 times the photo's size; it can also be had at 1 and 2"
    picture("a.x1.png")
    line = refused("run", path, tmp_path / "in", "-o", tmp_path / "out", "--scale", 1)
    assert line == "several inputs would be written to a.x1.png: restore them into several folders"
