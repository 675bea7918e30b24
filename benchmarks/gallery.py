"""The gallery's compressed photos: as they came in, by Real-ESRGAN, by recipes, and the truth.

    python benchmarks/gallery.py blindsr_x4_photo blindsr_x4_vivid --out photos.jpg

Photos that come with scikit-image, so that everybody has them and may show them: their middle, degraded as the first
recipe does it, seeded. From the left: enlarged by bicubic interpolation, by Real-ESRGAN, by each recipe, and the truth;
the PSNR-Y of each is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import invdiff
from invdiff.io.pictures import sample_photo
from invdiff.io.sheets import comparison
from invdiff.method import Case
from invdiff.metrics import psnr_y
from invdiff_baselines.realesrgan import RealESRGAN

SAMPLES = ("coffee", "cat", "astronaut")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=256, help="pixels of each photo, by each axis")
    given = parser.parse_args()
    pipes, rival = [invdiff.load(recipe) for recipe in given.recipes], RealESRGAN()
    pipe = pipes[0]
    rows = []
    for name in SAMPLES:
        clean = sample_photo(name).to_degrade(pipe.degradation.scale, given.side).pixels
        y, theta = pipe.synthesize(clean)
        theirs = rival.restore(Case(y, theta, pipe.degradation, 0.0)).image
        plain = pipe.degradation.baseline(y[None])[0].clamp(0, 1)
        images = (plain, theirs, *(each.restore(y).image for each in pipes), clean)
        print(f"{name}: " + " / ".join(f"{psnr_y(image, clean, border=4):.2f}" for image in images[:-1]))
        rows.append(
            np.pad(comparison([(image, None) for image in images]), ((0, 8), (0, 0), (0, 0)), constant_values=255)
        )
    Image.fromarray(np.concatenate(rows)[:-8]).save(given.out, quality=92)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
