"""How well a result explains its photo, where the truth is known: noise, JPEG and a blur that is another one."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from invdiff.blur import blur
from invdiff.io.jpeg import Jpeg
from invdiff.metrics.words import findings_of


@pytest.fixture(scope="module")
def scene():
    """A soft photo without noise, ``(3, 96, 128)``: waves with a period of 20 pixels and more."""
    rows, cols = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    waves = [0.5 + 0.35 * torch.sin(rows / (3.3 + k) + cols / (4 + 3 * k)) for k in range(3)]
    return torch.stack(waves)


def noisy(scene, sigma):
    noise = torch.randn(scene.shape, generator=torch.Generator().manual_seed(1))
    return ((scene + sigma * noise).clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.04])
def test_the_truth_explains_its_photo(scene, sigma):
    found = findings_of(noisy(scene, sigma), scene)
    assert found.explained
    assert found.times == pytest.approx(1, abs=0.35)
    assert found.fit.startswith("explained: what is left of it")
    assert found.found == (f"noise {100 * found.noise:.1f} %" if sigma else "no noise to speak of")
    assert found.noise == pytest.approx(sigma, abs=0.003)


@pytest.mark.parametrize("quality", [30, 60, 85])
def test_and_one_that_was_compressed(scene, quality):
    """What JPEG did is the file's to tell: without its tables the same difference is a misfit."""
    buffer = io.BytesIO()
    Image.fromarray((noisy(scene, 0.02) * 255).byte().permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
    file = Image.open(buffer)
    y = torch.from_numpy(np.asarray(file).copy()).permute(2, 0, 1) / 255
    told, untold = findings_of(y, scene, jpeg=Jpeg.of(file)), findings_of(y, scene)
    assert told.numbers["jpeg_quality"] == quality
    assert told.found.endswith(f"JPEG quality about {quality}")
    assert told.floor > untold.floor
    assert told.times < untold.times
    assert told.explained


def test_another_blur_does_not(scene):
    other = blur(scene[None], torch.full((1, 1, 9), 1 / 9).expand(1, 9, 9) / 9, "reflect")[0]
    found = findings_of(noisy(scene, 0.005), other)
    assert found.fit.startswith("not explained: ")
    assert "sharpened or compressed before" in found.fit
    assert found.explained is False
    assert f"{255 * found.residual:.1f} of 255 grey levels" in found.fit


def test_small_misfits_are_called_small(scene):
    found = findings_of(noisy(scene, 0.0), scene + 2.5 / 255)
    assert found.explained is False
    assert found.fit.startswith("explained but for 2.5 of 255 grey levels")


def test_noise_that_was_drawn_again(scene):
    y = noisy(scene, 0.04)
    assert findings_of(y, y).fit.startswith("explained, its noise in part as well")


def test_what_nobody_knows(scene):
    found = findings_of(scene, None, blur="a haze", done="cleared")
    assert (found.residual, found.times, found.explained) == (None, None, None)
    assert found.words == {
        "found": "a haze; no noise to speak of",
        "done": "cleared",
        "fit": "not known: nothing says how the photo came about",
    }
