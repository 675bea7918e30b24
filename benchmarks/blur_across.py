"""How often a deblurring's report says that the blur differs across the picture, where it does and where it does not.

    python benchmarks/blur_across.py photos/ deblur_ffhq

Every ``--every``-th photo of the folder that is wide enough for two windows: its left and its right end with a wall
between them, under shakes as hands make them, noise of 1 %; once both under one shake, once each under its own; seeded.
A Markdown table.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import invdiff
from invdiff.blur import blur
from invdiff.guidance import Problem
from invdiff.io.decoding import list_pictures, load
from invdiff_motion.hand import Hand, hand_kernel

NOISE = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipe")
    parser.add_argument("--pictures", type=int, default=14)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--window", type=int, default=184)
    given = parser.parse_args()
    pipe = invdiff.load(given.recipe, overrides=[f"guidance.0.window={given.window}"])
    photos = (load(path).shown() for path in list_pictures(given.folder)[:: given.every])
    wide = (x for x in photos if min(x.shape[1:]) >= given.window and x.shape[2] >= 2 * given.window)
    said = {"one shake": 0, "two shakes": 0}
    count = 0
    for count, x in enumerate(islice(wide, given.pictures), 1):
        generator = torch.Generator().manual_seed(count)
        size = pipe.degradation.parameters.shape[-1]
        kernels = [hand_kernel(size, Hand(share=1.0), generator).float() for _ in range(2)]
        ends = x[:, :, : given.window], x[:, :, -given.window :]
        for name, shakes in zip(said, ([kernels[0]] * 2, kernels), strict=True):
            left, right = (shaken(end, k, generator) for end, k in zip(ends, shakes, strict=True))
            wall = left.mean((1, 2), keepdim=True).expand_as(left)  # so that each window lies in one end
            y = torch.cat([left, wall, right], dim=-1)
            problem = Problem(y[None].to(pipe.device), pipe.degradation, pipe.prior)
            pipe.guidance[0].begin(problem, None)
            said[name] += "differs across the picture" in problem.remarks[0]
    print("| the two ends of a photo | photos | told that the blur differs |\n|---|---|---|")
    for name, times in said.items():
        print(f"| {name} | {count} | {times} |")


def shaken(clean: Tensor, kernel: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred, noisy, and rounded to 8 bits."""
    y = blur(clean[None], kernel[None])[0]
    return ((y + NOISE * torch.randn(y.shape, generator=generator)).clamp(0, 1) * 255).round() / 255


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
