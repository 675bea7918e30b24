"""A kernel that is nearly a point is taken for one, and no other; photos that were not shaken are left as they are."""

from __future__ import annotations

import types

import pytest
import torch

import invdiff
from invdiff.degradation import BoxSpace
from invdiff.errors import RecipeError
from invdiff.guidance import Step
from invdiff.io.pictures import sample_photo
from invdiff.metrics import psnr_rgb_shifted
from invdiff.prior import PriorSpec
from invdiff.schedule import NoiseSchedule
from invdiff.testing import check_guidance
from invdiff_kernel_guidance.still import Still, StillSettings
from invdiff_motion.camera_shake import CameraShake, CameraShakeSettings
from invdiff_motion.operator import Motion, MotionSettings

SIDE, MIDDLE = 15, 7


def with_peak(peak):
    """A kernel of a straight movement, of unit sum, with that value in its middle."""
    kernel = torch.zeros(SIDE, SIDE)
    kernel[MIDDLE, MIDDLE - 2 : MIDDLE + 3] = (1 - peak) / 4
    kernel[MIDDLE, MIDDLE] = peak
    return kernel


POINT = with_peak(1.0)
RESTED = torch.zeros(SIDE, SIDE)
"""Most of the time at one place, and then away in a line."""
RESTED[MIDDLE, MIDDLE], RESTED[MIDDLE, MIDDLE + 1 :] = 0.58, 0.06


def refined(theta, operator=None, **settings):
    operator = Motion(MotionSettings(kernel_size=SIDE)) if operator is None else operator
    spec = PriorSpec(NoiseSchedule.linear(1000), value_range=(0.0, 1.0))
    x = torch.rand(1 if theta is None else len(theta), 3, 24, 30, generator=torch.Generator().manual_seed(0))
    step = Step(0, 1, 0, -1, x, x, theta, x, types.SimpleNamespace(spec=spec), operator, None)
    found = Still(StillSettings(**settings)).refine(step)
    assert torch.equal(found.x0, x)
    return found.theta


def test_it_keeps_the_rules_of_guidances():
    check_guidance(Still(), operator=Motion(MotionSettings(kernel_size=SIDE)))


@pytest.mark.parametrize(("peak", "said", "point"), [(0.49, {}, False), (0.51, {}, True), (0.49, {"peak": 0.4}, True)])
def test_a_kernel_that_is_nearly_a_point_is_one(peak, said, point):
    """Each of a batch by itself, and not a hand that rested."""
    others = [with_peak(0.25), RESTED]
    found = refined(torch.stack([*others, with_peak(peak)]), **said)
    torch.testing.assert_close(found, torch.stack([*others, POINT if point else with_peak(peak)]))


@pytest.mark.parametrize(("share", "point"), [(0.4, False), (0.8, True)])
def test_a_camera_that_hardly_moved(share, point):
    """Also where the blur differs across the picture: the camera stayed that share of the time where it began."""
    operator = CameraShake(CameraShakeSettings(kernel_size=SIDE))
    space = operator.parameters
    still = space.neutral(torch.zeros(1, 3, 24, 30))
    moved = (still.roll((2, 1), (-2, -1)) + still.roll((-1, 2), (-2, -1))) / 2
    found = refined(share * still + (1 - share) * moved, operator)
    kernels = operator.kernels_of(found, (24, 30), 4)[0]
    assert bool((kernels.amax((-2, -1)) > 0.99).all()) == point


@pytest.mark.parametrize("recipe", ["deblur_ffhq", "deblur_turned"])
def test_a_photo_that_was_not_shaken_is_left_as_it_is(recipe):
    y = sample_photo("face").shown()[:, 64:192, 64:192]
    pipe = invdiff.load(recipe)
    out = pipe.restore(y)
    assert float(out.parameters.max()) == 1
    assert psnr_rgb_shifted(out.image, y) > 40
    pipe.guidance = [guide for guide in pipe.guidance if not isinstance(guide, Still)]
    assert psnr_rgb_shifted(pipe.restore(y).image, y) < 36


def test_where_it_does_not_belong():
    operator = Motion(MotionSettings(kernel_size=SIDE))
    with pytest.raises(RecipeError, match="still: nothing has found a kernel"):
        refined(None)
    operator.parameters = BoxSpace(("gain",), (0.0,), (2.0,))
    assert Still().unfit(operator) == "it is for operators that blur"


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_a_blank_photo_says_nothing(level):
    """Nor does one whose light falls off by less than two levels a pixel."""
    fall = torch.linspace(0, 0.1, 48).expand(3, 40, -1)
    pipe = invdiff.load("deblur_ffhq")
    for photo in (torch.full((3, 40, 48), level), (level + fall).clamp(0, 1)):
        y = (photo * 255).round() / 255
        out = pipe.restore(y)
        assert float(out.parameters.max()) == 1
        assert "no edges to read a shake from" in out.findings.words["done"]
        assert float((out.image - y).abs().max()) < 16 / 255
