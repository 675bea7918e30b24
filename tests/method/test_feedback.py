"""``sampler.feedback``: the prior is told what the guidances made of the parameters, and restores with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from invdiff.components.weights import save_prior
from invdiff.errors import RecipeError
from invdiff.guidance import Estimate, Guidance, Known, Problem
from invdiff.sampler import SamplerSettings, sample
from invdiff.testing.subjects import ToyBlur, ToyPrior, generator, picture
from invdiff.tiling import TiledPrior
from invdiff_mcformer.prior import MCFormerPrior
from invdiff_mcformer.settings import MCFormerSettings


class Listening(ToyPrior):
    def __init__(self, operator):
        super().__init__(operator)
        self.spec = replace(self.spec, takes_parameters=True)
        self.told = []

    def forward(self, x_t, t, condition, told=None):
        self.told.append(None if told is None else told.clone())
        return super().forward(x_t, t, condition)


class Counting(Guidance):
    """Answers with a kernel that names the step."""

    def refine(self, step):
        theta = torch.zeros_like(step.theta)
        theta[:, step.index, step.index] = 1
        return Estimate(step.x0, theta)


def run(prior, guidance, feedback=True, truth=None, steps=4):
    operator = ToyBlur()
    y = operator.apply(picture(2, (16, 16), torch.float32), operator.sample_parameters(2, generator()))
    settings = SamplerSettings(steps=steps, feedback=feedback)
    return sample(Problem(y, operator, prior, guidance, truth), settings, [generator(1), generator(2)])


def test_each_step_is_told_what_the_last_arrived_at():
    prior = Listening(ToyBlur())
    run(prior, [Counting()])
    assert prior.told[0] is None
    for i, told in enumerate(prior.told[1:]):
        assert torch.equal(told, torch.eye(5)[i].outer(torch.eye(5)[i]).expand(2, 5, 5))


def test_nothing_is_told_without_it():
    prior = Listening(ToyBlur())
    run(prior, [Counting()], feedback=False)
    assert prior.told == [None] * 4


def test_the_known_kernel_is_told():
    prior, given = Listening(ToyBlur()), ToyBlur().sample_parameters(2, generator(7))
    assert torch.equal(run(prior, [Known()], truth=given).theta, given)
    assert all(torch.equal(told, given) for told in prior.told[1:])
    with pytest.raises(RecipeError, match=r"^known: needs known parameters"):
        run(prior, [Known()])


@pytest.mark.parametrize("estimator", [{}, {"kind": "spectral", "channels": 8, "maps": 2}])
def test_mcformer_restores_with_the_kernel_it_is_told(estimator, tiny_prior):
    """As if its estimator had said so; its own estimate is what it returns."""
    network = tiny_prior(9).settings.network.model_dump()
    network["estimator"] |= estimator
    torch.manual_seed(0)
    prior = MCFormerPrior(MCFormerSettings(network=network, preconditioning="residual", scale=1)).eval()
    torch.nn.init.normal_(prior.network.head.weight, std=0.02)
    x, condition = torch.rand(2, 2, 3, 32, 32, generator=generator())
    t, told = torch.tensor([100, 800]), torch.rand(2, 9, 9, generator=generator(1))
    told = told / told.sum((1, 2), keepdim=True)
    with torch.no_grad():
        found, own = prior.predict(x, t, condition, told), prior.predict(x, t, condition)
        assert torch.equal(found.parameters, own.parameters)
        assert not torch.equal(found.x0, own.x0)
        prior.network.estimator.forward = lambda _: (told,) if estimator else told
        torch.testing.assert_close(prior.predict(x, t, condition).x0, found.x0, rtol=0, atol=0)


def test_tiles_are_told_too(tiny_prior):
    prior = tiny_prior(9)
    x, condition = torch.rand(2, 1, 3, 64, 112, generator=generator())
    t, told = torch.tensor([500]), torch.full((1, 9, 9), 1 / 81)
    tiled = TiledPrior(prior, 64, 32)
    assert tiled.spec.takes_parameters
    with torch.no_grad():
        one = prior.predict(x[..., :32], t, condition[..., :32], told).x0
        assert not torch.equal(one, prior.predict(x[..., :32], t, condition[..., :32]).x0)
        torch.testing.assert_close(
            tiled.predict(x, t, condition, told).x0[..., :1],
            prior.predict(x[..., :64], t, condition[..., :64], told).x0[..., :1],
        )


def test_a_prior_that_takes_none_refuses(refused, recipe, tiny_prior, tmp_path):
    prior = tiny_prior()
    network = prior.settings.network.model_dump() | {"modulation": "level"}
    deaf = MCFormerPrior(MCFormerSettings(**prior.settings.model_dump(exclude={"network"}), network=network))
    assert prior.spec.takes_parameters
    assert not deaf.spec.takes_parameters
    save_prior(deaf, "mcformer", tmp_path / "deaf.safetensors")
    path = recipe(("  eta: 1.0", "  eta: 1.0\n  feedback: true"), weights=tmp_path / "deaf.safetensors")
    assert refused("run", path, "-o", tmp_path / "out").endswith(": sampler.feedback: this prior takes no parameters")
