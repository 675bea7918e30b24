"""Real photos, whose truth nobody has, by two ways side by side: a sheet to look at.

    python benchmarks/real_photos.py realsrset/ blindsr_x4 --out sheet.png --only Lincoln --only comic1

A row a photo: its middle, enlarged by bicubic interpolation, by Real-ESRGAN, by the recipe, which may take its other
recipe as in ``invdiff run``, and by the same from a copy of half the size, shown as large. What was found is printed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import invdiff
from invdiff.blur import downsample_bicubic, upsample_bicubic
from invdiff.io.decoding import list_pictures, load
from invdiff.io.sheets import comparison
from invdiff.method import Case
from invdiff_baselines.realesrgan import RealESRGAN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=96, help="pixels of each photo, by each axis")
    parser.add_argument("--only", action="append", help="the photo of this name without its ending; repeatable")
    given = parser.parse_args()
    pipe, rival = invdiff.load(given.recipe), RealESRGAN()
    rows = []
    for path in list_pictures(given.folder):
        if given.only and path.stem not in given.only:
            continue
        whole = load(path)
        top, left = (max(0, (n - given.side) // 2) for n in whole.pixels.shape[-2:])
        y = whole.pixels[:, top : top + given.side, left : left + given.side]
        photo = replace(whole, pixels=y, alpha=None)
        found, halved = pipe.restore(photo), pipe.restore(photo.restored(downsample_bicubic(y[None], 2)[0]))
        print(f"{path.stem}: {'; '.join(found.findings.words.values()) if found.findings else ''}")
        theirs = rival.restore(Case(y, torch.ones(1, 1), pipe.degradation, 0.0)).image
        plain = upsample_bicubic(y[None], 4)[0].clamp(0, 1)
        twice = upsample_bicubic(halved.image.pixels[None], 2)[0].clamp(0, 1)
        rows.append(comparison([(image, None) for image in (plain, theirs, found.image.pixels, twice)]))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 8), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    Image.fromarray(np.concatenate(rows)).save(given.out)


if __name__ == "__main__":
    main()
