"""Several orientations of one picture: their mean turns with the picture, and kernels with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import invdiff
from invdiff.orientation import ORIENTATIONS, shown, upright
from invdiff_blindsr.kernels import gaussian

EIGHT = ["sampler.orientations=8", "sampler.temperature=0"]
ONE = ["sampler.temperature=0"]


@pytest.fixture
def photo():
    return torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(1))


def test_the_eight_are_all_there_are():
    """Each differs from the others, each comes back, and two in a row are another of them."""
    x = torch.arange(12.0).view(3, 4)
    ways = [shown(x, way) for way in range(ORIENTATIONS)]
    assert len({str(way.tolist()) for way in ways}) == 8
    for way, one in enumerate(ways):
        assert torch.equal(upright(one, way), x)
        assert any(torch.equal(shown(one, 5), other) for other in ways)
    assert np.array_equal(ways[1], np.rot90(x))
    assert np.array_equal(ways[4], np.fliplr(x))


@pytest.mark.parametrize("way", range(ORIENTATIONS))
def test_the_result_turns_with_its_picture(recipe, photo, way):
    pipe = invdiff.load(recipe(), overrides=EIGHT)
    plain, turned = pipe.restore(photo), pipe.restore(shown(photo, way))
    torch.testing.assert_close(turned.image, shown(plain.image, way), atol=2e-5, rtol=0)
    torch.testing.assert_close(turned.parameters, shown(plain.parameters, way), atol=2e-5, rtol=0)


def test_of_a_single_one_it_does_not(recipe, photo):
    pipe = invdiff.load(recipe(), overrides=ONE)
    turned = pipe.restore(shown(photo, 1)).image
    assert float((turned - shown(pipe.restore(photo).image, 1)).abs().max()) > 1e-3


@pytest.mark.parametrize("ways", [1, 3, 8])
def test_it_is_the_mean(recipe, photo, ways):
    """Of so many, each restored by itself; inside [0, 1], where nothing is clipped."""
    photo = 0.4 + 0.2 * photo
    path = recipe()
    one, several = (invdiff.load(path, overrides=[*ONE, f"sampler.orientations={n}"]) for n in (1, ways))
    each = [one.restore(shown(photo, way)) for way in range(ways)]
    found = several.restore(photo)
    mean = torch.stack([upright(one.image, way) for way, one in enumerate(each)]).mean(0)
    kernel = torch.stack([upright(one.parameters, way) for way, one in enumerate(each)]).mean(0)
    torch.testing.assert_close(found.image, mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.parameters, kernel, atol=1e-6, rtol=0)
    assert found.evaluations == ways * each[0].evaluations
    assert ("orientations" in found.findings.done) == (ways > 1)


def test_a_kernel_that_is_told_is_turned_as_well(recipe, photo):
    photo = 0.4 + 0.2 * photo
    kernel = gaussian(21, 3.0, 0.8, 0.5).float()
    path = recipe()
    one, eight = (invdiff.load(path, overrides=changes) for changes in (ONE, EIGHT))
    each = [one.restore(shown(photo, w), kernel=shown(kernel, w)).image for w in range(8)]
    found = eight.restore(photo, kernel=kernel)
    mean = torch.stack([upright(x, way) for way, x in enumerate(each)]).mean(0)
    torch.testing.assert_close(found.image, mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.parameters, kernel)


def test_steps_are_told_of_upright(recipe, photo):
    steps = []
    pipe = invdiff.load(recipe(), overrides=EIGHT)
    found = pipe.restore(photo, callback=steps.append)
    assert [step.index for step in steps] == list(range(16))
    assert {step.steps for step in steps} == {16}
    assert {tuple(step.x0.shape[-2:]) for step in steps} == {(64, 96)}
    last = torch.cat([step.x0 for step in steps if step.index % 2]).mean(0)
    assert float((last - found.image).abs().mean()) < 0.05


def test_an_operator_that_does_not_turn_is_refused(recipe):
    """Of each four pixels the first: mirrored, it is the last."""
    with pytest.raises(invdiff.InvdiffError, match="orientations: this operator does not turn with its picture"):
        invdiff.load(recipe(), overrides=[*EIGHT, "degradation.downsample=stride"])


def test_same_bytes_in_a_batch(recipe, photo):
    pipe = invdiff.load(recipe(), overrides=["sampler.orientations=2", "sampler.temperature=1"])
    both = pipe.restore(torch.stack([1 - photo, photo]))
    assert torch.equal(both.image[1], pipe.restore(photo).image)


def test_several_draws_are_of_one(recipe, photo):
    """As many evaluations as draws: an orientation more would draw what is shown once."""
    path = recipe()
    plain = invdiff.load(path, overrides=["sampler.temperature=1"]).restore(photo, samples=2)
    found = invdiff.load(path, overrides=["sampler.temperature=1", "sampler.orientations=8"]).restore(photo, samples=2)
    assert found.evaluations == plain.evaluations
    assert torch.equal(found.image, plain.image)
