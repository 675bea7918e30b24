"""What restoring gains over bicubic on dark pictures, in their own range and in [0, 1]. A Markdown table.

    python benchmarks/dark_pictures.py photos/ blindsr_x4

Centre crops of 128 of a few photos of the folder (every ``--every``-th), darkened, blurred as the recipe draws it,
shrunk by 4, rounded to 8 bits; seeded. Gain: PSNR on the luma of BT.601, unrounded, 4 pixels of border left out, of the
result over that of bicubic, mean over the photos. The first is the loop by itself on the photo as it is, the second
what a pipeline does with it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import invdiff
from invdiff.guidance import Problem
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_y
from invdiff.sampler import sample
from invdiff.seeds import Stream, content_of, stream

LIGHTS = (1.0, 1 / 4, 1 / 10, 1 / 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="changes", help="a change to the recipes")
    given = parser.parse_args()
    paths = list_pictures(given.folder)[:: given.every][: given.pictures]
    cleans = [load(path).to_degrade(4, 128).pixels for path in paths]
    print("| recipe | brightness | gain in [0, 1], dB | gain in its own range, dB |\n|---|---|---|---|")
    for name in given.recipes:
        pipe = invdiff.load(name, overrides=given.changes)
        for light in LIGHTS:
            gains = [gains_of(pipe, light * clean) for clean in cleans]
            alone, own = (mean(column) for column in zip(*gains, strict=True))
            print(f"| {name} | {light:.3g} | {alone:+.2f} | {own:+.2f} |", flush=True)


def gains_of(pipe: invdiff.Pipeline, clean: Tensor) -> tuple[float, float]:
    """In dB over bicubic: of the loop by itself, and of the pipeline."""
    y, _ = pipe.synthesize(clean)
    problem = Problem(y[None].to(pipe.device), pipe.degradation, pipe.prior, pipe.guidance)
    key = (pipe.seed, Stream.SAMPLING, *content_of(y))
    alone = sample(problem, pipe.sampler, [stream(*key)]).x0[0].clamp(0, 1).cpu()
    bicubic = psnr_y(pipe.degradation.baseline(y[None])[0], clean, 4)
    return psnr_y(alone, clean, 4) - bicubic, psnr_y(pipe.restore(y).image, clean, 4) - bicubic


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
