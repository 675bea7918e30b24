"""A convolution that keeps nothing of its input where its weights are frozen.

torch's keeps the input for the gradient of the weights, whether anybody asks for that or not. In a guidance's
gradient nobody does, and the inputs are half of all that is kept for it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """The same numbers as torch's, to the last bit, and the same state; groups, strides and bias as there."""

    def forward(self, x: Tensor) -> Tensor:
        tracked = torch.is_grad_enabled() and x.requires_grad
        frozen = not any(p.requires_grad for p in self.parameters(recurse=False))
        plain = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if tracked and frozen and plain and not torch.is_autocast_enabled(x.device.type):
            return cast(Tensor, _Frozen.apply(x, self.weight, self.bias, self))
        return super().forward(x)


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Conv2d) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.layer, ctx.shape = layer, x.shape
        ctx.channels_last = x.is_contiguous(memory_format=torch.channels_last)
        return layer._conv_forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,), layer = ctx.saved_tensors, ctx.layer
        # Only the input's shape and layout matter for the input's gradient: its pages are never touched.
        layout = torch.channels_last if ctx.channels_last else torch.contiguous_format
        like = torch.empty(ctx.shape, dtype=weight.dtype, device=weight.device, memory_format=layout)
        found = torch.ops.aten.convolution_backward(
            slope,
            like,
            weight,
            None,
            layer.stride,
            layer.padding,
            layer.dilation,
            False,
            (0, 0),
            layer.groups,
            (True, False, False),
        )
        return found[0], None, None, None
