"""Tiles: that they cover, that they overlap, and that nobody can tell."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff.degradation import BoxSpace, Degradation
from invdiff.guidance import Guidance, Problem
from invdiff.prior import Output, PriorNet, PriorSpec
from invdiff.sampler import SamplerSettings, sample
from invdiff.schedule import NoiseSchedule
from invdiff.tiling import TiledPrior, blend_window, equal_tiles

SHORT = NoiseSchedule.linear(40, 1e-3, 0.2)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Pointwise(PriorNet):
    """Every pixel by itself, out of x_t, the condition and the time; keeps the windows it was shown."""

    def __init__(self, multiple=4, **parts):
        super().__init__()
        self.settings, self.spec = "mine", PriorSpec(SHORT, multiple=multiple, prediction="v")
        self.weight = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))
        self.parts, self.shapes = parts, []

    def forward(self, x_t, t, condition):
        self.shapes.append(tuple(x_t.shape[-2:]))
        raw = torch.sin(self.weight * x_t + condition**2) + t.view(-1, 1, 1, 1) / 100
        return Output(raw, **{name: make(x_t) for name, make in self.parts.items()})


class Mean(Pointwise):
    """The mean of what it sees, everywhere: no two tiles agree."""

    def forward(self, x_t, t, condition):
        self.shapes.append(tuple(x_t.shape[-2:]))
        return Output(x_t.mean((2, 3), keepdim=True).expand_as(x_t))


class Same(Degradation):
    parameters = BoxSpace(("nothing",), (0.0,), (1.0,))

    def sample_parameters(self, batch, generator):
        return torch.zeros(batch, 1)

    def apply(self, x, theta):
        return x

    def lift(self, y):
        return y


class Follow(Guidance):
    needs_gradient = True

    def correct(self, step, x_next):
        return x_next - 0.05 * torch.autograd.grad((step.y - step.x0).square().sum(), step.x_t)[0]


def ask(prior, x, condition=None, time=7):
    return prior(x, torch.full((len(x),), time), torch.zeros_like(x) if condition is None else condition)


# --- places ------------------------------------------------------------------------------------------

PLACES = [
    (blocks * multiple, tiles * multiple, overlap, multiple)
    for multiple, tiles, blocks in itertools.product((1, 2, 8), range(2, 7), range(1, 30))
    for overlap in sorted({0, 1, multiple, tiles * multiple // 4, tiles * multiple // 2})
]  # tiles of at least two blocks, overlap at most half a tile, as TiledPrior has them


def test_tiles_cover_overlap_and_keep_to_the_grid():
    """What the docstring promises, for 2000 sizes: cover, overlap by ``overlap`` or more, stay on the grid."""
    assert len(PLACES) > 1000
    for size, tile, overlap, multiple in PLACES:
        starts, side = equal_tiles(size, tile, overlap, multiple)
        if size <= tile:
            assert (starts, side) == ([0], size)
            continue
        assert starts[0] == 0
        assert starts[-1] + side == size
        assert side <= tile
        assert all(place % multiple == 0 for place in (*starts, side))
        gaps = np.diff(starts)
        assert (gaps > 0).all()  # no tile twice
        assert (side - gaps >= overlap).all()


def test_no_more_and_no_larger_tiles_than_needed():
    """Three tiles of 384 cover 1024 where three of 512 would compute it 2.25 times; one pixel too many is halved."""
    assert equal_tiles(1024, 512, 64, 16) == ([0, 320, 640], 384)
    assert equal_tiles(100, 40, 10, 1) == ([0, 30, 60], 40)
    assert equal_tiles(41, 40, 0, 1) == ([0, 20], 21)
    for size in range(520, 4000, 8):
        starts, side = equal_tiles(size, 512, 64, 8)
        count = len(starts)
        assert count == -(-(size - 64) // (512 - 64)) or count == -(
            -(size - 64) // (512 - 72)
        )  # the grid takes its part
        assert count * side <= size + (count - 1) * 64 + count * 8 + 8 * (count - 1)


def test_blend_window():
    """Linear from each side over the overlap, one in the middle, never zero: a product of two lines."""
    line = np.array([1, 2, 3, 4, 4, 4, 3, 2, 1]) / 4
    np.testing.assert_allclose(blend_window(9, 9, 4).numpy(), np.outer(line, line), rtol=1e-6)
    assert float(blend_window(16, 12, 0).min()) == float(blend_window(16, 12, 0).max()) == 1.0
    assert float(blend_window(64, 64, 32).min()) > 0


@pytest.mark.parametrize(("tile", "overlap", "used"), [(70, 8, 64), (64, 8, 64), (3, 1, 32), (40, 39, 32)])
def test_tiles_fit_the_prior(tile, overlap, used):
    """Sides are rounded down to the prior's multiple, but never below two, without which they could not overlap."""
    prior = Pointwise(multiple=16)
    ask(TiledPrior(prior, tile, overlap), rand(1, 3, 128, 96))
    assert set(prior.shapes) == {(used, used)}


