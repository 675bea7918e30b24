"""FID: the distance against SciPy and closed forms, the network against published counts and its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from safetensors.torch import save_file

from invdiff.errors import WeightsError
from invdiff.metrics.fid import features, frechet
from invdiff.metrics.inception import Inception, find_inception, load_inception


def by_definition(a, b):
    ca, cb = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(ca @ cb).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * root)


@pytest.mark.parametrize("counts", [(50, 80), (20, 20)])
def test_the_distance_is_its_definition(counts):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6) for n in counts)
    assert frechet(a, b) == pytest.approx(by_definition(a, b), rel=1e-6)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-9)


def test_fewer_pictures_than_features():
    """Where SciPy's root of a singular matrix is a gamble: equal sets have distance nought, moved ones the move's."""
    a = np.random.default_rng(0).normal(size=(5, 2048))
    assert frechet(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet(a, a + 0.5) == pytest.approx(0.25 * 2048, rel=1e-9)
    assert frechet(a, 3 * (a - a.mean(0)) + a.mean(0)) == pytest.approx(4 * np.trace(np.cov(a.T)), rel=1e-9)
    assert np.isnan(frechet(a[:1], a))


def random_weights():
    torch.manual_seed(0)
    network = Inception()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return random_weights()


def test_inception_v3_up_to_its_classifier(network):
    # torchvision's Inception v3 has 27,161,264 parameters: with 2048 * 1000 + 1000 of its classifier, and
    # 3,326,696 of the auxiliary one. (With equal random weights this network and pytorch-fid 0.3.0's agreed
    # to the last bit, on 2026-11-24.)
    assert sum(p.numel() for p in network.parameters()) == 27_161_264 - (2048 * 1000 + 1000) - 3_326_696
    names = set(network.state_dict())
    assert {
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch5x5_2.bn.running_var",
        "Mixed_7c.branch_pool.conv.weight",
    } <= names
    assert len([n for n in names if n.endswith("conv.weight")]) == 94


@torch.no_grad()
def test_features_do_not_depend_on_the_company(network):
    x = torch.rand(2, 3, 80, 60, generator=torch.Generator().manual_seed(0))
    both = network(x)
    assert both.shape == (2, 2048)
    torch.testing.assert_close(network(x[1:]), both[1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both[0], both[1], rtol=1e-2)


@torch.no_grad()
def test_pools_leave_the_padding_out(network):
    """What tells FID's network from torchvision's: constant maps stay constant at their borders."""
    from invdiff.metrics.inception import _average

    assert torch.equal(_average(torch.ones(1, 2, 5, 5)), torch.ones(1, 2, 5, 5))
    block = network.Mixed_7c
    x = torch.rand(1, 2048, 8, 8)
    x[0, :, 0, 0] = 50  # an average would spread it thinly, the largest carries it to its neighbours whole
    pooled = block(x)[0, -192:]
    want = block.branch_pool(torch.nn.functional.max_pool2d(x, 3, 1, 1))[0]
    assert torch.equal(pooled, want)


def test_weights_of_both_forms_are_the_same(network, tmp_path):
    state = network.state_dict()
    save_file(state, tmp_path / "inception.safetensors")
    old = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    torch.save({**old, "fc.weight": torch.ones(1008, 2048), "fc.bias": torch.ones(1008)}, tmp_path / "inception.pth")
    picture = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(picture)
    found = [features(load_inception(tmp_path / f"inception.{s}"), [picture]) for s in ("safetensors", "pth")]
    assert found[0].shape == (1, 2048)
    np.testing.assert_array_equal(*found)


def test_weights_that_are_not_cost_a_line(tmp_path):
    assert find_inception(None) == (None, ["FID is left out: no weights given (--fid FILE)"])
    save_file({"Mixed_5b.branch1x1.conv.weight": torch.ones(2)}, tmp_path / "wrong.safetensors")
    for name in ("none.safetensors", "none.pth", "wrong.safetensors"):
        network, (line,) = find_inception(tmp_path / name)
        assert network is None
        assert line.startswith("FID is left out: ")
        assert name in line
    with pytest.raises(WeightsError, match="not the weights of FID's Inception"):
        load_inception(tmp_path / "wrong.safetensors")
