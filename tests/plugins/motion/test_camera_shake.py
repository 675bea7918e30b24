"""A camera that turns while it shakes: kernels against SciPy's shifts, photos against pictures that really turn."""

import math

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
import torch
from pydantic import ValidationError

from invdiff.degradation import KernelSpace
from invdiff.metrics import mnc
from invdiff.testing import parametrize_with_checks
from invdiff_motion.camera_shake import CameraShake, CameraShakeSettings
from invdiff_motion.hand import Hand, hand_poses
from invdiff_motion.operator import Motion, MotionSettings
from invdiff_motion.poses import kernels_at, poses_of

PLACES = ((-0.3, 0.5), (0.2, -0.7), (0.0, 0.0), (0.6, 0.66))


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=gen(seed), dtype=torch.float64)


def shake(**settings):
    return CameraShake(CameraShakeSettings.model_validate({"kernel_size": 15, "turns": 9, "reach": 4.0, **settings}))


SMALL = CameraShakeSettings(kernel_size=9, turns=5, reach=3.0, blended=(2, 3))


@parametrize_with_checks(
    [CameraShake(SMALL), *(CameraShake(SMALL.model_copy(update={"padding": p})) for p in ("valid", "circular"))]
)
def test_conformance(component, check):
    check(component)


# --- poses


def test_a_place_sees_every_turn_moved_across_the_way_to_the_middle():
    """By SciPy: linear interpolation, nothing from outside."""
    poses, reach = rand(1, 5, 13, 13) ** 4, 3.0
    found = kernels_at(poses, PLACES, reach)[0]
    for kernel, (down, right) in zip(found, PLACES, strict=True):
        want = np.zeros((13, 13))
        for turned, by in zip(poses[0].numpy(), np.linspace(-reach, reach, 5), strict=True):
            padded = np.pad(turned, 8)
            want += scipy.ndimage.shift(padded, (by * right, -by * down), order=1)[8:-8, 8:-8]
        np.testing.assert_allclose(kernel.numpy(), want, atol=1e-12)


