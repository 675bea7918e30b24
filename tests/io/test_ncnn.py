"""ncnn's files, written by hand: weights come out as they went in, and what is none is one line."""

import numpy as np
import pytest

from invdiff.errors import WeightsError
from invdiff.io.ncnn import read_convolutions
from ncnn_files import FULL, HALF, random_layers, write_ncnn


@pytest.mark.parametrize("tag", [HALF, FULL])
def test_weights_and_biases(tag, tmp_path):
    """An odd number of float16 is padded to a word; a kernel need not be square; a bias may be missing."""
    layers = random_layers((5, 3, 3, 3), (3, 5, 1, 1), (2, 3, 1, 3))
    layers[1] = (layers[1][0], None)
    write_ncnn(tmp_path / "net.param", layers, tag, after=["PixelShuffle  out  1 1 3 out 0=2"])
    found = read_convolutions(tmp_path / "net.param")
    assert [layer.name for layer in found] == ["conv_0", "conv_1", "conv_2"]
    for layer, (weight, bias) in zip(found, layers, strict=True):
        np.testing.assert_array_equal(layer.weight.numpy(), weight)
        np.testing.assert_array_equal(layer.bias.numpy(), np.zeros(len(weight)) if bias is None else bias)


def test_what_is_none(tmp_path):
    param = tmp_path / "net.param"

    def refused(words):
        with pytest.raises(WeightsError, match=words) as caught:
            read_convolutions(param)
        assert "\n" not in str(caught.value)

    refused(r"net\.param: cannot be read \(No such file")
    write_ncnn(param, random_layers((4, 3, 3, 3)))
    good, text = param.with_suffix(".bin").read_bytes(), param.read_text()
    param.with_suffix(".bin").write_bytes(good[:-1])
    refused("net.bin: ends before the weights of conv_0 do")
    param.with_suffix(".bin").write_bytes(good + b"\0\0\0\0")
    refused("240 bytes, and the convolutions of net.param take 236")
    param.with_suffix(".bin").write_bytes(b"\x0d\xf0\x0d\x00" + good[4:])
    refused("conv_0: weights neither float16 nor float32 .tag 0xdf00d.")
    param.with_suffix(".bin").unlink()
    refused(r"net\.bin: cannot be read")
    param.with_suffix(".bin").write_bytes(good)
    for before, after, words in (
        ("7767517", "1", "not a network of ncnn"),
        ("6=108", "6=109", "conv_0: 109 weights make no 3-wide convolution to 4 channels"),
        ("0=4", "0=four", "line 4 is no convolution"),
        ("6=108", "", "line 4 is no convolution"),
        ("0=4", "0=-4", "conv_0: 108 weights make no"),
    ):
        param.write_text(text.replace(before, after, 1))
        refused(words)
