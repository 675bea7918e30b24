"""What becomes of photos that were hardly shaken, or not at all, and whether the report says so.

    python benchmarks/hardly_shaken.py photos/ deblur_ffhq

A corner of every ``--every``-th photo of the folder, if it is large enough, as it is and moved in a straight line of
some lengths, in a direction drawn by seed; noise of 1 %. Restored with the recipe as it is, and without its guidance
``still``. PSNR-RGB in dB after the best shift, means; how many come out worse than they went in, and of how many the
report says that they were hardly shaken. A Markdown table.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import invdiff
from invdiff.blur import blur
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_rgb_shifted
from invdiff_kernel_guidance.still import Still
from invdiff_motion.trajectory import light

SIDE, NOISE = 192, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipe")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--length", type=float, nargs="+", default=[0, 2, 3, 5, 9], help="of the lines, in pixels")
    given = parser.parse_args()
    pipe = invdiff.load(given.recipe)
    without = copy.copy(pipe)
    without.guidance = [guide for guide in pipe.guidance if not isinstance(guide, Still)]
    photos = [load(path).shown() for path in list_pictures(given.folder)[:: given.every]]
    photos = [x[:, :SIDE, :SIDE] for x in photos if min(x.shape[1:]) >= SIDE]
    print(f"| length, pixels | {len(photos)} photos | restored | worse | said | without `still` | worse | said |")
    print("|---|---|---|---|---|---|---|---|")
    for length in given.length:
        shaken = [moved(x, length, seed) for seed, x in enumerate(photos)]
        before = [psnr_rgb_shifted(y, x) for x, y in zip(photos, shaken, strict=True)]
        cells = [f"{length:g}", f"{mean(before):.2f}"]
        for solver in (pipe, without):
            results = [solver.restore(y) for y in shaken]
            after = [psnr_rgb_shifted(out.image, x) for x, out in zip(photos, results, strict=True)]
            worse = sum(a < b for b, a in zip(before, after, strict=True))
            said = sum("hardly any shake" in str(out.findings and out.findings.found) for out in results)
            cells += [f"{mean(after):.2f}", str(worse), str(said)]
        print("|", " | ".join(cells), "|", flush=True)


def moved(clean: Tensor, length: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y = blur(clean[None], line(length, math.pi * float(torch.rand((), generator=generator)))[None])[0]
    y = y + NOISE * torch.randn(y.shape, generator=generator)
    return (y.clamp(0, 1) * 255).round() / 255


def line(length: float, angle: float, side: int = 31) -> Tensor:
    """A kernel of a straight, even movement; of length 0 a point."""
    along = torch.linspace(-length / 2, length / 2, 501, dtype=torch.float64)
    places = along[:, None] * torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)
    found = light(places, torch.full_like(along, 1 / len(along)), side)
    assert found is not None  # a line of that length fits
    return found[0].float()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
