"""A dial for noise: what the result leaves of its photo is noise, and comes back where it is wanted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff.errors import InvdiffError
from invdiff.io.decoding import load
from invdiff.testing.subjects import ToyBlur


@pytest.fixture
def noisy():
    """A smooth scene as a photo of its, with noise of 5 grey levels: ``(3, 40, 48)``."""
    rows, cols = torch.meshgrid(torch.linspace(0, 3, 40), torch.linspace(0, 4, 48), indexing="ij")
    scene = (0.5 + 0.3 * torch.sin(rows) * torch.cos(cols)).expand(3, -1, -1)
    return scene + 5 / 255 * torch.randn(scene.shape, generator=torch.Generator().manual_seed(0))


def test_what_is_left_comes_back_by_parts(noisy):
    """Against the definition: the result, and so much of photo minus result degraded, enlarged as bicubic does."""
    pipe = invdiff.load("blindsr_x4_photo")
    clean = pipe.restore(noisy)
    left = noisy - pipe.degradation.apply(clean.image[None], clean.parameters[None])[0]
    for denoise in (1.0, 0.7, 0.0):
        found = pipe.restore(noisy, denoise=denoise)
        expected = (clean.image + (1 - denoise) * pipe.degradation.lift(left[None])[0]).clamp(0, 1)
        torch.testing.assert_close(found.image, expected)
        assert torch.equal(found.parameters, clean.parameters)
        assert found.residual <= clean.residual + 1e-6
    assert found.findings.words["done"].endswith(", in 1 step, 100 % of what it left of the photo put back")
    assert float(found.image.diff(dim=-1).std()) > 1.5 * float(clean.image.diff(dim=-1).std())


def test_at_one_nothing_changes(noisy):
    pipe = invdiff.load("blindsr_x4_photo")
    one, usual = pipe.restore(noisy, denoise=1.0), pipe.restore(noisy)
    assert torch.equal(one.image, usual.image)
    assert one.findings == usual.findings


def test_of_several_draws_and_a_batch(recipe, picture):
    pipe = invdiff.load(recipe(), overrides=["sampler.temperature=1"])
    y = load(picture("a.png")).pixels
    mean, found = pipe.restore(y, samples=2), pipe.restore(y, samples=2, denoise=0.5)
    left = y - pipe.degradation.apply(mean.image[None], mean.parameters[None])[0]
    expected = (mean.image + 0.5 * pipe.degradation.lift(left[None])[0]).clamp(0, 1)
    torch.testing.assert_close(found.image, expected)
    torch.testing.assert_close(found.uncertainty, mean.uncertainty)
    batch = pipe.restore(torch.stack([y, y.flip(-1)]), denoise=0.5)
    assert torch.equal(batch.image[0], pipe.restore(y, denoise=0.5).image)


def test_the_command(cli, picture, tmp_path, report):
    photo = picture("a.png", 24, 32)
    Image.open(photo).convert("L").convert("RGB").save(photo)
    for denoise in ("1", "0.5"):
        command = ["run", "blindsr_x4_photo", photo, "-o", tmp_path / denoise, "--denoise", denoise]
        assert cli(*command).code == 0
        assert "1 already done" in cli(*command).out
    found = invdiff.load("blindsr_x4_photo").restore(Image.open(photo), denoise=0.5)
    assert np.array_equal(np.asarray(found.image), np.asarray(Image.open(tmp_path / "0.5" / "a.png")))
    assert "50 % of what it left" in report(tmp_path / "0.5")["a"]["words"]["done"]
    assert "1 restored" in cli("run", "blindsr_x4_photo", photo, "-o", tmp_path / "1", "--denoise", "0.9").out


@pytest.mark.parametrize("denoise", [-0.1, 1.1, float("nan")])
def test_out_of_range(recipe, picture, denoise):
    with pytest.raises(InvdiffError, match="denoise: from 0 to 1, got"):
        invdiff.load(recipe()).restore(load(picture("a.png")), denoise=denoise)


def test_where_nobody_knows_what_is_noise():
    """A denoiser estimates no parameters, and no guidance does."""
    prior = invdiff.from_denoiser(lambda x, sigma: x)
    pipe = invdiff.Pipeline(ToyBlur(), prior, sampler=invdiff.SamplerSettings(steps=2), device="cpu")
    with pytest.raises(InvdiffError, match="denoise: nothing says how the photo came about"):
        pipe.restore(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)), denoise=0.5)
