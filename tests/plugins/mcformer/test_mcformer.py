"""MCFormer as a prior: its published size, its kernels, and residual preconditioning against EDM's formulas."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from invdiff.components.discovery import registry

TINY = {
    "channels": [8, 8, 12, 16],
    "blocks": [1, 1, 1, 1],
    "heads": [1, 2, 3, 4],
    "refinement": 1,
    "kernel_size": 7,
    "learn_variance": False,
    "estimator": {"channels": 8},
}
SPREAD = 0.2


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def build(seed=0, **settings):
    cls = registry().get("prior", "mcformer").cls
    torch.manual_seed(seed)
    return cls(cls.Settings.model_validate(settings)).eval()


def tiny(seed=0, network=None, **settings):
    return build(seed, network={**TINY, **(network or {})}, **settings)


def residual(network=None, **settings):
    settings = {"preconditioning": "residual", "residual_std": SPREAD, **settings}
    return tiny(network=network, **settings)


def alive(prior, seed=0):
    """With every weight random: the last layer starts at zero, so that nothing before it shows."""
    g = gen(seed)
    with torch.no_grad():
        for weight in prior.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=g)
    return prior


def inputs(batch=3, height=16, width=24, seed=0):
    g = gen(seed)
    return (
        torch.randn(batch, 3, height, width, generator=g),
        torch.tensor([999, 400, 3, 0, 700])[:batch],
        torch.rand(batch, 3, height, width, generator=g),
    )


def abar(t):
    """Of the paper's 1000 betas on a line from 1e-4 to 2e-2."""
    return np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))[np.asarray(t)]


# --- size


@pytest.fixture(scope="module")
def paper():
    return build()


def test_the_papers_parameter_count(paper):
    assert sum(p.numel() for p in paper.parameters()) == 26_509_267  # published as 26.51 M


