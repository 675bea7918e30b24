"""What metrics are called, which way is better, how many digits they are shown with, and by which convention."""

from __future__ import annotations

from collections.abc import Sequence

_STEMS = {  # of a column's name: title, which way is better, digits
    "psnr_y": ("PSNR-Y", "↑", 2),
    "psnr_rgb": ("PSNR-RGB", "↑", 2),
    "psnr_rgb_shifted": ("PSNR-RGB shifted", "↑", 2),
    "ssim_y": ("SSIM-Y", "↑", 4),
    "lpips_vgg": ("LPIPS-VGG", "↓", 4),
    "lpips_alex": ("LPIPS-Alex", "↓", 4),
    "kernel_l1": ("kernel L1", "↓", 3),
    "kernel_l1_shifted": ("kernel L1 shifted", "↓", 3),
    "kernel_psnr_shifted": ("kernel PSNR shifted", "↑", 1),
    "kernel_mnc": ("MNC", "↑", 3),
    "lr_psnr": ("LR-PSNR", "↑", 1),
    "residual_true_rms": ("residual, true kernel", "", 4),
    "residual_own_rms": ("residual, own kernel", "", 4),
    "noise_rms": ("noise", "", 4),
    "seconds": ("seconds", "", 2),
}


def _stem(column: str) -> str:
    return column.partition("_border")[0]


def title(column: str) -> str:
    name, way, _ = _STEMS[_stem(column)]
    return f"{name} {way}".strip()


def number(value: float | None, column: str) -> str:
    return "" if value is None else f"{value:.{_STEMS[_stem(column)][2]}f}"


def conventions(names: Sequence[str]) -> list[str]:
    """What each column means, for captions."""
    border = next(n for n in names if n.startswith("psnr_y")).rpartition("border")[2]
    return [
        f"PSNR-Y and SSIM-Y: luma of BT.601, {border} pixels of border left out; SSIM with a Gaussian window of 1.5",
        "PSNR-RGB: three channels, whole picture; shifted: after the best shift by up to 8 whole pixels, 8 inside",
        "LPIPS 0.1, VGG or Alex, whole picture; pictures are rounded to 8 bits first",
        "kernel L1: sum of absolute differences, 0 to 2; shifted: after the best shift by whole pixels; kernel PSNR: "
        "peak is the true kernel's largest value; MNC: maximum normalised cross-correlation",
        "LR-PSNR: the truth degraded with the estimated kernel against the truth degraded with its own",
        "residual: root mean square of y - A(x), x unrounded, to compare with that of noise and rounding",
        "FID: Inception's last pool, 2048 features; biased upwards where pictures are few",
        "means over all rows; seconds are restoring alone",
    ]
