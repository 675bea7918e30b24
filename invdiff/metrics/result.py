"""Which metrics one result gets, against the clean picture and the true parameters: for runs and evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ..degradation import Degradation, KernelSpace
from . import kernel as kernels
from . import picture

REACH = 8
"""Whole pixels by which a deblurred picture may be moved before it is compared once more."""


class Judge(Protocol):
    """A metric with weights of its own, which users point to: LPIPS, NIQE."""

    @property
    def name(self) -> str:
        """The catalogue's."""

    def __call__(self, image: Tensor, clean: Tensor) -> float:
        """Of an image ``(3, H, W)`` in [0, 1], and the clean one; NaN for what is too small."""


def border_of(operator: Degradation) -> int:
    """Pixels left out along the border of luma metrics: ``scale``, as is the custom of super-resolution, or none."""
    return operator.scale if operator.scale > 1 else 0


def picture_metrics(
    image: Tensor, clean: Tensor, operator: Degradation, judges: Sequence[Judge] = ()
) -> dict[str, float]:
    """Of an image ``(3, H, W)``, rounded to 8 bits first, against the clean one."""
    image, border = picture.round8(image), border_of(operator)
    found = {
        "psnr_y": picture.psnr_y(image, clean, border),
        "psnr_rgb": picture.psnr_rgb(image, clean),
        "ssim_y": picture.ssim_y(image, clean, border),
    }
    return found | {judge.name: judge(image, clean) for judge in judges}


def parameter_metrics(estimate: Tensor, truth: Tensor, clean: Tensor, operator: Degradation) -> dict[str, float]:
    """Of estimated parameters ``(*shape)`` against the true ones; ``clean (3, H, W)`` is degraded with both."""
    found: dict[str, float] = {}
    if isinstance(operator.parameters, KernelSpace):
        found["kernel_l1"] = kernels.kernel_l1(estimate, truth)
        if operator.scale == 1:  # where a shift of the kernel cannot be told from one of the scene
            found["kernel_l1_shifted"] = kernels.kernel_l1_shifted(estimate, truth)
        found["kernel_psnr_shifted"] = kernels.kernel_psnr_shifted(estimate, truth)
        found["kernel_mnc"] = kernels.mnc(estimate, truth)
    ours, theirs = (operator.apply(clean[None], theta[None])[0] for theta in (estimate, truth))
    found["lr_psnr"] = picture.lr_psnr(ours, theirs)
    return found


def residual_rms(image: Tensor, parameters: Tensor, y: Tensor, operator: Degradation) -> float:
    """Root mean square of ``y - A(image)`` on [0, 1], over the pixels whose whole scene the image shows."""
    again = operator.apply(image[None], parameters[None])[0]
    rows, cols = ((have - want) // 2 for have, want in zip(y.shape[-2:], again.shape[-2:], strict=True))
    return picture.rms(y[..., rows : rows + again.shape[-2], cols : cols + again.shape[-1]] - again)
