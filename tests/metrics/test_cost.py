"""What a recipe costs, against the published numbers and closed forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from invdiff.assembly import recipe_cost
from invdiff.guidance import Guidance
from invdiff.metrics.cost import cost
from invdiff.prior import Output, PriorNet, PriorSpec
from invdiff.schedule import NoiseSchedule
from invdiff.tiling import TiledPrior

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


class Chain(PriorNet):
    """Two convolutions: 3 to 8 channels and back."""

    spec = PriorSpec(NoiseSchedule.linear(10), prediction="x0", multiple=4)
    settings = None

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 5, padding=2, groups=1)

    def forward(self, x_t, t, condition):
        return Output(self.two(self.one(x_t)))


class Gradient(Guidance):
    needs_gradient = True


@pytest.mark.skipif(not RECIPES.exists(), reason="not in a checkout")
def test_the_papers_figure_1():
    found = recipe_cost(RECIPES / "train_blindsr_x4_paper.yaml", 256)
    assert found.parameters == 26_509_267  # 26.51 M
    assert round(found.forward / 1e9, 1) == 113.2


@pytest.mark.parametrize("size", [16, 64])
def test_a_convolution_costs_what_it_multiplies(size):
    found = cost(Chain(), [], 7, size)
    forward = size**2 * (3 * 8 * 9 + 8 * 3 * 25)
    assert found.parameters == 3 * 8 * 9 + 8 + 8 * 3 * 25 + 3
    assert found.forward == found.step == forward
    assert found.image == 7 * forward


def test_a_gradient_to_the_image_costs_as_much_again():
    """Weights are frozen: of a convolution's two backward products only the one to its input is done."""
    prior = Chain().requires_grad_(False)
    found = cost(prior, [Gradient()], 1, 32)
    assert found.step == 2 * found.forward


def test_memory_of_a_chain():
    """Input, condition and weights stay; the widest moment has the 8 channels and one of 3 channels besides."""
    size = 64
    found = cost(Chain().requires_grad_(False), [], 1, size)
    plane = 4 * size**2
    activations = found.peak_bytes - 4 * found.parameters
    assert (3 + 3 + 8 + 3) * plane <= activations < (3 + 3 + 8 + 3 + 6) * plane + 4096


def test_memory_grows_with_the_picture_and_with_gradients(tiny_prior):
    prior = tiny_prior().requires_grad_(False)
    small, large = (cost(prior, [], 1, size).peak_bytes for size in (64, 256))
    assert 10 < (large - 4 * 40_000) / (small - 4 * 40_000) < 20
    assert cost(prior, [Gradient()], 1, 64).peak_bytes > 1.5 * small


def test_nothing_is_left_changed(tiny_prior):
    prior = tiny_prior()
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    x, t = torch.rand(1, 3, 64, 64), torch.tensor([5])
    with torch.no_grad():
        want = prior.predict(x, t, x).x0
        cost(prior, [Gradient()], 1, 64)
        assert torch.equal(prior.predict(x, t, x).x0, want)
    assert all(torch.equal(before[name], value) for name, value in prior.state_dict().items())


def test_sizes_are_rounded_up_to_what_the_network_takes(tiny_prior):
    assert cost(tiny_prior(), [], 1, 250).size == 256


def test_the_command(cli, recipe, refused, tmp_path):
    done = cli("info", recipe(), "--size", "64", "--set", "sampler.steps=4")
    assert done.code == 0
    found = recipe_cost(recipe(), 64, ["sampler.steps=4"])
    assert f"{found.parameters / 1e6:.2f} M" in done.out
    assert f"{found.image / 1e9:.1f} G an image of 4 steps" in done.out
    assert f"({found.forward / 1e9:.1f} G without its gradients)" in done.out
    assert "steps at most" in refused("info", recipe(), "--set", "sampler.steps=5000")
    assert "no such recipe" in refused("info", tmp_path / "none.yaml")


def test_tiles_bound_the_memory(recipe):
    """Of the gradients too: tiles are computed again one after the other, and what that takes is given back."""
    whole = recipe_cost(recipe(("steps: 2", "steps: 2\n  tile: null")), 160)
    tiled = recipe_cost(recipe(("steps: 2", "steps: 2\n  tile: 64\n  overlap: 16")), 160)
    assert tiled.peak_bytes < 0.6 * whole.peak_bytes
    assert tiled.forward > whole.forward  # overlaps are done twice


class Disguised(PriorNet):
    """Any prior, not to be told for what it is."""

    def __init__(self, prior):
        super().__init__()
        self.prior, self.spec = prior, prior.spec

    def forward(self, *given):
        return self.prior(*given)


@pytest.mark.parametrize("guides", [[], [Gradient()]], ids=["plain", "gradient"])
def test_two_tiles_tell_of_all(guides):
    """Against a count that asks for each of 25 tiles; in the multiply-adds exactly."""
    tiled = TiledPrior(Chain().requires_grad_(False), 32, 8)
    found, whole = (cost(prior, guides, 1, 128) for prior in (tiled, Disguised(tiled)))
    assert (found.forward, found.step) == (whole.forward, whole.step)
    assert found.peak_bytes == pytest.approx(whole.peak_bytes, rel=0.1)


def test_no_more_than_two_tiles_are_asked_for():
    """However large the picture: here of 49."""
    prior, asked = Chain(), []
    prior.register_forward_hook(lambda module, given, out: asked.append(given[0].shape))
    cost(TiledPrior(prior, 32, 8), [], 1, 176)
    assert len(asked) <= 8, "twice, for the multiply-adds and for the memory, and each time with a view to gradients"
    assert set(asked) == {(1, 3, 32, 32)}
