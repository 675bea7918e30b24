"""The spectral kernel estimator: its quotient's orientation above all, and what it reads and does not read."""

import pytest
import scipy.ndimage
import torch
from pydantic import ValidationError

import invdiff
from invdiff.blur.convolution import blur
from invdiff.components.weights import save_prior
from invdiff.training.lesson import lesson
from invdiff.training.loss import losses
from invdiff.training.settings import TrainSettings
from invdiff_mcformer.network import MCFormer
from invdiff_mcformer.prior import MCFormerPrior
from invdiff_mcformer.settings import Estimator, MCFormerSettings
from invdiff_mcformer.spectral import SpectralStage
from invdiff_motion.operator import Motion, MotionSettings

NETWORK = {
    "preset": "small",
    "kernel_size": 9,
    "channels": [8, 8, 16, 16],
    "heads": [1, 1, 2, 2],
    "blocks": [1, 1, 1, 1],
    "estimator": {"kind": "spectral", "channels": 8, "maps": 2},
}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def build(seed=0, **network):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = {"network": {**NETWORK, **network}, "scale": 1, "preconditioning": "residual"}
        return MCFormerPrior(MCFormerSettings.model_validate(settings)).eval()


def inputs(batch=3, height=32, width=48, seed=0):
    g = gen(seed)
    return (
        torch.randn(batch, 3, height, width, generator=g),
        torch.tensor([999, 400, 3])[:batch],
        torch.rand(batch, 3, height, width, generator=g),
    )


def hook(size=9):
    """A path that goes down, turns right, and gets fainter on its way."""
    k = torch.zeros(1, size, size)
    k[0, 1 : size - 1, 2] = torch.linspace(2, 1, size - 2)
    k[0, size - 2, 2 : size - 1] = torch.linspace(1, 0.3, size - 3)
    return k / k.sum()


# --- the quotient ------------------------------------------------------------------------------------


def quotient(k, height, width, size=9):
    """Of the sharp image's own derivatives and those of the blurred one, as if the features had been learned."""
    noise = torch.randn(height + len(k[0]) - 1, width + len(k[0]) - 1, generator=gen()).numpy()
    sharp = torch.from_numpy(scipy.ndimage.gaussian_filter(noise, 0.7))[None, None]
    stage = SpectralStage(Estimator(kind="spectral", channels=8, maps=2), 3, size)
    margin = len(k[0]) // 2
    with torch.no_grad():
        stage.filters.weight.zero_()
        stage.filters.weight[0, 0, 2, 2:4] = stage.filters.weight[1, 0, 2:4, 2] = torch.tensor([-1.0, 1.0])
        stage.log_beta.fill_(-10)
        maps = stage.filters(sharp[..., margin : margin + height, margin : margin + width])
        found = stage._quotient(maps, 5 * blur(sharp, k, "valid") + 0.3)  # neither contrast nor brightness counts
    return found


def cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("size", [(96, 96), (97, 90), (80, 95)])
def test_the_quotient_is_the_kernel_and_not_its_mirror_image(size):
    k = hook()
    found = quotient(k, *size)
    assert found.shape == (1, 9, 9)
    assert cosine(found, k) > 0.97
    for mirrored in (k.flip(-1), k.flip(-2), k.flip(-1, -2), k.mT):
        assert cosine(found, mirrored) < 0.85
    # Its place is right as well: one pixel off would lose as much.
    assert all(cosine(found, k.roll(move, axis)) < 0.85 for move in (-1, 1) for axis in (-1, -2))


def test_the_quotients_scale_is_the_ratio_of_powers():
    """Both maps are brought to unit power, so a kernel that blurs comes out larger than its unit sum."""
    point = torch.zeros(1, 9, 9)
    point[0, 4, 4] = 1
    torch.testing.assert_close(quotient(point, 64, 64), point, rtol=0, atol=5e-3)
    assert float(quotient(hook(), 96, 96).sum()) > 1.5


def test_a_larger_frame_around_the_same_kernel():
    found = quotient(hook(), 96, 96, size=15)
    assert cosine(found, torch.nn.functional.pad(hook(), (3,) * 4)) > 0.95


# --- in the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_kernels_are_kernels(seed):
    with torch.no_grad():
        out = build(seed)(*inputs())
    assert len(out.earlier) == 1
    assert out.raw.shape == (3, 3, 32, 48)
    for kernel in (out.parameters, *out.earlier):
        assert kernel.shape == (3, 9, 9)
        assert (kernel >= 0).all()
        torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(3), rtol=0, atol=1e-5)
    assert not torch.equal(out.parameters, out.earlier[0])


