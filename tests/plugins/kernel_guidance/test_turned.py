"""Kernels of a camera that turned: searched and improved view by view, and made to agree."""

from dataclasses import replace

import pytest
import skimage.data
import torch

from invdiff.guidance import Problem, Step
from invdiff.metrics import mnc
from invdiff.prior import Output
from invdiff.testing.subjects import ToyPrior
from invdiff_kernel_guidance.coarse_to_fine import CoarseToFine
from invdiff_kernel_guidance.kernel_network import KernelNetwork
from invdiff_kernel_guidance.kernel_search import KernelSearch, KernelSearchSettings
from invdiff_kernel_guidance.kernel_update import KernelUpdate, KernelUpdateSettings
from invdiff_motion.camera_shake import CameraShake, CameraShakeSettings

SIZE = (256, 320)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


class Silent(ToyPrior):
    """Estimates no kernel."""

    def __init__(self, operator):
        super().__init__(operator)
        self.spec = replace(self.spec, parameter_shape=None)

    def forward(self, x_t, t, condition, told=None):
        return Output(x_t, None)


@pytest.fixture(scope="module")
def operator():
    return CameraShake(CameraShakeSettings(kernel_size=15, turns=9, reach=6.0, span=(7.0, 9.0)))


@pytest.fixture(scope="module")
def clean():
    return torch.from_numpy(skimage.data.coffee()[60 : 60 + SIZE[0], 100 : 100 + SIZE[1]]).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def poses(operator):
    return operator.sample_parameters(1, gen(2))


def likeness(operator, theta, truth):
    """Mean over the views."""
    ours, theirs = (operator.kernels_of(one, SIZE, 9)[0] for one in (theta, truth))
    return sum(mnc(a, b) for a, b in zip(ours, theirs, strict=True)) / 9


def found(operator, theta, clean):
    y = operator.apply(clean, theta)
    y = y + 0.01 * torch.randn(y.shape, generator=gen(9))
    problem = Problem(y, operator, Silent(operator))
    guide = KernelSearch(KernelSearchSettings(search=CoarseToFine(floors=[0.05, 0.1])))
    return guide.begin(problem, None), problem.remarks[0]


def test_a_turn_is_found(operator, clean, poses):
    theta, said = found(operator, poses, clean)
    assert operator.parameters.contains(theta)
    one = operator.from_kernels(operator.kernels_of(poses, SIZE), SIZE)
    assert likeness(operator, theta, poses) > 0.8
    assert likeness(operator, theta, poses) > likeness(operator, one, poses)  # than the best that one kernel could do
    assert "one kernel for all explains it" in said


def test_without_a_turn_there_is_one_kernel(operator, clean, poses):
    one = operator.from_kernels(operator.kernels_of(poses, SIZE), SIZE)
    theta, said = found(operator, one, clean)
    assert len(operator.views(SIZE, theta)) == 1
    assert likeness(operator, theta, one) > 0.85
    assert said == ""


def step(operator, y, x0, theta):
    prior = Silent(operator)
    return Step(0, 2, 10, 5, x0, x0, theta, y, prior, operator)


def test_kernels_are_updated_view_by_view(operator, clean, poses):
    """From one kernel and a trace of a turn, towards those of the picture that is told."""
    y = operator.apply(clean, poses)
    one = operator.from_kernels(operator.kernels_of(poses, SIZE), SIZE)
    wrong = 0.99 * one + 0.01 * operator.sample_parameters(1, gen(5))
    guide = KernelUpdate(KernelUpdateSettings(anchor=0.01, iterations=30, trust=100))
    better = guide.refine(step(operator, y, clean, wrong))
    assert likeness(operator, better.theta, poses) > likeness(operator, wrong, poses) + 0.02
    assert torch.equal(better.x0, clean)  # the picture is everyone's: it does not move for one of them


def test_the_network_sees_every_view(operator, clean, poses):
    guide = KernelNetwork()
    guide.settings = guide.settings.model_copy(update={"levels": (0.0, 100.0)})
    seen = []
    guide.network.register_forward_hook(lambda module, given, out: seen.append(given[0].shape))
    better = guide.refine(step(operator, operator.apply(clean, poses), clean, poses))
    assert seen == [(1, 15, 15)] * 9
    assert operator.parameters.contains(better.theta)
