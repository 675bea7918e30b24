"""A toolbox for operators: convolution, resizing, linear systems; deconvolution and kernel files beside them."""

from .conjugate_gradients import conjugate_gradients
from .convolution import (
    Blur,
    BlurOf,
    Border,
    Padding,
    blur,
    blur_adjoint,
    fast_size,
    is_large,
    pad_border,
    pad_border_adjoint,
    transfer,
)
from .resize import (
    bicubic_matrix,
    cubic,
    downsample_bicubic,
    downsample_bicubic_adjoint,
    resize_bicubic,
    upsample_bicubic,
)

__all__ = [
    "Blur",
    "BlurOf",
    "Border",
    "Padding",
    "bicubic_matrix",
    "blur",
    "blur_adjoint",
    "conjugate_gradients",
    "cubic",
    "downsample_bicubic",
    "downsample_bicubic_adjoint",
    "fast_size",
    "is_large",
    "pad_border",
    "pad_border_adjoint",
    "resize_bicubic",
    "transfer",
    "upsample_bicubic",
]
