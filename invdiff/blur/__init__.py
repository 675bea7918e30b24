"""A toolbox for blur operators: convolution, bicubic resizing; deconvolution and kernel files beside them."""

from .convolution import Border, Padding, blur, blur_adjoint, fast_size, pad_border, pad_border_adjoint
from .resize import (
    bicubic_matrix,
    cubic,
    downsample_bicubic,
    downsample_bicubic_adjoint,
    resize_bicubic,
    upsample_bicubic,
)

__all__ = [
    "Border",
    "Padding",
    "bicubic_matrix",
    "blur",
    "blur_adjoint",
    "cubic",
    "downsample_bicubic",
    "downsample_bicubic_adjoint",
    "fast_size",
    "pad_border",
    "pad_border_adjoint",
    "resize_bicubic",
    "upsample_bicubic",
]