def test_the_papers_cost(paper):
    # Convolutions and matrix products of one 256 x 256 image, counted on tensors without data.
    network = paper.network.to("meta")
    image, t = torch.empty(1, 6, 256, 256, device="meta"), torch.zeros(1, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(image, image, t)
    assert counter.get_total_flops() / 2e9 == pytest.approx(113.2, abs=0.1)


def test_defaults_are_the_papers(paper):
    settings, spec = paper.settings, paper.spec
    assert settings.network.channels == (48, 96, 192, 384)
    assert settings.network.blocks == (2, 3, 6, 8)
    assert (settings.preconditioning, settings.value_range, settings.scale) == ("none", (0.0, 1.0), 4)
    assert (spec.prediction, spec.multiple, spec.parameter_shape, spec.value_range) == ("eps", 8, (21, 21), (0, 1))
    np.testing.assert_allclose(spec.schedule.alphas_cumprod.numpy(), abar(range(1000)), rtol=1e-12)


def test_presets_can_be_changed_key_by_key():
    settings = registry().get("prior", "mcformer").cls.Settings
    small = settings.model_validate({"network": "small"})
    other = settings.model_validate({"network": {"preset": "small", "kernel_size": 31}})
    assert small.network.kernel_size == 21
    assert other.network == small.network.model_copy(update={"kernel_size": 31})
    assert small.network.multiple == 16


# --- outputs


@pytest.mark.parametrize("head", ["softmax", "pca"])
@pytest.mark.parametrize("side", [5, 15])
@pytest.mark.parametrize("preconditioning", ["none", "residual"])
def test_shapes_and_unit_kernels(head, side, preconditioning):
    prior = tiny(network={"head": head, "kernel_size": side}, preconditioning=preconditioning)
    blindsr = registry().get("degradation", "blindsr").cls
    prior.prepare(blindsr(blindsr.Settings(kernel_size=side)), gen())
    x_t, t, condition = inputs()
    with torch.no_grad():
        out = alive(prior)(x_t * 5, t, condition)  # far out of range, so that a PCA must clip
    assert out.raw.shape == x_t.shape
    assert out.parameters.shape == (3, side, side) == (3, *prior.spec.parameter_shape)
    assert (out.parameters >= 0).all()
    torch.testing.assert_close(out.parameters.sum((1, 2)), torch.ones(3), rtol=0, atol=1e-5)
    assert out.variance_fraction is None


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_any_side_that_divides(unshuffle):
    prior = tiny(network={"unshuffle": unshuffle})
    assert prior.spec.multiple == 8 * unshuffle
    x_t, t, condition = inputs(1, 8 * unshuffle, 16 * unshuffle)
    with torch.no_grad():
        assert prior(x_t, t, condition).raw.shape == x_t.shape


@pytest.mark.parametrize("make", [tiny, residual, lambda: tiny(network={"learn_variance": True})])
def test_an_image_does_not_depend_on_its_neighbours(make):
    prior, (x_t, t, condition) = alive(make()), inputs()
    with torch.no_grad():
        together = prior(x_t, t, condition)
        for i in range(3):
            alone = prior(*(a[i : i + 1] for a in (x_t, t, condition)))
            torch.testing.assert_close(alone.raw[0], together.raw[i], rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(alone.parameters[0], together.parameters[i], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [tiny, residual])
def test_the_image_depends_on_everything_it_is_given(make):
    prior, (x_t, t, condition) = alive(make()), inputs(2)
    with torch.no_grad():
        plain = prior(x_t, t, condition).raw
        for changed in ((x_t + 0.1, t, condition), (x_t, t // 2, condition), (x_t, t, 1 - condition)):
            assert (prior(*changed).raw - plain).abs().max() > 1e-3


def test_the_kernel_modulates_the_image():
    # The gradient of the image must reach the kernel estimator: through nothing but the modulation.
    prior, (x_t, t, condition) = alive(tiny()), inputs(1)
    prior(x_t, t, condition).raw.square().sum().backward()
    estimator = [p.grad for name, p in prior.named_parameters() if "estimator" in name]
    assert len(estimator) == 14  # six convolutions and the head, weight and bias each
    assert all(g is not None and g.abs().max() > 0 for g in estimator)


# --- residual preconditioning


def karras(t, spread=SPREAD):
    """EDM, Table 1, for data of deviation ``spread`` and noise of sigma = sqrt((1 - abar) / abar)."""
    sigma = np.sqrt((1 - abar(t)) / abar(t))
    total = sigma**2 + spread**2
    return {
        "sigma": sigma,
        "skip": spread**2 / total,
        "out": sigma * spread / np.sqrt(total),
        "in": 1 / np.sqrt(total),
    }


def column(values):
    return torch.from_numpy(np.asarray(values, np.float32))[:, None, None, None]


def test_training_starts_from_the_wiener_estimate():
    prior, (x_t, t, condition) = residual(), inputs()
    z = x_t / column(np.sqrt(abar(t))) - condition
    with torch.no_grad():
        out = prior(x_t, t, condition)
        x0 = prior.predict(x_t, t, condition).x0
    torch.testing.assert_close(out.raw, condition + column(karras(t)["skip"]) * z, rtol=1e-5, atol=1e-5)
    assert torch.equal(x0, out.raw)
    assert prior.spec.prediction == "x0"


class Probe(nn.Module):
    """In the network's place: remembers what it is shown and answers a constant."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, image, hint, t, told=None):
        self.image, self.hint, self.t = image, hint, t
        return torch.full_like(image[:, :3], self.answer), torch.full((len(image), 7, 7), 1 / 49)


def test_the_network_sees_and_says_unit_quantities():
    prior, (x_t, t, condition) = residual(), inputs()
    plain = prior(x_t, t, condition).raw.detach()
    prior.network = Probe(1.0)
    c, z = karras(t), x_t / column(np.sqrt(abar(t))) - condition
    added = prior(x_t, t, condition).raw - plain
    torch.testing.assert_close(added, column(c["out"]).expand_as(x_t), rtol=1e-3, atol=1e-5)
    image = torch.cat([column(c["in"]) * z, condition], 1)
    torch.testing.assert_close(prior.network.image, image, rtol=1e-4, atol=1e-5)
    hint = torch.cat([column(c["skip"]) / SPREAD * z, condition], 1)  # at full noise nearly zero, not noise
    torch.testing.assert_close(prior.network.hint, hint, rtol=1e-4, atol=1e-5)
    assert len(prior.network.t.unique()) == 3


TIMES = [0, 50, 300, 700, 999]


def test_loss_weight():
    t = torch.tensor(TIMES)
    np.testing.assert_allclose(residual().loss_weight(t).numpy(), karras(TIMES)["out"] ** -2, rtol=1e-4)
    np.testing.assert_array_equal(tiny().loss_weight(t).numpy(), np.ones(5))


@pytest.mark.parametrize("t", TIMES)
def test_targets_have_unit_variance(t):
    """For residuals N(0, spread^2) the network's target, (x0 - condition - c_skip z) / c_out, is N(0, 1)."""
    prior, g = residual(), gen(t)
    condition = torch.rand(2, 3, 64, 64, generator=g)
    x0 = condition + SPREAD * torch.randn(condition.shape, generator=g)
    times = torch.full((2,), t)
    x_t = math.sqrt(abar(t)) * x0 + math.sqrt(1 - abar(t)) * torch.randn(x0.shape, generator=g)
    with torch.no_grad():
        start = prior(x_t, times, condition).raw  # condition + c_skip z, before any training
    target = (x0 - start) * prior.loss_weight(times)[:, None, None, None].sqrt()
    # 24,576 numbers: the variance has a relative deviation of sqrt(2 / 24576) = 0.9 %.
    assert float(target.var()) == pytest.approx(1, abs=0.036)
    assert abs(float(target.mean())) < 4 / math.sqrt(24576)


def test_the_spread_is_in_the_priors_own_range():
    prior = residual(value_range=[-1, 1], residual_std=0.3)
    np.testing.assert_allclose(prior.loss_weight(torch.tensor([500])), karras([500], 0.3)["out"] ** -2, rtol=1e-4)
    torch.testing.assert_close(prior.from_unit(torch.tensor([0, 0.25, 1])), torch.tensor([-1, -0.5, 1]))
    torch.testing.assert_close(prior.to_unit(torch.tensor([-1, -0.5, 1])), torch.tensor([0, 0.25, 1]))


# --- the PCA head


@pytest.fixture(scope="module")
def fitted():
    """A prior with a PCA head fitted to a family, other kernels of that family, and how often it was asked."""
    family = {"family": "isotropic", "sigma": [0.8, 3.0]}
    blindsr = registry().get("degradation", "blindsr").cls
    operator = blindsr(blindsr.Settings.model_validate({"kernels": family, "kernel_size": 15}))
    prior = tiny(network={"head": "pca", "kernel_size": 15, "pca_components": 10})
    prior.prepare(operator, gen(1))
    few, many = operator.sample_parameters(40, gen(2)), operator.sample_parameters(2000, gen(3))
    return prior.network.estimator.head, few, many


def coefficients(head, kernels):
    """Least squares of the kernels on the head's components, by NumPy."""
    basis = head.basis.double().numpy()
    off = kernels.flatten(1).double().numpy() - head.mean.double().numpy()
    return np.linalg.lstsq(basis.T, off.T, rcond=None)[0].T


def test_a_fitted_head_can_say_every_kernel_of_its_family(fitted):
    head, fresh, _ = fitted
    layer = head.coefficients
    worst = 0.0
    for kernel, code in zip(fresh, coefficients(head, fresh), strict=True):
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.copy_(torch.from_numpy(code))
            said = head(torch.zeros(1, layer.in_features))[0]
        assert said.min() >= 0
        assert float(said.sum()) == pytest.approx(1, abs=1e-5)
        worst = max(worst, float((said - kernel).abs().sum()))
    # Kernels of unit sum: 0.005 is a four-hundredth of the distance of two without overlap.
    assert worst < 0.005


def test_its_components_are_orthogonal_and_scaled_to_the_family(fitted):
    head, _, many = fitted
    gram = (head.basis @ head.basis.T).double()
    off = gram - gram.diag().diag()
    assert off.abs().max() < 1e-3 * gram.diag().max()
    assert (gram.diag().diff() < 0).all()  # the largest first
    code = coefficients(head, many)[:, :3]  # the later ones are of the size of rounding
    np.testing.assert_allclose(code.mean(0), 0, atol=0.12)
    np.testing.assert_allclose(code.std(0), 1, atol=0.1)


def test_only_the_pca_head_is_fitted():
    blindsr = registry().get("degradation", "blindsr").cls
    prior = tiny()
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    prior.prepare(blindsr(blindsr.Settings(kernel_size=7)), gen())
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())


def test_more_components_than_a_kernel_has_pixels():
    with pytest.raises(ValidationError, match="pca_components"):
        tiny(network={"head": "pca", "kernel_size": 3, "pca_components": 10})


# --- settings


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"network": {"kernel_size": 20}}, "kernel_size must be odd, got 20"),
        ({"network": "huge"}, "unknown network 'huge'.*paper, small"),
        ({"network": {"preset": "huge"}}, "unknown network 'huge'"),
        ({"network": {"heads": [1, 2, 5, 8]}}, "192 must divide by its 5 heads"),
        ({"network": {"channels": [48, 96, 192, 382], "heads": [1, 2, 4, 2]}}, "382 must divide by .* and by 4"),
        ({"network": {"channels": [48, 96, 192]}}, "channels"),
        ({"network": {"blocks": [0, 1, 1, 1]}}, "blocks"),
        ({"network": {"unshuffle": 3}}, "unshuffle"),
        ({"network": {"head": "sigmoid"}}, "head"),
        ({"network": {"depth": 3}}, "depth"),
        ({"network": {"estimator": {"channels": 0}}}, "channels"),
        ({"preconditioning": "residual"}, "learn_variance"),
        ({"preconditioning": "edm"}, "preconditioning"),
        ({"residual_std": 0}, "residual_std"),
        ({"value_range": [1, 0]}, "value_range"),
        ({"scale": 0}, "scale"),
        ({"beta_end": 1}, "beta_end"),
    ],
)
def test_wrong_settings_are_refused(settings, where):
    with pytest.raises(ValidationError, match=where):
        registry().get("prior", "mcformer").cls.Settings.model_validate(settings)


