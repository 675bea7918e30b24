"""The estimator of Gaussians: its family against NumPy's, and what it may not depend on."""

import numpy as np
import pytest
import torch

import invdiff
from invdiff.components.weights import save_prior
from invdiff.io.pictures import sample_photo
from invdiff.training.lesson import lesson
from invdiff.training.loss import losses
from invdiff.training.settings import TrainSettings
from invdiff_blindsr.kernels import gaussian
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_mcformer.edges import EdgeEstimator, gaussians
from invdiff_mcformer.prior import MCFormerPrior
from invdiff_mcformer.settings import MCFormerSettings

NETWORK = {
    "preset": "small",
    "kernel_size": 13,
    "channels": [8, 8, 16, 16],
    "heads": [1, 1, 2, 2],
    "blocks": [1, 1, 1, 1],
    "unshuffle": 4,
    "estimator": {"kind": "edges", "channels": 16},
}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def build(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = {"network": NETWORK, "scale": 4, "preconditioning": "residual"}
        return MCFormerPrior(MCFormerSettings.model_validate(settings)).eval()


def alive(prior):
    """With weights everywhere: training begins at a round kernel whatever is seen."""
    for layer in (prior.network.estimator.weights, prior.network.estimator.numbers[-1]):
        torch.nn.init.normal_(layer.weight, std=2.0, generator=gen())
    return prior


@pytest.mark.parametrize(("axes", "angle"), [((2.0, 2.0), 0.0), ((3.0, 1.0), 0.4), ((1.2, 4.0), -1.0)])
def test_any_gaussian_is_in_the_family(axes, angle):
    """``s^2 expm(S)`` with ``S`` symmetric and of no trace, against the quadratic form in NumPy."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    covariance = turn @ np.diag(np.square(axes)) @ turn.T
    place = np.stack(np.meshgrid(np.arange(21) - 9.0, np.arange(21) - 10.5, indexing="ij"))
    want = np.exp(-0.5 * np.einsum("nij,nm,mij->ij", place, np.linalg.inv(covariance), place))
    values, vectors = np.linalg.eigh(covariance)
    logarithm = vectors @ np.diag(np.log(values)) @ vectors.T
    size = np.trace(logarithm) / 2
    numbers = [size / 2 - np.log(2.0), logarithm[0, 0] - size, logarithm[0, 1]]
    found = gaussians(torch.tensor([numbers]), torch.tensor([-1.0, 0.5]), 21)[0].double().numpy()
    np.testing.assert_allclose(found, want / want.sum(), atol=1e-6)


def test_any_numbers_are_a_kernel():
    numbers = 100 * torch.randn(64, 3, generator=gen())
    numbers[0] = 0
    numbers.requires_grad_(True)
    kernels = gaussians(numbers, torch.zeros(2), 13)
    assert kernels.isfinite().all()
    assert kernels.min() >= 0
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(64))
    kernels.square().sum().backward()
    assert numbers.grad.isfinite().all()


def test_what_it_does_not_depend_on():
    """The noisy image, the time, its neighbours in a batch, brightness, and contrast where there is much."""
    prior = alive(build())
    x_t, condition = torch.randn(2, 3, 64, 96, generator=gen(1)), torch.rand(2, 3, 64, 96, generator=gen(2))
    with torch.no_grad():
        read = prior.estimate(condition)
        for t in (3, 999):
            assert torch.equal(prior.predict(x_t, torch.tensor([t, t]), condition).parameters, read)
        torch.testing.assert_close(prior.estimate(condition[1:]), read[1:])
        torch.testing.assert_close(prior.estimate(condition + 0.3), read, atol=1e-5, rtol=0)
        halved = (prior.estimate(0.5 * condition) - read).abs().sum((1, 2))
        assert 0 < float(halved.max()) < 0.2
    assert float((read[0] - read[1]).abs().sum()) > 1e-3


@pytest.mark.parametrize("size", [(16, 16), (8, 40), (32, 32)])
def test_small_pictures(size):
    estimator = EdgeEstimator(MCFormerSettings(network=NETWORK).network)
    found = estimator(torch.zeros(1, 3, *size))
    torch.testing.assert_close(found.sum(), torch.tensor(1.0))


def test_kernels_off_the_middle():
    """An operator that keeps every fourth pixel means its kernels to lie off the middle; weights remember it."""
    operator = BlindSR(BlindSRSettings.model_validate({"kernel_size": 13, "downsample": "stride"}))
    prior = build()
    prior.prepare(operator, gen())
    torch.testing.assert_close(prior.network.estimator.middle, torch.full((2,), -1.5), atol=0.1, rtol=0)
    assert float(prior.estimate(torch.zeros(1, 3, 32, 32))[0].sum(1).argmax()) < 6


def test_weights_bring_it_back(tmp_path):
    prior = alive(build())
    prior.network.estimator.middle.fill_(0.25)
    save_prior(prior, "mcformer", tmp_path / "weights.safetensors", dtype=torch.float32)
    condition = torch.rand(1, 3, 32, 32, generator=gen())
    again = invdiff.load_prior(str(tmp_path / "weights.safetensors"))
    assert torch.equal(again.estimate(condition), prior.estimate(condition))


@pytest.mark.parametrize("name", ["coffee", "cat", "face"])
@pytest.mark.parametrize("angle", [0.0, 0.8, -0.8])
def test_the_bundled_one_tells_directions(name, angle):
    """Of a photo that it has not seen, blurred along one line: its kernel lies there, and not across."""
    kernel, across = (gaussian(21, 4.0, 1.2, turn).float() for turn in (angle, angle + np.pi / 2))
    clean = sample_photo(name).cropped(256, 256, centre=True).pixels
    operator = BlindSR(BlindSRSettings())
    condition = operator.lift(operator.apply(clean[None], kernel[None]))
    prior = invdiff.load_prior("blindsr_x4_s")
    low, high = prior.spec.value_range
    found = prior.estimate(low + (high - low) * condition)[0]
    near, far = (float((found - each).abs().sum()) for each in (kernel, across))
    assert near < 0.5
    assert near < 0.6 * far


def test_training_reaches_it_alone():
    """``learns: parameters`` gives the estimator gradients, and nothing else."""
    operator, prior = BlindSR(BlindSRSettings(kernel_size=13)), build()
    settings = TrainSettings(learns="parameters")
    given = lesson(prior, operator, torch.rand(2, 3, 64, 64, generator=gen()), settings.noise, [gen(1), gen(2)])
    losses(prior, prior, operator, given, settings)[0].backward()
    for name, weight in prior.named_parameters():
        assert (weight.grad is not None) is name.startswith("network.estimator."), name
