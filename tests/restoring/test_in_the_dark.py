"""Dark photos are restored in their own range: of half the light, half the picture, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import invdiff
from invdiff import BoxSpace, Degradation
from invdiff.guidance import Problem
from invdiff.io.decoding import load
from invdiff.sampler import sample
from invdiff.seeds import Stream, content_of, stream


@pytest.fixture
def bright(picture):
    """A photo ``(3, 20, 24)`` that reaches 1."""
    pixels = load(picture("a.png", 20, 24)).pixels
    return pixels / pixels.max()


@pytest.mark.parametrize("recipe_changes", [[], ["guidance=[]"], ["guidance=[{kind: proximal, noise: 0.02}]"]])
@pytest.mark.parametrize("light", [1 / 2, 1 / 16])
def test_half_the_light_is_half_the_picture(recipe, bright, light, recipe_changes):
    pipe = invdiff.load(recipe(), overrides=recipe_changes)
    seen = []
    whole, less = pipe.restore(bright), pipe.restore(light * bright, callback=seen.append)
    if "proximal" in str(recipe_changes):  # which is told how noisy the photo is, and a dark one is so all the same
        assert not torch.equal(less.image / light, whole.image)
    else:
        assert torch.equal(less.image, light * whole.image)
        assert less.residual == pytest.approx(light * whole.residual, rel=1e-4)
        assert torch.equal(less.parameters, whole.parameters)
    assert float(seen[-1].x0.max()) < 1.5 * light  # what is shown on the way is as dark


def test_above_rounding_too(recipe, bright):
    """Eight bits of half the light."""
    pipe = invdiff.load(recipe(), overrides=["sampler.temperature=0"])
    whole, half = ((bright * light * 255).round() / 255 for light in (1, 0.5))
    ours, theirs = pipe.restore(half).image * 2, pipe.restore(whole).image
    assert float((ours - theirs).square().mean().sqrt()) < 2 / 255


@pytest.mark.parametrize("brightest", [0.51, 0.8, 1.0])
def test_others_are_as_they_were(recipe, bright, brightest):
    """The loop by itself, on the photo as it is: the same bytes."""
    pipe = invdiff.load(recipe())
    y = bright * brightest
    problem = Problem(y[None], pipe.degradation, pipe.prior, pipe.guidance)
    alone = sample(problem, pipe.sampler, [stream(pipe.seed, Stream.SAMPLING, *content_of(y))])
    assert torch.equal(pipe.restore(y).image, alone.x0[0].clamp(0, 1))


def test_black_stays_black_and_flat_flat(recipe):
    pipe = invdiff.load(recipe(), overrides=["sampler.temperature=0"])
    assert pipe.restore(torch.zeros(3, 16, 16)).image.isfinite().all()
    dark = pipe.restore(torch.full((3, 16, 16), 0.02)).image
    assert float(dark.max()) <= 1 / 16  # the range that it was restored in


def test_another_operator_is_left_alone(picture):
    """One whose parameter is the light itself."""

    class Light(Degradation):
        parameters = BoxSpace(("light",), (0.01,), (1.0,))

        def sample_parameters(self, batch, generator):
            return torch.full((batch, 1), 0.1)

        def apply(self, x, theta):
            return x * theta[:, :, None, None]

        def lift(self, y):
            seen.append(float(y.max()))
            return y

    seen = []
    prior = invdiff.from_denoiser(lambda x, sigma: x, sigma_max=0.1)
    pipe = invdiff.Pipeline(Light(), prior, [], invdiff.SamplerSettings(steps=2, temperature=0))
    y = load(picture("a.png")).pixels * 0.1
    pipe.restore(y, parameters=torch.tensor([0.1]))
    np.testing.assert_allclose(seen, float(y.max()))
