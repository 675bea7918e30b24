"""Where the loop begins: the better kernel is taken, kept, and read from the part of a photo that tells most."""

import re
from dataclasses import replace

import pytest
import torch

from drawn_shapes import shapes
from invdiff import Pipeline, SamplerSettings
from invdiff.blur import blur
from invdiff.errors import ImageError, RecipeError
from invdiff.fit import MisfitError
from invdiff.guidance import Problem
from invdiff.metrics.kernel import mnc
from invdiff.prior import Output
from invdiff.sampler import sample
from invdiff.testing import check_guidance
from invdiff.testing.subjects import ToyPrior
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_kernel_guidance.coarse_to_fine import CoarseToFine
from invdiff_kernel_guidance.kernel_search import KernelSearch, KernelSearchSettings, telling_parts
from invdiff_motion.camera_shake import CameraShake, CameraShakeSettings
from invdiff_motion.hand import Hand, hand_kernel
from invdiff_motion.operator import Motion, MotionSettings

SIZE = 15


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


class Wishful(ToyPrior):
    """Believes in one kernel and in one picture, whatever it sees."""

    def __init__(self, operator, kernel, clean):
        super().__init__(operator)
        self.spec = replace(self.spec, takes_parameters=True)
        self.kernel, self.clean, self.told = kernel, clean, []

    def forward(self, x_t, t, condition, told=None):
        self.told.append(told)
        return Output(self.from_unit(self.clean).expand_as(x_t), self.kernel.expand(len(x_t), -1, -1))


def case(seed=1, side=128):
    clean = shapes(side, seed)[None]
    truth = hand_kernel(SIZE, Hand(span=(9, 12)), gen(seed)).float()
    return clean, truth, blur(clean, truth[None])


def search(**settings):
    return KernelSearch(KernelSearchSettings(search=CoarseToFine(**{"rounds": 4, "floors": [0.1], **settings})))


def operator(size=SIZE):
    return Motion(MotionSettings(kernel_size=size))


def begun(kernel, **settings):
    clean, truth, y = case()
    prior = Wishful(operator(), kernel, clean)
    return search(**settings).begin(Problem(y, operator(), prior), None)[0], truth


