"""Every hostile case of the table: one line that says what is wrong, the right exit code, in time."""

from __future__ import annotations

import os
import re
import shlex
import time

import pytest
from cases import CALLS, CHANGES, GOOD, KERNELS, PICTURES, RECIPES

pytestmark = pytest.mark.skipif(os.name != "posix", reason="devices and other users are as Unix has them")


@pytest.fixture
def in_time():
    """No case computes longer than ten seconds; others may keep the machine busy meanwhile."""
    started = time.process_time()
    yield
    assert time.process_time() - started < 10


@pytest.fixture
def said(refused, in_time):
    """Runs what must be refused; its line is short and has nothing that a terminal would obey."""

    def run(*arguments):
        message = refused(*arguments)
        assert len(message) < 2200
        assert not re.search("[\x00-\x1f\x7f\u202e]", message)
        return message

    return run


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(said, tmp_path, name):
    text, words = RECIPES[name]
    path = tmp_path / "case.yaml"
    path.write_bytes(text)
    assert words.format(path=path) in said("info", path)


@pytest.mark.parametrize("name", CHANGES)
def test_change(said, recipe, tmp_path, name):
    change, words = CHANGES[name]
    assert words in said("run", recipe(), "-o", tmp_path / "out", "--set", change)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", CALLS)
def test_call(said, recipe, training, picture, tmp_path, monkeypatch, name):
    call, words = CALLS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    photo = picture("photo.png", folder=tmp_path / "photos")
    places = {name: tmp_path / name for name in ("none", "empty", "out", "photos")}
    places |= {"recipe": recipe(name="a.yaml"), "training": recipe(text=training.read_text(), name="b.yaml")}
    places["photo"] = photo
    before = {*tmp_path.iterdir(), places["out"]}
    assert words.format(**places) in said(*(word.format(**places) for word in shlex.split(call)))
    assert before.issuperset(tmp_path.iterdir())


@pytest.mark.parametrize("name", PICTURES)
def test_picture(cli, recipe, picture, in_time, tmp_path, name):
    data, suffix, words = PICTURES[name]
    good = picture("good.png")
    bad = good.with_name(f"bad{suffix}")
    bad.write_bytes(data)
    done = cli("run", recipe(), bad, good, "-o", tmp_path / "out", "--quiet")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1), done.err
    assert done.err.startswith(f"failed: {bad}: ")
    assert words in done.err
    assert 5 < len(done.err.partition(f"{bad}: ")[2]) < 2200
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png") if path.stem.count(".") == 0) == ["good.png"]


@pytest.mark.parametrize("name", KERNELS)
def test_kernel(said, recipe, picture, tmp_path, name):
    data, suffix, words = KERNELS[name]
    path = tmp_path / f"kernel{suffix}"
    path.write_bytes(data)
    message = said("run", recipe(), picture("a.png"), "-o", tmp_path / "out", "--kernel", path)
    assert message.startswith(f"{path}")
    assert words in message
    assert len(message) > len(f"{path}: ") + 5


def test_the_good_ones_beside_them_are_good(cli, recipe, tmp_path):
    """What the cases spoil is right before they do."""
    path = tmp_path / "case.yaml"
    path.write_text(GOOD)
    assert cli("info", path, "--size", "64").code == 0
