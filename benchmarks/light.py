"""What it brings to restore in linear light, on pictures blurred in it and on pictures blurred as encoded. Markdown.

    python benchmarks/light.py photos/ deblur_ffhq

Centre crops of a few photos of the folder (every ``--every``-th), blurred by shakes as a hand makes them (where the
recipe's operator knows such, or else as it draws its kernels), then noise and rounding as the operator has them, all
seeded. PSNR-RGB, mean over the photos, blind and told the kernel.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import torch

import invdiff
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_rgb
from invdiff.seeds import Stream, content_of, stream

LIGHTS = ("linear", "encoded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipe")
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--set", action="append", default=[], dest="changes", help="a change to the recipe")
    given = parser.parse_args()
    pipes = {light: loaded(given.recipe, [*given.changes, f"degradation.light={light}"]) for light in LIGHTS}
    cleans = [
        load(path).to_degrade(pipes["linear"].degradation.scale, given.side).pixels
        for path in list_pictures(given.folder)[:: given.every][: given.pictures]
    ]
    print("| blurred | as it is | restored as | blind | told the kernel |\n|---|---|---|---|---|")
    for blurred in LIGHTS:
        operator = pipes[blurred].degradation
        cases = []
        for clean in cleans:
            y, kernel = operator.degrade(clean[None], stream(0, Stream.SYNTHESIS, *content_of(clean)))
            cases.append((clean, y[0], kernel[0]))
        before = mean(psnr_rgb(operator.baseline(y[None])[0], clean) for clean, y, _ in cases)
        for light in LIGHTS:
            restore = pipes[light].restore
            blind = mean(psnr_rgb(restore(y).image, clean) for clean, y, _ in cases)
            told = mean(psnr_rgb(restore(y, kernel=kernel).image, clean) for clean, y, kernel in cases)
            print(f"| {blurred} | {before:.2f} | {light} | {blind:.2f} | {told:.2f} |", flush=True)


def loaded(recipe: str, changes: list[str]) -> invdiff.Pipeline:
    """The recipe, its operator drawing shakes as a hand makes them if it can."""
    try:
        return invdiff.load(recipe, overrides=[*changes, "degradation.hand.share=1.0"], device="cpu")
    except invdiff.InvdiffError:
        return invdiff.load(recipe, overrides=changes, device="cpu")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
