"""``invdiff run --kernel FILE``: a blur that was measured is used, whatever the recipe."""

from __future__ import annotations

import numpy as np
import pytest

import invdiff
from invdiff.io.decoding import load

LINE = np.pad(np.full((1, 5), 0.2), ((2, 2), (0, 0)))


@pytest.fixture
def kernel(tmp_path):
    def write(array, name="kernel.npy"):
        np.save(tmp_path / name, array)
        return tmp_path / name

    return write


def test_it_is_used(recipe, cli, kernel, picture, tmp_path, report):
    photo = picture("a.png", 24, 20)
    known, blind = tmp_path / "known", tmp_path / "blind"
    assert cli("run", recipe(), photo, "-o", known, "--kernel", kernel(LINE)).code == 0
    assert cli("run", recipe(), photo, "-o", blind).code == 0
    assert (known / "a.png").read_bytes() != (blind / "a.png").read_bytes()
    of_python = invdiff.load(recipe()).restore(load(photo), kernel=LINE)
    assert np.array_equal(of_python.image.to_array(), load(known / "a.png").to_array())
    assert not (known / "a.kernel.npy").exists()  # nothing was estimated
    assert report(known)["a"]["residual"] == pytest.approx(of_python.residual)


def test_another_kernel_is_another_result(recipe, cli, kernel, picture, tmp_path):
    """What is done is done again under another kernel, and only then."""
    photo, out = picture("a.png", 24, 20), tmp_path / "out"
    command = ["run", recipe(), photo, "-o", out]
    assert "1 restored" in cli(*command, "--kernel", kernel(LINE)).out
    assert "1 already done" in cli(*command, "--kernel", kernel(LINE)).out
    assert "1 restored" in cli(*command, "--kernel", kernel(LINE.T, "other.npy")).out
    assert "1 restored" in cli(*command).out


def test_wrong_ones_are_one_line(recipe, refused, kernel, picture, tmp_path):
    photo = picture("a.png", 24, 20)

    def said(path, *more):
        return refused("run", recipe(), *([] if more else [photo]), "-o", tmp_path / "out", "--kernel", path, *more)

    assert said(kernel(np.ones((3, 5)))).endswith("a kernel is square, got 3x5")
    assert said(kernel(np.ones((31, 31)))).endswith("a kernel of 31x31 does not fit kernel_size 21")
    assert said(tmp_path / "none.npy").endswith("no such file or folder")
    assert said(photo.parent / "a.txt").endswith("no such file or folder")
    (tmp_path / "many").mkdir()
    for name in "ab":
        np.save(tmp_path / "many" / f"{name}.npy", LINE)
    assert said(tmp_path / "many").endswith("holds 2 kernels, and one is needed")
    assert "--kernel goes with degraded inputs" in said(kernel(LINE), "--synthesize")
    assert said(kernel(LINE), "--halve").startswith("--kernel is the blur of a photo as it is, --halve")


def test_photos_are_arguments_too(recipe, cli, picture, tmp_path, report):
    """As the shell expands ``-i *.png``, and as people write it."""
    files = [picture(f"{name}.png", 16, 20) for name in "abc"]
    assert cli("run", recipe(), "-i", *files, "-o", tmp_path / "out").code == 0
    assert sorted(report(tmp_path / "out")) == ["a", "b", "c"]


def test_a_kernel_off_its_middle_is_used_as_it_is_and_said(recipe, cli, kernel, picture, tmp_path):
    """As in Python: its middle is the origin. How far its mass lies from there is how far the scene is moved."""
    off = np.zeros((7, 7))
    off[5, 2:5] = 1
    photo = picture("a.png", 24, 20)
    done = cli("run", recipe(), photo, "-o", tmp_path / "out", "--kernel", kernel(off))
    assert done.code == 0
    assert "its mass lies 2 pixels below and 0 right of the middle" in done.err
    of_python = invdiff.load(recipe()).restore(load(photo), kernel=off)
    assert np.array_equal(of_python.image.to_array(), load(tmp_path / "out" / "a.png").to_array())