def test_stands_for_the_prior():
    """Whoever asks the tiled prior about itself hears the prior's answers."""
    prior = Pointwise(multiple=8)
    prior.spec = replace(prior.spec, value_range=(0.0, 1.0), parameter_shape=(5, 5), scale=4)
    tiled = TiledPrior(prior, 64, 8)
    assert tiled.spec is prior.spec
    assert tiled.settings == prior.settings
    assert [p is prior.weight for p in tiled.parameters()] == [True]


def test_tiles_of_one_block_overlap():
    """A prior whose multiple is the tile: the asked overlap of 8 is not there, so the seams are hard."""
    prior = Mean(multiple=16).requires_grad_(False)
    out = ask(TiledPrior(prior, 16, 8), torch.arange(48.0).double().expand(1, 3, 16, 48))
    assert float(out.raw.diff(dim=-1).abs().max()) < 16 / 2  # the tiles' means are 16 apart


# --- the same result ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "tile", "overlap"), [((40, 56), 16, 4), ((16, 60), 16, 8), ((33, 18), 16, 0)])
@pytest.mark.parametrize("track", [False, True])
def test_a_pointwise_prior_is_the_same(size, tile, overlap, track):
    """Where pixels do not see each other, tiles cannot matter; blending weights sum to one, so rounding only."""
    prior = Pointwise(multiple=1, variance_fraction=lambda x: torch.cos(x))
    x, condition = rand(2, 3, *size), rand(2, 3, *size, seed=1)
    with torch.set_grad_enabled(track):
        tiled = ask(TiledPrior(prior, tile, overlap), x, condition)
        prior.shapes.clear()
        whole = ask(prior, x, condition)
    assert prior.shapes == [size]
    # Blending weights are float32 ramps, divided by their own sum: exact to float64 all the same.
    torch.testing.assert_close(tiled.raw, whole.raw, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tiled.variance_fraction, whole.variance_fraction, rtol=1e-12, atol=1e-12)
    assert tiled.parameters is None


