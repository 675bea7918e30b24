"""A recipe names another one for noisy and compressed photos, and each photo gets the one that fits it."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import invdiff
from invdiff.components.weights import save_prior
from invdiff.errors import RecipeError
from invdiff.io.decoding import load

CHOICE = ("input:", "instead: {recipe: other.yaml, noise: 0.02, quality: 80}\ninput:")


@pytest.fixture
def two(recipe, tiny_prior, tmp_path):
    """A recipe for clean photos, which names ``other`` for those with 2 % of noise or a JPEG quality of 80."""
    save_prior(tiny_prior(seed=1), "mcformer", tmp_path / "other.safetensors")
    one_step = ("steps: 2", "steps: 1\n  temperature: 0")
    recipe(("name: tiny", "name: other"), one_step, name="other.yaml", weights=tmp_path / "other.safetensors")
    return recipe(CHOICE)


@pytest.fixture
def photo(tmp_path):
    """Saves a grey ramp with noise of a standard deviation, as PNG, or as JPEG of a quality."""

    def save(name, noise=0.0, quality=None, light=1.0):
        rng = np.random.default_rng(0)
        ramp = np.linspace(0.2, 0.8, 20)[None, :, None] * np.ones((16, 1, 3))
        pixels = light * (ramp + noise * rng.standard_normal(ramp.shape))
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        picture = Image.fromarray((255 * pixels).round().clip(0, 255).astype(np.uint8))
        picture.save(path, **({} if quality is None else {"quality": quality}))
        return path

    return save


def test_each_photo_gets_what_fits(two, cli, photo, tmp_path, report):
    """A folder of four: what is noisy or compressed goes to the other one, and comes out as if that had been named."""
    photo("clean.png")
    photo("noisy.png", noise=0.04)
    photo("fine.jpg", quality=95)
    photo("coarse.jpg", quality=60)
    out = tmp_path / "out"
    result = cli("run", two, tmp_path / "in", "-o", out)
    assert result.code == 0, result.err
    entries = report(out)
    taken = {stem: entry["words"]["done"] for stem, entry in entries.items()}
    assert taken["clean"] == taken["fine"] == "enlarged 4 times by tiny, in 2 steps"
    assert taken["noisy"].startswith(
        "enlarged 4 times by other, in 1 step; chosen rather than tiny for colour noise of "
    )
    assert taken["coarse"] == "enlarged 4 times by other, in 1 step; chosen rather than tiny for JPEG quality of 60"
    assert taken["coarse"] in result.out
    assert [entries[stem].get("settings", {}).get("name") for stem in ("clean", "noisy")] == [None, "other"]
    assert (entries["clean"]["steps"], entries["noisy"]["steps"]) == (2, 1)
    named = report(out, whole=True)["settings"]["instead"]
    assert named == {"recipe": "other.yaml", "noise": 0.02, "quality": 80, "grain": 1.0}
    pictures = tmp_path / "in"
    command = ["run", tmp_path / "other.yaml", pictures / "noisy.png", pictures / "coarse.jpg", "-o", tmp_path / "same"]
    assert cli(*command).code == 0
    command = ["run", two, pictures / "clean.png", "-o", tmp_path / "same", "--set", "instead=null"]
    assert cli(*command).code == 0
    for stem in ("clean", "noisy", "coarse"):
        assert (out / f"{stem}.png").read_bytes() == (tmp_path / "same" / f"{stem}.png").read_bytes()
    assert "4 already done" in cli("run", two, tmp_path / "in", "-o", out).out
    assert {stem: entry["words"]["done"] for stem, entry in report(out).items()} == taken


def test_a_jpeg_that_was_saved_anew(two, cli, tmp_path, report):
    """Its pixels tell, wherever it was cut: it is restored as the JPEG is, and the report says why."""
    Image.fromarray(data.astronaut()[:203, 200:403]).save(tmp_path / "a.jpg", quality=60)
    Image.open(tmp_path / "a.jpg").crop((5, 3, 69, 67)).save(tmp_path / "b.png")
    result = cli("run", two, tmp_path / "b.png", "-o", tmp_path / "out")
    assert result.code == 0, result.err
    entry = report(tmp_path / "out")["b"]
    assert entry["words"]["found"].endswith("; former JPEG quality about 60")
    assert entry["words"]["done"].endswith("; chosen rather than tiny for former JPEG quality of 60")
    assert (entry["findings"]["jpeg_quality"], entry["findings"]["jpeg_former"]) == (60, True)
    assert "for former JPEG quality of 60" in cli("run", two, tmp_path / "b.png", "--dry-run", "--force").out


def test_python_does_the_same(two, cli, photo, tmp_path):
    """A PIL image and an array choose as a file does; a tensor is a measurement, and several draws stay, too."""
    path = photo("noisy.png", noise=0.04)
    assert cli("run", two, path, "-o", tmp_path / "out").code == 0
    pipe, written = invdiff.load(two), load(tmp_path / "out" / "noisy.png").to_array()
    with Image.open(path) as picture:
        found = pipe.restore(picture)
    assert np.array_equal(np.asarray(found.image), written)
    assert "chosen rather than tiny for colour noise" in found.findings.words["done"]
    assert np.array_equal(pipe.restore(np.asarray(Image.open(path))).image, written)
    alone = invdiff.load(two, overrides=["instead=null"])
    pixels = load(path).pixels
    assert torch.equal(pipe.restore(pixels).image, alone.restore(pixels).image)
    assert torch.equal(
        pipe.restore(load(path), samples=2).image.pixels, alone.restore(load(path), samples=2).image.pixels
    )


def test_the_noise_as_a_prior_is_shown_it(two, photo):
    """A dark photo is brightened before the loop, and its noise with it."""
    pipe = invdiff.load(two)
    bright, dark = (load(photo(f"{light}.png", noise=0.03, light=light)) for light in (1.0, 0.125))
    assert pipe.fitting(bright) is pipe.fitting(dark) is pipe.instead.pipeline
    assert pipe.fitting(load(photo("clean.png"))) is pipe


def test_what_is_made_here_stays(two, cli, picture, tmp_path, report):
    """Clean pictures that are degraded here, and the sample: the recipe that was named, whatever it adds to them."""
    noise = "degradation.noise_sigma=0.05"
    path = picture("a.png", 48, 48)
    command = ["run", two, path, "--synthesize", "--set", noise]
    assert cli(*command, "-o", tmp_path / "a").code == 0
    assert cli(*command, "-o", tmp_path / "b", "--set", "instead=null").code == 0
    assert "chosen" not in report(tmp_path / "a")["a"]["words"]["done"]
    assert (tmp_path / "a" / "a.png").read_bytes() == (tmp_path / "b" / "a.png").read_bytes()


def test_changes_hold_for_both_and_parts_for_one(two):
    """Steps and seed are said of both recipes; whoever changes the prior or its guidance means this one alone."""
    other = invdiff.load(two, overrides=["sampler.steps=3"], seed=9).instead.pipeline
    assert (other.sampler.steps, other.seed, other.identity["name"]) == (3, 9, "other")
    assert invdiff.load(two, overrides=["guidance.0.strength=0.5"]).instead is None
    assert invdiff.load(two, overrides=["instead.noise=0.5"]).instead.limits.noise == 0.5


def test_not_inherited_and_not_shared(two, tmp_path):
    """It names a file beside the recipe that says it."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mine.yaml").write_text("extends: ../tiny.yaml\nname: mine\n")
    assert invdiff.load(tmp_path / "more" / "mine.yaml").instead is None
    folder = invdiff.save_pretrained(two, tmp_path / "shared")
    assert invdiff.from_pretrained(folder).instead is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "{recipe: none.yaml, noise: 0.02, quality: 80}",
            r"tiny.yaml:\d+: instead.recipe: .*none.yaml: no such",
        ),
        ("{recipe: tiny.yaml, noise: 0.02, quality: 80}", "names another one in its turn"),
        ("{recipe: other.yaml, noise: -1, quality: 80}", r"tiny.yaml:\d+: instead.noise: .*greater than or equal to 0"),
        ("{recipe: other.yaml, quality: 80}", r"tiny.yaml:\d+: instead.noise: missing"),
        ("{recipe: other.yaml, noise: 1, quality: 80, dust: 1}", r"instead.dust: unknown key"),
        ("{recipe: small.yaml, noise: 1, quality: 80}", "an operator of another scale, or with other parameters"),
    ],
)
def test_what_cannot_be_is_one_line(two, recipe, tmp_path, change, said):
    recipe(("scale: 4", "scale: 2"), name="small.yaml")
    with pytest.raises(RecipeError, match=said):
        invdiff.load(recipe((CHOICE[0], f"instead: {change}\ninput:")))


def test_the_bundled_recipe(cli, photo, tmp_path, report):
    """By name, on a compressed photo: the bundled prior that has seen such."""
    out = tmp_path / "out"
    assert cli("run", "blindsr_x4", photo("photo.jpg", quality=60), "-o", out).code == 0
    entry = report(out)["photo"]
    assert entry["settings"]["name"] == "blindsr_x4_photo"
    assert entry["settings"]["prior"]["weights"] == "blindsr_x4_photo"
    certificate = hashlib.sha256((out / "photo.png").read_bytes()).hexdigest()
    assert entry["certificate"]["sha256"] == certificate
    json.dumps(entry)


def test_a_pipeline_goes_to_other_processes(two, photo):
    """With the other one that it may choose."""
    pipe = invdiff.load(two)
    there = pickle.loads(pickle.dumps(pipe))
    image = Image.open(photo("noisy.png", noise=0.04))
    want, found = pipe.restore(image), there.restore(image)
    assert found.findings.done == want.findings.done
    assert "by other" in found.findings.done
    assert np.array_equal(np.asarray(found.image), np.asarray(want.image))
