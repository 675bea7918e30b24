"""MCFormer for operators without a kernel: numbers within the operator's bounds, trained and kept with the weights."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from invdiff import BoxSpace
from invdiff.components.discovery import registry
from invdiff.components.weights import load_prior, save_prior
from invdiff.errors import TrainingError
from invdiff.seeds import stream
from invdiff.testing.subjects import ToyBlur
from invdiff_mcformer.prior import MCFormerPrior
from invdiff_mcformer.settings import MCFormerSettings, Network


class Numbers(ToyBlur):
    def __init__(self):
        super().__init__()
        self.parameters = BoxSpace(("a", "b", "c"), (-1.0, 0.0, 5.0), (1.0, 0.25, 9.0))


@pytest.fixture
def prior():
    torch.manual_seed(0)
    network = {"preset": "small", "head": "box", "numbers": 3}
    made = MCFormerPrior(MCFormerSettings(network=network, preconditioning="residual", scale=1))
    made.prepare(Numbers(), stream(0))
    return made.eval()


def predict(prior, batch=2):
    x, condition = torch.rand(2, batch, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    return prior.predict(x, torch.full((batch,), 500), condition).parameters


def test_numbers_lie_within_the_bounds(prior):
    assert prior.spec.parameter_shape == (3,)
    space = Numbers().parameters
    with torch.no_grad():
        assert space.contains(predict(prior), 0)
        prior.network.estimator.head.place.bias.fill_(50.0)
        torch.testing.assert_close(predict(prior), torch.tensor([space.high] * 2))
        prior.network.estimator.head.place.bias.fill_(-50.0)
        torch.testing.assert_close(predict(prior), torch.tensor([space.low] * 2))


def test_bounds_travel_with_the_weights(prior, tmp_path):
    save_prior(prior, "mcformer", tmp_path / "w.safetensors", dtype=torch.float32)
    again = load_prior(tmp_path / "w.safetensors", registry())
    with torch.no_grad():
        torch.testing.assert_close(predict(again), predict(prior), rtol=0, atol=0)


def test_bounds_keep_their_digits(prior, tmp_path):
    """Weights are halved on disk, an operator's bounds are not."""
    prior.network.estimator.head.fit(BoxSpace(("a", "b", "c"), (0.7, 0.3, 0.0), (1.1, 0.9, 1e5)))
    save_prior(prior, "mcformer", tmp_path / "w.safetensors")
    head = load_prior(tmp_path / "w.safetensors", registry()).network.estimator.head
    assert torch.equal(head.low, prior.network.estimator.head.low)
    assert torch.equal(head.high, torch.tensor([1.1, 0.9, 1e5]))


def test_numbers_are_learned():
    """The head follows its loss: from the middle of the box to where the truth is."""
    torch.manual_seed(0)
    settings = MCFormerSettings(network={"preset": "small", "head": "box", "numbers": 3}, preconditioning="residual")
    prior = MCFormerPrior(settings)
    prior.prepare(Numbers(), stream(0))
    truth, head = torch.tensor([0.5, 0.2, 6.0]), prior.network.estimator.head
    optimizer = torch.optim.Adam(prior.network.estimator.parameters(), lr=1e-2)
    features = torch.rand(4, 32)
    first = (head(features) - truth).abs().sum()
    for _ in range(60):
        loss = (head(features) - truth).abs().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2 * first


def test_a_box_is_for_boxes(prior):
    with pytest.raises(TrainingError, match="for operators whose parameters are a box"):
        prior.prepare(ToyBlur(), stream(0))
    with pytest.raises(ValidationError, match="kind 'spectral' has its own head"):
        Network(head="box", learn_variance=False, estimator={"kind": "spectral"})
