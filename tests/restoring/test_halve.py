"""``--halve``: a copy of half the size is restored, and who has a noisy photo hears of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff.blur import downsample_bicubic
from invdiff.io.decoding import load
from invdiff.io.pictures import eight_bit

HINT = "--halve gives less of both"


@pytest.fixture
def noisy(tmp_path):
    rng = np.random.default_rng(0)
    pixels = (128 + 20 * rng.standard_normal((21, 30, 3))).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noisy.png", dpi=(300, 300))
    return tmp_path / "noisy.png"


def test_it_is_what_restores_a_smaller_copy(cli, recipe, report, noisy, tmp_path):
    """Of 21 by 30 pixels 20 by 30 are halved; the result is twice the photo's size, and as large in print."""
    done = cli("run", recipe(), noisy, "-o", tmp_path / "out", "--halve")
    assert (done.code, HINT in done.out) == (0, False)
    copy = downsample_bicubic(load(noisy).pixels[None, :, :20], 2)[0].clamp(0, 1)
    want = invdiff.load(recipe()).restore(copy).image
    with Image.open(tmp_path / "out" / "noisy.png") as found:
        assert np.array_equal(np.asarray(found), eight_bit(want))
        assert found.size == (60, 40)
        assert found.info["dpi"] == pytest.approx((600, 600), rel=1e-3)
    entry = report(tmp_path / "out")["noisy"]
    assert entry["halved"] is True
    assert entry["words"]["done"].startswith("halved, then ")
    assert torch.isfinite(torch.tensor(entry["certificate"]["consistency"]))


def test_the_hint_is_for_noisy_photos_as_they_are(cli, recipe, picture, noisy, tmp_path):
    assert HINT in cli("run", recipe(), noisy, "-o", tmp_path / "noisy").out
    Image.new("RGB", (24, 24), (90, 120, 60)).save(tmp_path / "flat.png")
    assert HINT not in cli("run", recipe(), tmp_path / "flat.png", "-o", tmp_path / "flat").out


def test_both_are_kept_apart(cli, recipe, noisy, tmp_path):
    """A result of the whole photo is none of the halved one."""
    cli("run", recipe(), noisy, "-o", tmp_path / "out")
    assert "1 restored" in cli("run", recipe(), noisy, "-o", tmp_path / "out", "--halve").out
    assert "1 already done" in cli("run", recipe(), noisy, "-o", tmp_path / "out", "--halve").out


def test_a_plan_says_so(cli, recipe, noisy, tmp_path):
    told = cli("run", recipe(), noisy, "-o", tmp_path / "out", "--halve", "--dry-run").out
    assert "noisy.png: halved, then 15x10 to 60x40" in told
    assert "halved" not in cli("run", recipe(), noisy, "-o", tmp_path / "out", "--dry-run").out


def test_what_cannot_be_halved(refused, cli, recipe, tmp_path):
    assert "--halve goes with photos as they are" in refused("run", recipe(), "--synthesize", "--halve")
    assert refused("run", recipe(), "--halve") == "--halve goes with photos: name one"
    Image.new("RGB", (1, 9)).save(tmp_path / "thin.png")
    done = cli("run", recipe(), tmp_path / "thin.png", "-o", tmp_path / "out", "--halve")
    assert done.code == 1
    assert "too small to be halved" in done.err