def test_the_middle_sees_all_turns_alike():
    poses = rand(2, 7, 11, 11)
    torch.testing.assert_close(kernels_at(poses, ((0.0, 0.0),), 5.0)[:, 0], poses.sum(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_poses_are_found_again_from_their_kernels(seed):
    """Not the poses themselves, which nobody can tell apart; the kernels that follow, at other places too."""
    operator, size = shake(), (200, 300)
    poses = operator.sample_parameters(1, gen(seed))
    kernels = operator.kernels_of(poses, size, 9)
    found = poses_of(kernels, tuple((r / 3, c / 2) for r in (-1, 0, 1) for c in (-1, 0, 1)), 9, 4.0, 30)
    assert found.shape == poses.shape
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert float(found.min()) >= 0
    again = operator.from_kernels(kernels, size)
    theirs, ours = (operator.kernels_of(t, size, 9)[0] for t in (poses, again))
    assert min(mnc(a, b) for a, b in zip(ours, theirs, strict=True)) > 0.93
    elsewhere = ((0.4, 0.8), (-0.5, -0.9))
    theirs, ours = (kernels_at(t, elsewhere, 4.0)[0] for t in (poses, again))
    assert min(mnc(a, b) for a, b in zip(ours, theirs, strict=True)) > 0.85


def test_kernels_of_a_smaller_copy_turn_by_less():
    operator, size = shake(), (120, 160)
    kernels = rand(1, 9, 7, 7)
    found = operator.from_kernels(kernels / kernels.sum((-2, -1), keepdim=True), size)
    assert found.shape == (1, 9, 7, 7)
    want = poses_of(kernels / kernels.sum((-2, -1), keepdim=True), _middles(size), 9, 4.0 * 7 / 15, 30)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-6)


def _middles(size):
    """Three by three windows of half the sides, spread evenly, and half the longer side is one."""
    h, w = size
    line = [[n / 4, n / 2, 3 * n / 4] for n in (h, w)]
    half = max(size) / 2
    return tuple(((r - h / 2) / half, (c - w / 2) / half) for r in line[0] for c in line[1])


@pytest.mark.parametrize("seed", range(4))
def test_drawn_poses_have_their_mean_in_the_middle(seed):
    poses = hand_poses(31, 17, Hand(span=(6.0, 16.0)), gen(seed))
    assert float(poses.sum()) == pytest.approx(1, abs=1e-9)
    line = torch.arange(31, dtype=torch.float64) - 15
    turn = torch.arange(17, dtype=torch.float64) - 8
    assert abs(float((poses.sum((1, 2)) * turn).sum())) < 1e-6
    for dims in ((0, 2), (0, 1)):
        assert abs(float((poses.sum(dims) * line).sum())) < 1e-6


def test_the_smallest_kernels_have_room_for_a_shake():
    """Not for one as it is first drawn: it shrinks until it fits."""
    for seed in range(4):
        poses = hand_poses(3, 3, Hand(span=(6.0, 16.0), spread=(0.8, 0.8)), gen(seed))
        assert poses.shape == (3, 3, 3)
        assert float(poses.sum()) == pytest.approx(1, abs=1e-9)


# --- photos


def turned(x, poses, reach):
    """Every pose's picture, turned and moved as a whole, and their mean: an operator with no grid in it."""
    height, width = x.shape[1:]
    rows, cols = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    turns, side = poses.shape[0], poses.shape[-1]
    total = np.zeros(x.shape)
    for pose, part in zip(poses, np.linspace(-reach, reach, turns), strict=True):
        angle = part / (max(height, width) / 2)
        sine, cosine = math.sin(angle), math.cos(angle)
        for row, col in (pose > 1e-4).nonzero().tolist():
            at = cosine * rows - sine * cols - (row - side // 2), sine * rows + cosine * cols - (col - side // 2)
            at = at[0] + (height - 1) / 2, at[1] + (width - 1) / 2
            for channel, plane in enumerate(x):
                total[channel] += float(pose[row, col]) * scipy.ndimage.map_coordinates(
                    plane, at, order=1, mode="mirror"
                )
    return total / float(poses[poses > 1e-4].sum())


def test_it_is_what_a_turning_camera_makes_of_a_picture():
    x = skimage.data.astronaut()[::4, ::4].transpose(2, 0, 1) / 255
    operator = shake(blended=(6, 6))
    poses = operator.sample_parameters(1, gen(5))[0]
    want = turned(x, poses, 4.0)
    found = operator.apply(torch.from_numpy(x)[None], poses[None].double())[0].numpy()
    still = (
        Motion(MotionSettings(kernel_size=15)).apply(torch.from_numpy(x)[None], poses.sum(0)[None].double())[0].numpy()
    )
    inside = (slice(None), slice(12, -12), slice(12, -12))
    ours, without = (math.sqrt(((a - want)[inside] ** 2).mean()) for a in (found, still))
    assert ours < 0.01
    assert ours < without / 3


@pytest.mark.parametrize("padding", ["reflect", "valid"])
def test_without_a_turn_it_is_motion(padding):
    operator, motion = shake(padding=padding), Motion(MotionSettings(kernel_size=15, padding=padding))
    x, kernel = rand(1, 3, 61, 50), motion.sample_parameters(1, gen(1)).double()
    theta = operator.from_kernels(kernel[:, None], (40, 50))
    assert operator.parameters.contains(theta)
    y = operator.apply(x, theta)
    torch.testing.assert_close(y, motion.apply(x, kernel), rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.adjoint(y, theta), motion.adjoint(y, kernel), rtol=0, atol=1e-12)
    assert len(operator.views((40, 50), theta)) == 1
    torch.testing.assert_close(operator.kernels_of(theta, (40, 50), 9), kernel[:, None].expand(-1, 9, -1, -1))
    assert operator.described(theta[0]) == motion.described(kernel[0])


@pytest.mark.parametrize("padding", ["reflect", "valid"])
def test_a_view_of_the_photo_is_what_its_part_of_the_picture_becomes(padding):
    """With the same kernel everywhere, and away from borders that the view does not know."""
    operator, size = shake(padding=padding), (120, 160)
    theta = operator.from_kernels(
        Motion(MotionSettings(kernel_size=15)).sample_parameters(1, gen(2))[:, None], size
    ).double()
    margin = 7 if padding == "valid" else 0
    x = rand(1, 3, size[0] + 2 * margin, size[1] + 2 * margin)
    y = operator.apply(x, theta)
    views = operator.views(size)
    assert len(views) == 9
    covered = torch.zeros(size)
    for view in views:
        covered[view.window] += 1
        seen = view.degradation.apply(view.of_picture(x), operator.kernels_of(theta, size)[:, 0])
        inside = (..., slice(8, -8), slice(8, -8))
        torch.testing.assert_close(seen[inside], view.of_photo(y)[inside], rtol=0, atol=1e-12)
    assert bool((covered > 0).all())


def test_what_is_shown_is_every_views_kernel():
    operator, size = shake(), (100, 140)
    theta = operator.sample_parameters(1, gen(4))
    shown = operator.shown(theta[0], size)
    kernels = operator.kernels_of(theta, size, 9)[0]
    assert shown.shape == (45, 45)
    for place, kernel in enumerate(kernels):
        row, col = divmod(place, 3)
        assert torch.equal(shown[15 * row : 15 * row + 15, 15 * col : 15 * col + 15], kernel)
    assert "turned" in operator.described(theta[0])
    only_turned = operator.parameters.neutral(theta).sum(1, keepdim=True).expand_as(theta) / theta.shape[1]
    assert operator.described(only_turned[0]) == "in the middle hardly any shake, and the camera turned as well"
    one = operator.from_kernels(kernels[:1, None], size)
    torch.testing.assert_close(operator.shown(one[0], size), kernels[0])


def test_the_space_is_one_simplex():
    space = shake().parameters
    far = torch.randn(3, *space.shape, generator=gen(), dtype=torch.float64)
    found = space.project(far)
    assert space.contains(found)
    flat = KernelSpace(5).project(far[:, :1, :5, :5].reshape(3, 5, 5))  # the same rule, on fewer numbers
    torch.testing.assert_close(flat.sum((1, 2)), found.sum((1, 2, 3)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kernel_size": 14}, "kernel_size must be odd, got 14"),
        ({"turns": 4}, "turns must be odd, got 4"),
        ({"span": (9, 3)}, "low, high"),
        ({"reach": 0}, "greater than 0"),
        ({"blended": (0, 3)}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ValidationError, match=said):
        shake(**settings)


def test_its_borders_meet_where_they_are_to():
    """Then the prior looks round them, too."""
    for padding in ("circular", "reflect"):
        assert CameraShake(CameraShakeSettings(padding=padding)).wraps == (padding == "circular")


def test_no_shake_is_no_blur():
    """The neutral parameters, with which a guidance may begin."""
    operator = CameraShake(CameraShakeSettings(kernel_size=5, turns=3))
    x = torch.rand(2, 3, 40, 44)
    still = operator.parameters.neutral(x)
    assert operator.parameters.contains(still)
    torch.testing.assert_close(operator.apply(x, still), x, atol=1e-6, rtol=0)