def test_gradients_are_the_same():
    """Through the second computation of each tile: in x_t and, of a linear functional, in the weights."""
    prior, x = Pointwise(multiple=4), rand(2, 3, 40, 28)
    weights, condition = rand(2, 3, 40, 28, seed=2), rand(2, 3, 40, 28, seed=3)
    found = []
    for one in (prior, TiledPrior(prior, 16, 4)):
        x_t = x.clone().requires_grad_()
        total = (weights * ask(one, x_t, condition).raw).sum()
        found.append(torch.autograd.grad(total, [x_t, prior.weight]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)
    # d/dx sin(w x + c^2) = w cos(w x + c^2).
    torch.testing.assert_close(found[1][0], (weights * 1.3 * torch.cos(1.3 * x + condition**2)).detach())


class Reads(Pointwise):
    """Says parameters as well, read from the measurement alone: nothing of them depends on the noisy image."""

    def forward(self, x_t, t, condition):
        return replace(super().forward(x_t, t, condition), parameters=condition.mean((1, 2, 3))[:, None])


def test_parameters_that_the_image_does_not_move_have_no_gradient():
    """Of a sum of image and parameters the gradient is the image's alone."""
    x, condition = rand(1, 3, 40, 28), rand(1, 3, 40, 28, seed=1)
    found = []
    for one in (Reads(multiple=4), TiledPrior(Reads(multiple=4), 16, 4)):
        x_t = x.clone().requires_grad_()
        out = ask(one.requires_grad_(False), x_t, condition)
        found.append(torch.autograd.grad(out.raw.sum() + out.parameters.sum(), x_t)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)


def test_gradients_of_a_prior_that_looks_around():
    """Finite differences of one number of the tiled output: the blend and both tiles are differentiated."""
    tiled, x = TiledPrior(Mean(multiple=4), 16, 8), rand(1, 3, 16, 24)
    x_t = x.clone().requires_grad_()
    # Column 12 is in both tiles, [0, 16) and [8, 24): their means' weights are 4 and 5 ninths, over 256 pixels.
    slope = torch.autograd.grad(ask(tiled, x_t).raw[0, 0, 5, 12], x_t)[0]
    expected = np.zeros((1, 3, 16, 24))
    expected[0, 0, :, :16] += 4 / 9 / 256
    expected[0, 0, :, 8:] += 5 / 9 / 256
    np.testing.assert_allclose(slope.numpy(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("guides", [[], [Follow()]], ids=["unguided", "guided"])
def test_a_whole_run_is_the_same(guides):
    """Noise belongs to the image, not to the tile: the loop draws the same sample with and without tiles."""
    y, found = rand(2, 3, 37, 50), []
    for wrap in (lambda prior: prior, lambda prior: TiledPrior(prior, 16, 8)):
        drawn = [torch.Generator().manual_seed(i) for i in range(2)]
        found.append(sample(Problem(y, Same(), wrap(Pointwise()), guides), SamplerSettings(steps=5), drawn).x0)
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-10)


def test_small_images_pass_untouched():
    """One tile is no tiling: the prior is asked once, with the whole image, and its answer is handed on."""
    prior, x = Pointwise(parameters=lambda x: x.mean((1, 2, 3))[:, None]), rand(2, 3, 12, 16)
    tiled, whole = ask(TiledPrior(prior, 16, 8), x), ask(prior, x)
    assert prior.shapes == [(12, 16)] * 2
    assert torch.equal(tiled.raw, whole.raw)
    assert torch.equal(tiled.parameters, whole.parameters)


# --- seams -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 3, 8])
def test_constant_in_constant_out(overlap):
    """Tiles that agree leave no trace, whatever lies over what."""
    x = torch.tensor([0.3, -2.0], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 3, 44, 36)
    out = ask(TiledPrior(Mean(), 16, overlap), x)
    torch.testing.assert_close(out.raw, x.contiguous(), rtol=1e-12, atol=0)


def test_tiles_that_disagree_are_blended_linearly():
    """Two tiles [0, 16) and [8, 24) that say a and b: a, then a + (b - a) j / 9 for j = 1 to 8, then b."""
    x = torch.arange(24.0).double().expand(1, 3, 16, 24)
    out = ask(TiledPrior(Mean().requires_grad_(False), 16, 8), x).raw
    a, b = 7.5, 15.5
    line = np.concatenate([np.full(8, a), a + (b - a) * np.arange(1, 9) / 9, np.full(8, b)])
    np.testing.assert_allclose(out.numpy(), np.broadcast_to(line, (1, 3, 16, 24)), rtol=1e-6)


@pytest.mark.parametrize("size", [(40, 56), (44, 60)], ids=["even", "last_moved_back"])
def test_no_seam_anywhere(size):
    """On a slope neighbouring tiles' means differ by the advance of 8, and no two neighbouring pixels by over 16/9.

    A blend turns by one ninth a pixel; at most two blends, one ending and one beginning, move by 8/9 each.
    """
    rows, cols = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    x = (rows + cols).double().expand(1, 3, *size)

    def jump(overlap):
        out = ask(TiledPrior(Mean(), 16, overlap), x).raw
        return max(float(out.diff(dim=dim).abs().max()) for dim in (-1, -2))

    assert jump(8) <= 16 / 9 + 1e-6
    assert jump(0) > 7  # without overlap they do jump: the measure can tell


def test_parameters_are_the_tiles_mean():
    """One operator made the whole picture: four tiles [0, 8) and [8, 16) squared vote with equal weight."""
    prior = Pointwise(parameters=lambda x: x.mean((1, 2, 3))[:, None])
    x = torch.zeros(2, 3, 16, 16, dtype=torch.float64)
    x[0, :, :8, :8], x[0, :, 8:, :8], x[1] = 4.0, 2.0, 1.0
    out = ask(TiledPrior(prior, 8, 0), x)
    assert prior.shapes == [(8, 8)] * 4
    torch.testing.assert_close(out.parameters, torch.tensor([[1.5], [1.0]], dtype=torch.float64))


# --- memory ------------------------------------------------------------------------------------------


def test_what_a_prior_estimates_of_a_small_image_is_its_own():
    class Own(Pointwise):
        def estimate(self, condition):
            return condition.mean((1, 2, 3))[:, None]

    prior = Own(parameters=lambda x: x.amax((1, 2, 3))[:, None])
    prior.spec = replace(prior.spec, parameter_shape=(1,))
    tiled = TiledPrior(prior, 16, 4)
    small, large = rand(1, 3, 16, 12), rand(1, 3, 20, 16)
    assert torch.equal(tiled.estimate(small), prior.estimate(small))
    pure = torch.randn(3, 20, 16, generator=torch.Generator().manual_seed(0)).double()[None]
    assert torch.equal(tiled.estimate(large), tiled(pure, torch.tensor([39]), large).parameters)


def test_each_tile_is_computed_again():
    """Where gradients are tracked only inputs are kept: every tile is shown twice, forward and on the way back."""
    prior = Pointwise()
    x_t = rand(1, 3, 32, 32).requires_grad_()
    out = ask(TiledPrior(prior, 16, 0), x_t)
    assert len(prior.shapes) == 4
    out.raw.sum().backward()
    assert prior.shapes == [(16, 16)] * 8
    prior.shapes.clear()
    with torch.no_grad():
        ask(TiledPrior(prior, 16, 0), x_t)
    assert len(prior.shapes) == 4
