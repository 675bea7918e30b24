"""From which noise and which JPEG quality on a photo's prior is the better one: two Markdown tables.

    python benchmarks/photo_choice.py natural/ blindsr_x4_s blindsr_x4_photo --every 112

Centre crops of 192, blurred by three widths, shrunk by 4, then noise or JPEG as in photo_conditions.py; seeded. One
step of each prior, nothing drawn; gains over bicubic in PSNR-Y. The first table has a line a condition, and the noise
that is estimated from the small picture alone; the second says what choosing by that estimate gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, quantiles

import torch
from photo_conditions import SIDE, photographed

import invdiff
from invdiff.io.atomic import write_atomic
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_y, round8
from invdiff.metrics.noise import colour_noise
from invdiff_blindsr.kernels import gaussian
from invdiff_blindsr.operator import BlindSR, BlindSRSettings

SIGMAS = (0.8, 2.0, 3.2)
NOISES = (0.0, 0.0025, 0.005, 0.0075, 0.01)
QUALITIES = (98, 95, 90, 85, 75)
THRESHOLDS = (0.0, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.02, 1.0)


@dataclass(frozen=True)
class Row:
    """One small picture: how it was made, the noise that it seems to have, and what the two priors gain."""

    noise: float
    quality: int | None
    sigma: float
    seen: float
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
        lines = ["noise,quality,sigma,seen,clean,photo"]
        lines += [f"{r.noise},{r.quality or ''},{r.sigma},{r.seen:.5f},{r.clean:.3f},{r.photo:.3f}" for r in rows]
        write_atomic(given.rows, "\n".join(lines) + "\n")
    by_condition(rows)
    by_threshold([row for row in rows if row.quality is None])


def measured(paths: Sequence[Path], clean: str, photo: str) -> Iterator[Row]:
    operator = BlindSR(BlindSRSettings(quantize=False))
    sampler = invdiff.SamplerSettings(steps=1, temperature=0)
    pipes = [invdiff.Pipeline(operator, invdiff.load_prior(name), [], sampler) for name in (clean, photo)]
    conditions = [(noise, None) for noise in NOISES] + [(0.0, quality) for quality in QUALITIES]
    for number, path in enumerate(paths):
        truth = load(path).to_degrade(4, SIDE).pixels
        for sigma in SIGMAS:
            kernel = gaussian(21, sigma, sigma).float()
            small = operator.apply(truth[None], kernel[None])[0]
            for noise, quality in conditions:
                generator = torch.Generator().manual_seed(1000 * number + round(100 * sigma))
                y = photographed(small, noise, quality, generator)
                base = psnr_y(round8(operator.baseline(y[None])[0]), truth, 4)
                gains = [psnr_y(round8(pipe.restore(y).image), truth, 4) - base for pipe in pipes]
                yield Row(noise, quality, sigma, colour_noise(y), *gains)


def by_condition(rows: Sequence[Row]) -> None:
    print("| after the blur | noise seen, 10 to 90 % | clean prior | photo prior | photo prior better in |")
    print("|---" * 5 + "|")
    for noise, quality in dict.fromkeys((row.noise, row.quality) for row in rows):
        these = [row for row in rows if (row.noise, row.quality) == (noise, quality)]
        what = f"JPEG {quality}" if quality else f"noise {100 * noise:g} %" if noise else "nothing"
        tenths = quantiles([100 * row.seen for row in these], n=10)
        better = sum(row.photo > row.clean for row in these) / len(these)
        gains = " | ".join(f"{mean(values):+.2f}" for values in zip(*((r.clean, r.photo) for r in these), strict=True))
        print(f"| {what} | {tenths[0]:.1f} to {tenths[-1]:.1f} % | {gains} | {100 * better:.0f} % |")


def by_threshold(rows: Sequence[Row]) -> None:
    print(
        "\n| photo prior from a noise of | mean gain | of those without noise | taken for noisy |\n" + "|---" * 4 + "|"
    )
    for threshold in THRESHOLDS:
        gains = [(row.photo if row.seen >= threshold else row.clean, row) for row in rows]
        none = [gain for gain, row in gains if not row.noise]
        taken = mean(row.seen >= threshold for row in rows if not row.noise)
        what = {0.0: "always", 1.0: "never"}.get(threshold, f"{100 * threshold:g} %")
        print(f"| {what} | {mean(gain for gain, _ in gains):+.2f} | {mean(none):+.2f} | {100 * taken:.0f} % |")


if __name__ == "__main__":
    main()
