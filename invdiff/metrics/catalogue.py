"""Every metric by the name that it has everywhere: what it is called, which way is better, and by which convention.

``report.json``, ``results.csv``, the terminal, the tables and the page take their words from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One metric. ``meaning`` is what it says, for whoever meets the word for the first time; ``convention`` how it is
    computed, where ``{border}`` stands for the pixels that luma metrics leave out."""

    name: str
    title: str
    better: Literal["higher", "lower", "neither"]
    digits: int
    meaning: str
    convention: str
    unit: str = ""

    @property
    def heading(self) -> str:
        """The title with an arrow that says which way is better."""
        return f"{self.title} {_ARROWS[self.better]}".strip()

    @property
    def heading_with_unit(self) -> str:
        """The title with its unit, in letters that any terminal has."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def explained(self, border: int) -> str:
        """What it says and how it is computed."""
        return f"{self.meaning} ({self.convention.format(border=border)})"

    def number(self, value: float | None) -> str:
        """A value as tables write it; nothing for none."""
        return "" if value is None else f"{value:.{self.digits}f}"


_ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
_LUMA = "luma of BT.601, {border} pixels of border left out, 8-bit output"
_LPIPS = "version 0.1, whole picture, 8-bit output"
_SHIFT = "after the best shift by whole pixels"

METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "psnr_y",
            "PSNR-Y",
            "higher",
            2,
            "how near the brightness is to the truth's: 6 dB more is half the error",
            _LUMA,
            "dB",
        ),
        Metric(
            "psnr_rgb",
            "PSNR-RGB",
            "higher",
            2,
            "how near the colours are to the truth's: 6 dB more is half the error",
            "three channels, whole picture, 8-bit output",
            "dB",
        ),
        Metric(
            "psnr_rgb_shifted",
            "PSNR-RGB, shifted",
            "higher",
            2,
            "how near the colours are to the truth's, wherever the picture as a whole has moved",
            f"{_SHIFT}, 8 at most, 8 inside the border",
            "dB",
        ),
        Metric(
            "ssim_y",
            "SSIM-Y",
            "higher",
            4,
            "how alike the structure is to the truth's, from 0 to 1 for the truth itself",
            f"{_LUMA}; a Gaussian window of 1.5 pixels",
        ),
        Metric(
            "lpips_vgg",
            "LPIPS-VGG",
            "lower",
            4,
            "how different it looks from the truth, as a network fitted to people's judgement sees it; 0 is the same",
            _LPIPS,
        ),
        Metric(
            "lpips_alex",
            "LPIPS-Alex",
            "lower",
            4,
            "how different it looks from the truth, as a smaller such network sees it; 0 is the same",
            _LPIPS,
        ),
        Metric(
            "niqe",
            "NIQE",
            "lower",
            3,
            "how unnatural it looks by itself, whatever the truth is: photos have about 2 to 6, noise and blur more",
            "BasicSR's conventions, luma of BT.601 in whole blocks of 96 pixels, 8-bit output; none below two blocks",
        ),
        Metric(
            "kernel_l1",
            "kernel L1",
            "lower",
            3,
            "how far the estimated kernel is from the true one: 0 the same, 2 nothing in common",
            "sum of absolute differences of kernels of unit sum, 0 to 2",
        ),
        Metric(
            "kernel_l1_shifted",
            "kernel L1, shifted",
            "lower",
            3,
            "how far the estimated kernel is from the true one, wherever it stands: 0 the same, 2 nothing in common",
            f"the same {_SHIFT}",
        ),
        Metric(
            "kernel_psnr_shifted",
            "kernel PSNR, shifted",
            "higher",
            1,
            "how near the estimated kernel is to the true one, as a picture",
            f"{_SHIFT}; the peak is the true kernel's largest value",
            "dB",
        ),
        Metric(
            "kernel_mnc",
            "MNC",
            "higher",
            3,
            "how alike the two kernels are in shape, 1 for the same, wherever they stand",
            "maximum normalised cross-correlation of the kernels",
        ),
        Metric(
            "lr_psnr",
            "LR-PSNR",
            "higher",
            1,
            "whether the estimated kernel and the true one make the same photo of the true picture",
            "the truth degraded with the estimated kernel against the truth degraded with its own",
            "dB",
        ),
        Metric(
            "residual_true_rms",
            "residual, true kernel",
            "neither",
            4,
            "what of the photo the result leaves unexplained, with the true kernel: as much as the noise is right",
            "root mean square of y - A(x), x unrounded, to compare with that of noise and rounding",
        ),
        Metric(
            "residual_own_rms",
            "residual, own kernel",
            "neither",
            4,
            "what of the photo the result leaves unexplained, with its own kernel: as much as the noise is right",
            "root mean square of y - A(x) with the estimated kernel, x unrounded",
        ),
        Metric(
            "noise_rms",
            "noise",
            "neither",
            4,
            "how large the noise in the photo is: a residual much below it has fitted the noise",
            "root mean square of noise and rounding, as made",
        ),
        Metric("seconds", "seconds", "neither", 2, "how long it took", "restoring alone"),
    )
}
"""Every metric of one result, in the order of tables."""

FID = Metric(
    "fid",
    "FID",
    "lower",
    2,
    "how different all the pictures together are from natural ones, to a network; 0 for the true ones",
    "Inception's last pool, 2048 features; biased upwards where pictures are few",
)
"""Of a method's pictures together, not of one."""

RESIDUAL = Metric(
    "residual",
    "residual",
    "neither",
    4,
    "what of the photo the result leaves unexplained: 0.0039 is one level of 255; as much as the noise is right",
    "root mean square of y - A(x) on [0, 1], with the parameters it was restored with",
)
"""Of a run, where no truth is known."""


def title(name: str) -> str:
    """A column's heading in a table."""
    return METRICS[name].heading


def number(value: float | None, name: str) -> str:
    """A value with its metric's digits; nothing for none."""
    return METRICS[name].number(value)


def conventions(names: Iterable[str], border: int) -> dict[str, str]:
    """What each of those metrics means, by name."""
    return {name: METRICS[name].convention.format(border=border) for name in names}


def captions(names: Iterable[str], border: int, *, fid: bool = False) -> list[str]:
    """A line for each convention, with the titles of the metrics that follow it."""
    lines: dict[str, list[str]] = {}
    for name, convention in conventions(names, border).items():
        lines.setdefault(convention, []).append(METRICS[name].title)
    if fid:
        lines[FID.convention] = [FID.title]
    return [f"{', '.join(titles)}: {convention}" for convention, titles in lines.items()] + ["means over all rows"]
