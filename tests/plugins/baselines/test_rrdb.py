"""Real-ESRGAN and RealSR: random networks in their packages' places, everywhere; the real ones where those are."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from invdiff.errors import PluginError, WeightsError
from invdiff.io.ncnn import find_network, read_convolutions
from invdiff.method import Case
from invdiff_baselines.realesrgan import RealESRGAN, RealSR
from invdiff_baselines.rrdb import RRDBNet
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from ncnn_files import RRDB, constant, place, write_ncnn

METHODS = pytest.mark.parametrize("method", [RealESRGAN, RealSR])


def case(side=9):
    y = torch.rand(3, side, side + 2, generator=torch.Generator().manual_seed(1))
    return Case(y, torch.ones(1, 1), BlindSR(BlindSRSettings()), 0.0)


@METHODS
def test_the_last_bias_is_what_comes_where_nothing_else_does(site, method):
    """All weights zero: the picture is the last layer's bias, clipped, and four times the size."""
    layers = constant(RRDB)
    layers[-1][1][:] = [0.25, 0.5, 7]
    write_ncnn(place(site, method), layers)
    network = method()
    assert network.unfit(BlindSR(BlindSRSettings(scale=2))) == "is for scale 4"
    assert network.unfit(case().degradation) is None
    image = network.restore(case()).image
    assert image.shape == (3, 36, 44)
    assert torch.equal(image[:, 5, 5], torch.tensor([0.25, 0.5, 1.0]))
    assert (image == image[:, :1, :1]).all()


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (RRDB[:-1], "not a RRDBNet of 23 blocks"),
        ([*RRDB, (3, 64, 3, 3)], "more convolutions than a RRDBNet"),
        ([(64, 3, 1, 1), *RRDB[1:]], "not a RRDBNet of 23 blocks"),
    ],
)
def test_another_network_is_refused(tmp_path, shapes, said):
    write_ncnn(tmp_path / "other.param", constant(shapes))
    with pytest.raises(WeightsError, match=f"other.param: {said}"):
        RRDBNet(tmp_path / "other.param")


def follow(param, y):
    """The network as its ``.param`` draws it: every line by itself, blobs by their names."""
    weights = {layer.name: layer for layer in read_convolutions(param)}
    blobs = {}
    for line in param.read_text().splitlines()[2:]:
        kind, name, inputs, outputs, *rest = line.split()
        count = int(inputs)
        into, out = rest[:count], rest[count : count + int(outputs)]
        values = dict(pair.split("=") for pair in rest[count + int(outputs) :])
        given = [blobs[blob] for blob in into]
        if kind == "Input":
            result = y
        elif kind == "Convolution":
            result = F.conv2d(given[0], weights[name].weight, weights[name].bias, padding=int(values["4"]))
            if values.get("9") == "2":
                result = F.leaky_relu(result, float(values["-23310"].split(",")[1]))
        elif kind == "Split":
            result = given[0]
        elif kind == "Concat":
            result = torch.cat(given, dim=1)
        elif kind == "Eltwise":
            assert values["0"] == "1"  # a weighted sum
            factors = [float(f) for f in values["-23301"].split(",")[1:]]
            result = sum(f * g for f, g in zip(factors, given, strict=True))
        elif kind == "BinaryOp":
            assert values.get("0", "0") == "0"  # a sum
            result = given[0] + given[1]
        else:
            assert (kind, values["0"]) == ("Interp", "1")  # to the nearest
            result = given[0].repeat_interleave(2, -1).repeat_interleave(2, -2)
        blobs.update(dict.fromkeys(out, result))
    return blobs["output"]


@METHODS
def test_the_real_ones_are_what_their_files_draw(method):
    if find_spec(method.package.replace("-", "_")) is None:
        pytest.skip(f"{method.package} is not installed: pip install 'invdiff[rivals]'")
    network = method().network
    assert sum(p.numel() for p in network.parameters()) == 16_697_987
    y = case().y[None]
    torch.testing.assert_close(network(y), follow(find_network(method.package, method.file), y), atol=1e-5, rtol=0)


@METHODS
def test_not_installed_is_one_line(method, monkeypatch):
    monkeypatch.setattr("invdiff.io.ncnn.find_spec", lambda name: None)
    with pytest.raises(PluginError, match=f"pip install {method.package}$"):
        method()
