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


DRAWS = ("input:", "draws: {steps: 3, temperature: 1, floor: 0.02, factor: 2}\ninput:")
ONE_STEP = ("steps: 2", "steps: 1\n  temperature: 0")


def test_a_recipe_says_how_it_draws(recipe, cli, picture, tmp_path, report):
    """Steps and noise for draws alone, and how far off their mean was on other photos."""
    path = recipe(DRAWS, ONE_STEP)
    photo = load(picture("a.png"))
    pipe = invdiff.load(path)
    plain = invdiff.load(path, overrides=["sampler.steps=3", "sampler.temperature=1"])
    out, same = pipe.restore(photo, samples=2), plain.restore(photo, samples=2)
    assert torch.equal(out.image.pixels, same.image.pixels)
    assert pipe.restore(photo).evaluations == 1
    # Other settings of the sampler are not what was measured.
    torch.testing.assert_close(out.uncertainty, (0.02**2 + 4 * same.uncertainty**2).sqrt())
    assert "their mean is off by about" not in same.findings.words["sure"]
    result = cli("run", path, picture("a.png"), "-o", tmp_path / "out", "--samples", 2)
    assert result.code == 0, result.err
    entry = report(tmp_path / "out")["a"]
    off = entry["findings"]["draws_off"]
    assert off == pytest.approx(float(out.uncertainty.double().square().mean().sqrt()), rel=1e-4)
    assert entry["words"]["sure"].endswith(f"; their mean is off by about {255 * off:.1f}, as on other photos")
    assert (entry["steps"], entry["evaluations"]) == (3, 6)
    assert "1 already done" in cli("run", path, picture("a.png"), "-o", tmp_path / "out", "--samples", 2).out
    changed = ["--samples", 2, "--set", "draws.factor=3"]
    assert "1 restored" in cli("run", path, picture("a.png"), "-o", tmp_path / "out", *changed).out


def test_the_floor_of_a_dark_photo(recipe, picture):
    """An eighth of the light: an eighth of everything, of what is not known, too."""
    pipe = invdiff.load(recipe(DRAWS))
    y = 0.6 + 0.4 * load(picture("a.png")).pixels
    bright, dark = pipe.restore(y, samples=2), pipe.restore(y / 8, samples=2)
    torch.testing.assert_close(dark.uncertainty, bright.uncertainty / 8, atol=1e-5, rtol=1e-3)


def test_draws_go_to_the_recipe_that_fits(recipe, tmp_path):
    """Several draws of a noisy photo: the other recipe makes them, if it says how; what extends it says nothing."""
    recipe(("name: tiny", "name: other"), DRAWS, ONE_STEP, name="other.yaml")
    path = recipe(("input:", "instead: {recipe: other.yaml, noise: 0.02, quality: 80}\ninput:"))
    pipe = invdiff.load(path)
    y = 0.5 + 0.04 * torch.randn(16, 20, 3, generator=torch.Generator().manual_seed(0)).numpy()
    out = pipe.restore(y, samples=2)
    assert out.evaluations == 6
    assert "by other, in 3 steps; chosen rather than tiny for colour noise" in out.findings.words["done"]
    (tmp_path / "over.yaml").write_text("extends: other.yaml\nname: over\nsampler: {steps: 2, temperature: 1}\n")
    assert invdiff.load(tmp_path / "over.yaml").restore(y, samples=2).evaluations == 4


def test_noise_levels_that_are_named_are_a_single_results(recipe, picture):
    """``draws.steps`` are as many as they say, also where the recipe names its noise levels."""
    named = ["sampler.sigmas=[0.3, 0.1]", "sampler.start=measurement"]
    pipe = invdiff.load(recipe(), overrides=[*named, "draws.steps=3", "sampler.temperature=1"])
    photo = load(picture("a.png"))
    assert pipe.restore(photo).evaluations == 2
    assert pipe.restore(photo, samples=2).evaluations == 6


def test_draws_that_cannot_be_are_told_before_the_first(refused, recipe, picture, tmp_path):
    said = refused("run", recipe(), picture("a.png"), "-o", tmp_path / "out", "--set", "draws.steps=5000")
    assert said.startswith("--set draws.steps=5000: draws.steps: the prior has 1000 steps at most")


def test_what_is_said_of_the_sampler_has_the_last_word(recipe, refused, cli, picture, tmp_path):
    """Over what the recipe says of draws, which then are no measured ones."""
    path, photo = recipe(("sampler:", "draws: {steps: 3, temperature: 1, floor: 0.1}\nsampler:")), picture("a.png")
    command = ["run", path, photo, "-o", tmp_path / "out", "--samples", 2]
    line = refused(*command, "--set", "sampler.temperature=0")
    assert line.startswith("2 samples: temperature 0")
    assert cli(*command).code == 0
    drawn = (tmp_path / "out" / "a.png").read_bytes()
    assert cli(*command, "--set", "sampler.steps=5").code == 0
    assert (tmp_path / "out" / "a.png").read_bytes() != drawn
    pipe = invdiff.load(path, overrides=["sampler.steps=5"])
    assert (pipe.draws.sampler(pipe.sampler).steps, pipe.draws.calibrated) == (5, False)
