"""From which noise and which JPEG quality on a photo's prior is the better one: three Markdown tables.

    python benchmarks/photo_choice.py natural/ blindsr_x4_s blindsr_x4_photo --every 112

Centre crops of 192, blurred by three widths, shrunk by 4, then noise or JPEG as in photo_conditions.py, or grain, the
same noise in all colours; seeded. One step of each prior, nothing drawn; gains over bicubic in PSNR-Y. The first table
has a line a condition, and what is estimated from the small picture alone: the noise of its colours and that of all
fine detail. The others say what choosing by these gives, the third where colours show nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, quantiles

import torch
from photo_conditions import SIDE, photographed

import invdiff
from invdiff.io.atomic import write_atomic
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_y, round8
from invdiff.metrics.noise import colour_noise, noise_level
from invdiff_blindsr.kernels import gaussian
from invdiff_blindsr.operator import BlindSR, BlindSRSettings

SIGMAS = (0.8, 2.0, 3.2)
NOISES = (0.0, 0.0025, 0.005, 0.0075, 0.01)
QUALITIES = (98, 95, 90, 85, 75)
GRAINS = (0.01, 0.02, 0.04)
THRESHOLDS = (0.0, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.02, 1.0)
COLOURS = 0.006
"""The noise of colours that the recipe takes the photo's prior from; its grain is asked for below it."""
DETAILS = (0.0, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 1.0)


@dataclass(frozen=True)
class Row:
    """One small picture: how it was made, the noise that it seems to have, and what the two priors gain."""

    noise: float
    quality: int | None
    grain: float
    sigma: float
    seen: float
    detail: float
    clean: float
    photo: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures, none of a test")
    parser.add_argument("clean", help="weights for clean photos, a file or a bundled name")
    parser.add_argument("photo", help="weights for noisy and compressed ones")
    parser.add_argument("--every", type=int, default=1, help="take each of so many pictures")
    parser.add_argument("--rows", type=Path, help="file for every row, as CSV")
    given = parser.parse_args()
    rows = list(measured(list_pictures(given.folder)[:: given.every], given.clean, given.photo))
    if given.rows is not None:
        lines = ["noise,quality,grain,sigma,seen,detail,clean,photo"]
        lines += [
            f"{r.noise},{r.quality or ''},{r.grain},{r.sigma},{r.seen:.5f},{r.detail:.5f},{r.clean:.3f},{r.photo:.3f}"
            for r in rows
        ]
        write_atomic(given.rows, "\n".join(lines) + "\n")
    by_condition(rows)
    whole = [row for row in rows if row.quality is None]
    by_threshold("noise", [row for row in whole if not row.grain], lambda row: row.seen, THRESHOLDS)
    by_threshold("grain", [row for row in whole if row.seen < COLOURS], lambda row: row.detail, DETAILS)


def measured(paths: Sequence[Path], clean: str, photo: str) -> Iterator[Row]:
    operator = BlindSR(BlindSRSettings(quantize=False))
    sampler = invdiff.SamplerSettings(steps=1, temperature=0)
    pipes = [invdiff.Pipeline(operator, invdiff.load_prior(name), [], sampler) for name in (clean, photo)]
    conditions: list[tuple[float, int | None, float]] = [(noise, None, 0.0) for noise in NOISES]
    conditions += [(0.0, quality, 0.0) for quality in QUALITIES] + [(0.0, None, grain) for grain in GRAINS]
    for number, path in enumerate(paths):
        truth = load(path).to_degrade(4, SIDE).pixels
        for sigma in SIGMAS:
            kernel = gaussian(21, sigma, sigma).float()
            small = operator.apply(truth[None], kernel[None])[0]
            for noise, quality, grain in conditions:
                generator = torch.Generator().manual_seed(1000 * number + round(100 * sigma))
                grey = grain * torch.randn(small.shape[1:], generator=generator) if grain else 0.0
                y = photographed(small + grey, noise, quality, generator)
                base = psnr_y(round8(operator.baseline(y[None])[0]), truth, 4)
                gains = [psnr_y(round8(pipe.restore(y).image), truth, 4) - base for pipe in pipes]
                yield Row(noise, quality, grain, sigma, colour_noise(y), float(noise_level(y[None])), *gains)


def by_condition(rows: Sequence[Row]) -> None:
    print(
        "| after the blur | noise of colours | of all fine detail | clean prior | photo prior | photo prior better in |"
    )
    print("|---" * 6 + "|")
    for noise, quality, grain in dict.fromkeys((row.noise, row.quality, row.grain) for row in rows):
        these = [row for row in rows if (row.noise, row.quality, row.grain) == (noise, quality, grain)]
        what = f"grain {100 * grain:g} %" if grain else f"noise {100 * noise:g} %" if noise else "nothing"
        what = f"JPEG {quality}" if quality else what
        seen, detail = (spread([get(row) for row in these]) for get in (lambda r: r.seen, lambda r: r.detail))
        better = sum(row.photo > row.clean for row in these) / len(these)
        gains = " | ".join(f"{mean(values):+.2f}" for values in zip(*((r.clean, r.photo) for r in these), strict=True))
        print(f"| {what} | {seen} | {detail} | {gains} | {100 * better:.0f} % |")


def spread(values: Sequence[float]) -> str:
    """From the tenth to the ninetieth of a hundred, in percent."""
    tenths = quantiles([100 * value for value in values], n=10)
    return f"{tenths[0]:.1f} to {tenths[-1]:.1f} %"


def by_threshold(what: str, rows: Sequence[Row], seen: Callable[[Row], float], thresholds: Sequence[float]) -> None:
    print(
        f"\n| photo prior from a {what} of | mean gain | of those without any | taken for such |\n" + "|---" * 4 + "|"
    )
    for threshold in thresholds:
        gains = [(row.photo if seen(row) >= threshold else row.clean, row) for row in rows]
        without = [(gain, row) for gain, row in gains if not row.noise and not row.grain]
        taken = mean(seen(row) >= threshold for _, row in without)
        shown = {0.0: "always", 1.0: "never"}.get(threshold, f"{100 * threshold:g} %")
        cells = f"{mean(gain for gain, _ in gains):+.2f} | {mean(gain for gain, _ in without):+.2f}"
        print(f"| {shown} | {cells} | {100 * taken:.0f} % |")


if __name__ == "__main__":
    main()
