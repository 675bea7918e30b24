"""Several draws of one posterior: the first is the single result, and the others are new."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff.errors import InvdiffError
from invdiff.io.decoding import load


@pytest.fixture
def pipe(recipe):
    return invdiff.load(recipe(), overrides=["sampler.temperature=1"])


def ends_of(pipe, photo, samples=1):
    """What the last step of each draw arrived at, and the result."""
    seen = []
    out = pipe.restore(photo, samples=samples, callback=seen.append)
    return [record.x0[0] for record in seen if record.index == record.steps - 1], out


def test_the_first_is_the_single_one(pipe, picture):
    photo = load(picture("a.png")).pixels
    (alone,), single = ends_of(pipe, photo)
    (first, second), out = ends_of(pipe, photo, 2)
    assert torch.equal(first, alone)
    assert not torch.equal(second, first)
    # Of two draws a and b with mean m: b is 2m - a, and the standard deviation |a - b| over the root of 2.
    apart = 2 * (out.image - single.image)
    torch.testing.assert_close(out.uncertainty, (apart.square() / 2).mean(0).sqrt(), atol=1e-5, rtol=1e-3)
    assert 0.001 < float(out.uncertainty.mean()) < 0.5
    assert out.evaluations == 2 * single.evaluations
    assert single.uncertainty is None
    again, _ = ends_of(pipe, photo, 3)
    assert torch.equal(again[1], second)  # however many follow


def test_a_batch_and_what_cannot_be(pipe, picture):
    photos = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = pipe.restore(photos, samples=2)
    assert out.uncertainty.shape == (2, 64, 64)
    torch.testing.assert_close(out.image[1], pipe.restore(photos[1], samples=2).image)
    with pytest.raises(InvdiffError, match="one draw"):
        pipe.restore(photos[0], samples=2, trace=True)
    with pytest.raises(InvdiffError, match="at least 1"):
        pipe.restore(photos[0], samples=0)


@pytest.mark.parametrize("change", ["sampler.temperature=0", "sampler.steps=1"])
def test_nothing_to_draw_is_one_line(recipe, refused, picture, tmp_path, change):
    line = refused("run", recipe(), picture("a.png"), "-o", tmp_path / "out", "--samples", 3, "--set", change)
    assert line.startswith("3 samples: temperature 0, or one step, gives the mean")
    assert not (tmp_path / "out" / "a.png").exists()


def test_files_and_words(recipe, cli, picture, tmp_path, report, pipe):
    photo, out = picture("a.png"), tmp_path / "out"
    command = ["run", recipe(), photo, "-o", out, "--set", "sampler.temperature=1"]
    result = cli(*command, "--samples", 3)
    assert result.code == 0
    entry = report(out)["a"]
    expected = pipe.restore(load(photo), samples=3)
    assert np.array_equal(expected.image.to_array(), load(out / "a.png").to_array())
    white = entry["uncertainty_white"]
    levels = np.asarray(Image.open(out / "a.uncertainty.png")) / 255 * white
    np.testing.assert_allclose(levels, expected.uncertainty.clamp(max=white).numpy(), atol=white / 500)
    assert entry["findings"]["draws"] == 3
    assert entry["words"]["sure"].startswith("3 draws agree on ")
    assert f"white in the uncertainty map is {255 * white:.0f} grey levels" in result.out
    assert "a.uncertainty.png" in entry["files"]
    assert "1 already done" in cli(*command, "--samples", 3).out
    assert "1 restored" in cli(*command).out
    assert "sure" not in report(out)["a"]["words"]
    (image,) = json.loads(cli(*command, "--samples", 2, "--json").out)["images"]
    assert image["steps"] == 2
    assert image["evaluations"] == 4