def test_weighted_pooling_begins_as_the_mean_and_learns_where_to_look():
    """At first both estimators agree; with weights, features that say nothing can be silenced."""
    from invdiff_mcformer.estimator import KernelEstimator, SoftmaxHead
    from invdiff_mcformer.settings import Estimator

    torch.manual_seed(0)
    plain = KernelEstimator(Estimator(channels=8, strides=(1, 2)), 6, SoftmaxHead(8, 5))
    weighted = KernelEstimator(Estimator(channels=8, strides=(1, 2), pooling="weighted"), 6, SoftmaxHead(8, 5))
    weighted.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(2, 6, 20, 24)
    torch.testing.assert_close(weighted(x), plain(x))
    torch.nn.init.normal_(weighted.weights.weight)
    assert not torch.allclose(weighted(x), plain(x))
    # A picture twice as long, of the same content, tells the same kernel but for the seam.
    long = torch.cat([x, x], dim=-1)
    assert (weighted(long) - weighted(x)).abs().sum(dim=(1, 2)).max().item() < 0.05


def test_an_estimator_that_reads_the_measurement_alone_says_the_same_at_every_step():
    """Whatever the noisy image and its noise; one that reads both follows them. On a grid of its own, too."""
    for reads, unshuffle in (("measurement", None), ("measurement", 2), ("both", 2)):
        prior = alive(residual(network={"estimator": {"channels": 8, "reads": reads, "unshuffle": unshuffle}}))
        x_t, t, condition = inputs()
        with torch.no_grad():
            read, found = prior.estimate(condition), prior.predict(x_t, t, condition).parameters
            same = [torch.equal(a, b) for a, b in zip(read, found, strict=True)]
        assert all(same) is (reads == "measurement")
        torch.testing.assert_close(read[0], found[0], atol=1e-3, rtol=0)  # its noisy image is all noise