def test_the_kernel_is_read_from_the_condition_alone():
    prior, (x_t, t, condition) = build(), inputs()
    with torch.no_grad():
        plain = prior(x_t, t, condition)
        for same in (prior(x_t + 1, t, condition), prior(x_t, t // 2, condition)):
            assert torch.equal(same.parameters, plain.parameters)
            assert torch.equal(same.earlier[0], plain.earlier[0])
        other = prior(x_t, t, condition.flip(-1))
    assert float((other.parameters - plain.parameters).abs().max()) > 1e-4
    assert float((other.earlier[0] - plain.earlier[0]).abs().max()) > 1e-4


def test_its_own_estimate_is_that_beside_any_picture():
    prior = build()
    x, t, condition = inputs()
    assert torch.allclose(prior.estimate(condition), prior.predict(x, t, condition).parameters, atol=1e-7)
    joint = build(estimator={"channels": 8})  # reads the noisy picture as well
    pure = torch.randn(3, 32, 48, generator=gen()).expand_as(condition)
    wanted = joint.predict(pure, torch.full((3,), 999), condition).parameters
    assert torch.equal(joint.estimate(condition), wanted)


def test_frozen_it_reads_a_measurement_once(monkeypatch):
    prior, read = build().requires_grad_(False), []
    reading = SpectralStage.forward
    monkeypatch.setattr(SpectralStage, "forward", lambda self, *a: read.append(self) or reading(self, *a))
    x, t, condition = inputs()
    first = prior(x, t, condition).parameters
    assert torch.equal(prior(2 * x, t, condition.clone()).parameters, first)
    assert len(read) == 2  # both stages, once
    prior.estimate(condition).zero_()  # what one has been given is his own
    assert torch.equal(prior.estimate(condition), first)
    assert not torch.equal(prior.estimate(condition.flip(-1)), first)
    assert len(read) == 4
    with torch.no_grad():
        prior.network.estimator.second.clean[-1].weight.mul_(-5)
    assert not torch.equal(prior.estimate(condition), first)


def test_while_it_learns_nothing_is_kept(monkeypatch):
    prior, read = build(), []
    reading = SpectralStage.forward
    monkeypatch.setattr(SpectralStage, "forward", lambda self, *a: read.append(self) or reading(self, *a))
    condition = inputs()[2]
    assert prior.estimate(condition).requires_grad
    assert prior.estimate(condition).requires_grad
    assert len(read) == 4


def test_an_image_does_not_depend_on_its_neighbours():
    prior, (x_t, t, condition) = build(), inputs()
    torch.nn.init.normal_(prior.network.head.weight, std=0.1, generator=gen())  # zero at first, which hides faults
    with torch.no_grad():
        together = prior(x_t, t, condition)
        for i in range(3):
            alone = prior(*(a[i : i + 1] for a in (x_t, t, condition)))
            torch.testing.assert_close(alone.raw[0], together.raw[i], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(alone.parameters[0], together.parameters[i], rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(alone.earlier[0][0], together.earlier[0][i], rtol=1e-3, atol=1e-5)


def test_the_transformer_sees_the_deconvolved_measurement():
    """Three channels for each weight beside the usual six, unfolded by 2 x 2."""
    for weights in ((0.1,), (0.03, 0.2), (0.01, 0.1, 1.0)):
        network = build(estimator={**NETWORK["estimator"], "deconvolve": weights}).network
        assert network.stem.in_channels == 4 * (6 + 3 * len(weights))
    condition = inputs(1)[2]
    with torch.no_grad():
        shown = network.estimator.deconvolved(condition, hook())
    assert shown.shape == (1, 9, 32, 48)
    torch.testing.assert_close(network.estimator.deconvolved(condition + 1, hook()), shown + 1, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (16, 48)])
def test_an_image_smaller_than_the_kernel(size):
    with torch.no_grad():
        out = build(kernel_size=21)(*inputs(1, *size))
    assert out.parameters.shape == (1, 21, 21)
    assert all(v.isfinite().all() for v in (out.raw, out.parameters, *out.earlier))


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_an_image_without_texture(value):
    x_t, t, _ = inputs(1)
    condition = torch.full_like(x_t, value)
    out = build()(x_t, t, condition)
    out.parameters.square().sum().backward()
    assert all(v.isfinite().all() for v in (out.raw, out.parameters, *out.earlier))


def test_bfloat16_autocast():
    prior, given = build(), inputs(1)
    with torch.no_grad():
        plain = prior(*given)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = prior(*given)
    assert coarse.parameters.dtype == torch.float32
    torch.testing.assert_close(coarse.parameters.sum((1, 2)), torch.ones(1), rtol=0, atol=1e-4)
    assert float((coarse.parameters - plain.parameters).abs().sum()) < 0.3


def test_every_kernel_of_the_network():
    """The network returns them all, in order; a pooled estimator has one."""
    prior, (x_t, t, condition) = build(), inputs(1)
    pair = torch.cat([x_t, condition], 1)
    with torch.no_grad():
        _, kernels = prior.network(pair, pair, t)
        assert len(kernels) == 2
        assert torch.equal(kernels[-1], prior(x_t, t, condition).parameters)
        pooled = MCFormer(build(estimator={"channels": 8}).settings.network)
        assert len(pooled(pair, pair, t)[1]) == 1
        assert build(estimator={"channels": 8})(x_t, t, condition).earlier == ()


# --- settings and weights ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "where"),
    [
        ({"head": "pca"}, "an estimator of kind 'spectral' has its own head"),
        ({"estimator": {"kind": "spectre"}}, "kind"),
        ({"estimator": {"kind": "spectral", "maps": 0}}, "maps"),
        ({"estimator": {"kind": "spectral", "deconvolve": []}}, "deconvolve"),
        ({"estimator": {"kind": "spectral", "deconvolve": [0.1, 0]}}, "deconvolve"),
    ],
)
def test_wrong_settings_are_refused(network, where):
    with pytest.raises(ValidationError, match=where):
        build(**network)


def test_round_trip(tmp_path):
    prior, given = build(seed=3), inputs(2)
    save_prior(prior, "mcformer", tmp_path / "p.safetensors", dtype=torch.float32)
    back = invdiff.load_prior(tmp_path / "p.safetensors")
    assert back.settings == prior.settings
    with torch.no_grad():
        one, other = prior(*given), back(*given)
    assert torch.equal(one.raw, other.raw)
    assert torch.equal(one.parameters, other.parameters)


# --- training ----------------------------------------------------------------------------------------


def test_training_counts_both_estimates():
    prior, operator, x = build().train(), Motion(MotionSettings(kernel_size=9)), inputs(2)[2]
    seen, settings = [], TrainSettings()
    given = lesson(prior, operator, x, settings.noise, [gen(4), gen(5)])

    def model(*asked):
        seen.append(prior(*asked))
        return seen[-1]

    def totals(weight):
        return losses(prior, model, operator, given, TrainSettings(parameter_weight=weight))

    theta = given.theta
    total, image, parameter = totals(0.5)
    last, first = ((k - theta).abs().sum((1, 2)).mean() for k in (seen[0].parameters, seen[0].earlier[0]))
    torch.testing.assert_close(parameter, last)
    torch.testing.assert_close(total, image + 0.5 * (last + first))
    assert first > 0.1
    torch.testing.assert_close(totals(0.0)[0], image)


def test_gradients_reach_both_stages_each_by_its_own_loss():
    prior, given = build().train(), inputs(2)
    target = hook()
    estimator = prior.network.estimator

    def gradients(kernel, stage):
        names, weights = zip(*stage.named_parameters(), strict=True)
        found = torch.autograd.grad((kernel - target).square().sum(), weights, retain_graph=True, allow_unused=True)
        return dict(zip(names, found, strict=True))

    out = prior(*given)
    for kernel, stage in ((out.earlier[0], estimator.first), (out.parameters, estimator.second)):
        still = [n for n, g in gradients(kernel, stage).items() if g is None or not g.abs().max() > 0]
        assert still == []
    assert all(g is None for g in gradients(out.parameters, estimator.first).values())
    assert all(g is None for g in gradients(out.earlier[0], estimator.second).values())


def test_it_learns_a_kernel():
    """A few steps on one blurred picture: both kernels come nearer to the true one."""
    prior, k = build().train(), hook()
    condition = blur(inputs(1)[2], k)
    optimiser = torch.optim.Adam(prior.network.estimator.parameters(), 3e-3)
    history = []
    for _ in range(15):
        kernels = prior.network.estimator(condition)
        distances = [(kernel - k).abs().sum() for kernel in kernels]
        history.append([d.item() for d in distances])
        optimiser.zero_grad()
        sum(distances).backward()
        optimiser.step()
    assert all(after < 0.8 * before for before, after in zip(history[0], history[-1], strict=True))
