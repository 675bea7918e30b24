"""A convolution with frozen weights: torch's numbers, and nothing kept of its input."""

import pytest
import torch
from torch import nn

from invdiff_mcformer.convolution import Conv2d

LAYERS = [
    {"kernel_size": 1, "bias": False},
    {"kernel_size": 3, "padding": 1, "groups": 6},
    {"kernel_size": 5, "padding": 2, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
]


def pair(**settings):
    ours, theirs = Conv2d(6, 6, **settings), nn.Conv2d(6, 6, **settings)
    assert theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("settings", LAYERS)
def test_it_is_torchs_to_the_last_bit(settings, frozen, layout):
    x, found = torch.randn(2, 6, 13, 12, generator=torch.Generator().manual_seed(0)), []
    for layer in pair(**settings):
        layer.requires_grad_(not frozen).to(memory_format=layout)
        leaf = x.to(memory_format=layout).requires_grad_()
        y = layer(leaf)
        asked = [leaf, *(layer.parameters() if not frozen else ())]
        found.append([y, *torch.autograd.grad(y.sin().sum(), asked)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def kept(layer, x):
    """Numbers of everything that is kept for the gradient, but for the weights."""
    sizes = []

    def keep(tensor):
        sizes.append(0 if tensor is layer.weight else tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x)
    return sum(sizes)


def test_nothing_is_kept_of_the_input():
    x = torch.randn(1, 6, 40, 40, requires_grad=True)
    ours, theirs = pair(kernel_size=3, padding=1)
    for layer in (ours, theirs):
        layer.requires_grad_(False)
    assert kept(theirs, x) >= x.numel()  # what torch does, or else this file has lost its purpose
    assert kept(ours, x) < x.numel() / 10
    assert kept(ours.requires_grad_(True), x) >= x.numel()


def test_slopes_of_slopes():
    x = torch.randn(1, 6, 5, 5, dtype=torch.float64, requires_grad=True)
    layer = pair(kernel_size=3, padding=1)[0].double().requires_grad_(False)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).sin(), x)
