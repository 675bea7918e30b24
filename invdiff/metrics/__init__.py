"""What a result is measured by."""

from .kernel import kernel_l1, kernel_l1_shifted, kernel_psnr_shifted, mnc
from .noise import noise_level
from .picture import inside, lr_psnr, luma, psnr_rgb, psnr_rgb_shifted, psnr_y, rms, round8, ssim_y

__all__ = [
    "inside",
    "kernel_l1",
    "kernel_l1_shifted",
    "kernel_psnr_shifted",
    "lr_psnr",
    "luma",
    "mnc",
    "noise_level",
    "psnr_rgb",
    "psnr_rgb_shifted",
    "psnr_y",
    "rms",
    "round8",
    "ssim_y",
]
