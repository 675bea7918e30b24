"""Kernels made wrong on purpose: how wrong is a setting, and all that makes a kernel one stays."""

from __future__ import annotations

import pytest
import torch

from invdiff.blur.deconvolution import centre_of_mass
from invdiff.errors import RecipeError
from invdiff.guidance import Problem, Step
from invdiff.metrics.kernel import mnc
from invdiff.testing import check_component
from invdiff.testing.subjects import ToyPrior
from invdiff_kernel_guidance.mistaken import Mistaken, MistakenSettings
from invdiff_motion.hand import Hand
from invdiff_motion.operator import Motion, MotionSettings

OPERATOR = Motion(MotionSettings(kernel_size=31, intensity=(0.0, 1.0), hand=Hand(share=0.5)))


def begun(severity, photos=12, only=slice(None)):
    """True kernels of as many photos, and those that the loop begins with."""
    generator = torch.Generator().manual_seed(4)
    truth, y = OPERATOR.sample_parameters(photos, generator), torch.rand(photos, 3, 40, 40, generator=generator)
    problem = Problem(y[only], OPERATOR, ToyPrior(OPERATOR), truth=truth[only])
    return truth[only], Mistaken(MistakenSettings(severity=(severity, severity))).begin(problem, None)


def test_conformance():
    """But for explaining the photo no worse than before: its kernels are wrong on purpose, by what is drawn."""
    failed = [o.check for o in check_component(Mistaken(MistakenSettings())) if o.status == "failed"]
    assert failed in ([], ["agreement_with_the_measurement"])


def test_not_severe_is_right():
    truth, found = begun(0.0)
    assert all(mnc(one, other) > 0.995 for one, other in zip(found, truth, strict=True))


def test_the_more_severe_the_more_wrong():
    means = [
        sum(mnc(one, other) for one, other in zip(found, truth, strict=True)) / len(truth)
        for truth, found in (begun(severity) for severity in (0.0, 0.3, 0.6, 1.0))
    ]
    assert means == sorted(means, reverse=True)
    assert means[1] > 0.9  # still good kernels
    assert 0.4 < means[3] < 0.85  # what searches make of photos with few edges


@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_they_are_kernels_with_their_mass_in_the_middle(severity):
    _, found = begun(severity)
    assert found.shape == (12, 31, 31)
    assert float(found.min()) >= 0
    torch.testing.assert_close(found.sum((-2, -1)), torch.ones(12))
    assert centre_of_mass(found).abs().max() < 0.25  # a long shake leaves the frame when it is moved


def test_a_photo_has_its_own_mistake_whatever_stands_beside_it():
    _, together = begun(0.7)
    _, alone = begun(0.7, only=slice(5, 6))
    assert torch.equal(alone[0], together[5])
    same = Problem(torch.rand(2, 3, 40, 40), OPERATOR, ToyPrior(OPERATOR), truth=alone.expand(2, -1, -1))
    one, other = Mistaken(MistakenSettings(severity=(0.7, 0.7))).begin(same, None)
    assert not torch.equal(one, other)


def test_a_share_of_the_photos_begins_so():
    truth, _ = begun(0.5)
    y = torch.rand(12, 3, 40, 40, generator=torch.Generator().manual_seed(3))
    problem, before = Problem(y, OPERATOR, ToyPrior(OPERATOR), truth=truth), truth.flip(-1)
    found = Mistaken(MistakenSettings(share=0.5)).begin(problem, before)
    kept = [torch.equal(one, other) for one, other in zip(found, before, strict=True)]
    assert 2 <= sum(kept) <= 10


def test_it_stays_with_it_and_needs_the_truth():
    truth, found = begun(0.5, photos=1)
    y, prior = torch.rand(1, 3, 40, 40), ToyPrior(OPERATOR)
    step = Step(1, 3, 50, 20, y, y, truth, y, prior, OPERATOR, before=found)
    assert torch.equal(Mistaken(MistakenSettings()).refine(step).theta, found)
    with pytest.raises(RecipeError, match="mistaken: needs known kernels"):
        Mistaken(MistakenSettings()).begin(Problem(y, OPERATOR, prior), None)