def point():
    kernel = torch.zeros(SIZE, SIZE)
    kernel[SIZE // 2, SIZE // 2] = 1
    return kernel


def test_the_priors_kernel_is_taken_where_it_is_right():
    truth = case()[1]
    assert torch.equal(begun(truth)[0], truth)


def test_a_kernel_from_coarse_to_fine_is_taken_where_the_prior_is_wrong():
    found, truth = begun(point())
    assert mnc(found, truth) > 0.7 > mnc(point(), truth)


def test_without_floors_the_prior_is_trusted():
    assert torch.equal(begun(point(), floors=[])[0], point())


def test_a_photo_smaller_than_the_kernel_is_one_line():
    small = Motion(MotionSettings(kernel_size=SIZE, padding="valid"))
    photo = torch.rand(3, 9, 30)
    pipe = Pipeline(small, ToyPrior(small), [search()], SamplerSettings(steps=1), device="cpu")
    with pytest.raises(ImageError, match="30x9 pixels are too few to find a kernel of 15x15 in"):
        pipe.restore(photo)


def test_a_prior_without_a_kernel_needs_a_search():
    _, _, y = case()
    problem = Problem(y, operator(), ToyPrior(operator()))
    problem.prior.spec = replace(problem.prior.spec, parameter_shape=None)
    assert search().begin(problem, None).shape == (1, SIZE, SIZE)
    with pytest.raises(RecipeError, match="kernel_search: this prior estimates no kernel: name a floor"):
        search(floors=[]).begin(problem, None)


def test_of_several_searches_the_one_that_is_right_is_taken():
    found, truth = begun(point(), floors=[0.9, 0.1])  # nothing but the largest value, and a kernel
    assert mnc(found, truth) > 0.7


def test_edges_of_a_compressed_photo_cost_more():
    """Up to twice as much: what is found is what a search with that price finds."""
    plain = CoarseToFine()
    costs = [plain.of_compressed(c).edge_cost / plain.edge_cost for c in (0.0, 0.003, 0.006, 0.1)]
    assert costs == [1, 1.25, 2, 2]
    clean, _, y = case()
    problem = Problem(y, operator(), Wishful(operator(), point(), clean), compression=0.02)
    dear = KernelSearch(KernelSearchSettings(search=CoarseToFine(edge_cost=2 * plain.edge_cost)))
    expected = dear.begin(Problem(y, operator(), problem.prior), None)
    assert torch.equal(KernelSearch(KernelSearchSettings()).begin(problem, None), expected)
    assert not torch.equal(
        KernelSearch(KernelSearchSettings()).begin(Problem(y, operator(), problem.prior), None), expected
    )


@pytest.mark.parametrize("right", [True, False])
def test_the_report_says_which_kernel_won(right):
    clean, truth, y = case()
    own = truth if right else point()
    pipeline = Pipeline(operator(), Wishful(operator(), own, clean), [search()], SamplerSettings(steps=1), device="cpu")
    done = pipeline.restore(y[0]).findings.words["done"]
    winner, loser = ("the prior's own kernel", "a kernel from coarse to fine")[:: 1 if right else -1]
    assert re.search(rf"; began with {winner}: {loser} explains the photo [1-9]\d* % worse$", done)


def test_a_flat_photo_tells_nothing_of_kernels():
    y = torch.full((1, 3, 64, 64), 0.5)
    problem = Problem(y, operator(), Wishful(operator(), point(), y))
    assert torch.equal(search().begin(problem, None)[0], point())
    assert problem.remarks[0] == "there are no edges to read a shake from"


def test_the_loop_keeps_what_was_found_and_tells_the_prior():
    clean, _, y = case()
    prior = Wishful(operator(), point(), clean)
    problem = Problem(y, operator(), prior, [search()])
    begun = search().begin(problem, None)
    prior.told.clear()
    result = sample(problem, SamplerSettings(steps=3, feedback=True), [gen()])
    assert torch.equal(result.theta, begun)
    assert all(torch.equal(told, begun) for told in prior.told[-3:])


def test_each_photo_of_a_batch_has_its_own():
    clean, truth, y = case()
    other = blur(clean, truth.flip(0)[None])
    prior = Wishful(operator(), truth, clean)
    found = search().begin(Problem(torch.cat([y, other]), operator(), prior), None)
    assert torch.equal(found[0], truth)
    assert not torch.equal(found[1], truth)


def test_a_kernel_that_is_told_is_not_searched_for():
    clean, truth, y = case()
    prior = Wishful(operator(), point(), clean)
    pipeline = Pipeline(operator(), prior, [search()], SamplerSettings(steps=1, feedback=True), device="cpu")
    found = pipeline.restore(y[0], kernel=truth)
    assert torch.allclose(found.parameters, truth, atol=1e-6)


def test_operators_that_shrink_are_refused():
    small = BlindSR(BlindSRSettings(kernel_size=9, scale=2))
    with pytest.raises(MisfitError, match=r"^guidance\.0: it is for operators that blur with a kernel at full"):
        Pipeline(small, ToyPrior(small), [search()], device="cpu")


def test_it_conforms():
    other = "the likelier kernel may explain a picture that the prior made with its own one worse"
    check_guidance(search(), operator=operator(9), expected_failures={"agreement_with_the_measurement": other})


# --- the part that tells most


@pytest.mark.parametrize(("top", "left"), [(0, 0), (40, 96), (96, 8), (91, 83)])
def test_the_part_is_where_the_edges_are(top, left):
    y = torch.full((3, 160, 160), 0.5)
    y[:, top : top + 64, left : left + 64] = torch.rand(3, 64, 64, generator=gen())
    part = telling_parts(y, 64)[0]
    assert part.shape == (3, 64, 64)
    assert float((part != 0.5).float().mean()) > 0.75


def test_clipped_lamps_tell_nothing():
    y = torch.full((3, 64, 160), 0.4)
    y[:, :, 90:] += 0.2 * torch.rand(3, 64, 70, generator=gen())
    y[:, :, :64] = (torch.rand(1, 64, 64, generator=gen(1)) > 0.5).float()
    assert float(telling_parts(y, 64)[0].max()) < 1


@pytest.mark.parametrize("size", [(64, 64), (30, 64), (64, 10), (5, 5)])
def test_a_small_photo_is_read_whole(size):
    y = torch.rand(3, *size, generator=gen())
    (part,) = telling_parts(y, 64)
    assert torch.equal(part, y)


@pytest.mark.parametrize("size", [(65, 64), (64, 300), (10, 200)])
def test_a_part_is_never_larger_than_asked_for(size):
    part = telling_parts(torch.rand(3, *size, generator=gen()), 64)[0]
    assert part.shape[1] == min(64, size[0])
    assert part.shape[2] == min(64, size[1])


def test_the_next_part_does_not_overlap_and_tells_half_as_much():
    y = torch.full((3, 64, 200), 0.5)
    y[:, :, 120:184] = torch.rand(3, 64, 64, generator=gen())
    assert len(telling_parts(y, 64)) == 1
    y[:, :, :64] = torch.rand(3, 64, 64, generator=gen(1))
    first, other = telling_parts(y, 64)
    assert {float(first[0, 0, 0]), float(other[0, 0, 0])} == {float(y[0, 0, 0]), float(y[0, 0, 120])}


@pytest.mark.parametrize("differs", [False, True])
def test_a_blur_that_differs_across_the_picture_is_told(differs):
    """Two pictures with a wall between them, under one kernel or each under its own."""
    one, other = (hand_kernel(SIZE, Hand(span=(9, 12)), gen(seed)).float() for seed in (1, 5))
    assert mnc(one, other) < 0.7
    halves = [shapes(128, seed)[None] for seed in (1, 2)]
    kernels = [one, other if differs else one]
    left, right = (blur(x, k[None]) for x, k in zip(halves, kernels, strict=True))
    y = torch.cat([left, torch.full_like(left, 0.5), right], dim=-1)
    problem = Problem(y, operator(), Wishful(operator(), one, torch.zeros(1, 3, 1, 1)))
    KernelSearch(KernelSearchSettings(window=128)).begin(problem, None)
    assert ("the blur differs across the picture" in problem.remarks[0]) is differs


@pytest.mark.parametrize(("window", "asked"), [(512, 1), (64, 2)])
def test_each_time_it_asks_the_prior_is_counted(window, asked):
    """For each part of the photo whose kernel the prior reads; not at all where the kernel is told, or none is read."""
    _, truth, y = case(side=160)
    prior = Wishful(operator(), truth, torch.full((3, 1, 1), 0.5))
    settings = KernelSearchSettings(search=CoarseToFine(floors=[]), window=window)
    pipe = Pipeline(operator(), prior, [KernelSearch(settings)], SamplerSettings(steps=2), device="cpu")
    assert pipe.restore(y[0]).evaluations == len(prior.told) == 2 + asked
    prior.told.clear()
    assert pipe.restore(y[0], kernel=truth).evaluations == len(prior.told) == 2


def test_a_window_is_no_smaller_than_the_kernel():
    operator = Motion(MotionSettings(kernel_size=67))
    photo = torch.rand(1, 3, 80, 72, generator=gen())
    search = KernelSearch(KernelSearchSettings(window=64))
    found = search.begin(Problem(photo, operator, ToyPrior(operator)), None)
    assert found.shape == (1, 67, 67)
    assert torch.isfinite(found).all()


def test_parts_smaller_than_the_kernel_are_refused():
    operator = CameraShake(CameraShakeSettings(kernel_size=61))
    photo = torch.rand(1, 3, 80, 70, generator=gen())
    with pytest.raises(ImageError, match=r"^\d+x\d+ pixels are too few to find a kernel of 61x61 in$"):
        KernelSearch().begin(Problem(photo, operator, ToyPrior(operator)), None)
