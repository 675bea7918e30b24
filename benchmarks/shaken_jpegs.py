"""What it is worth that a shaken photo's own file says how it was compressed.

    python benchmarks/shaken_jpegs.py photos/ deblur_ffhq

Every ``--every``-th photo of the folder that is large enough, its centre, under a shake as drawn and one as a hand
makes it, noise of 1 %, JPEG as Pillow writes it; seeded. Restored as a JPEG, and as a tensor of the same pixels, of
which nobody says that they were one. PSNR-RGB in dB after the best shift, means; a Markdown table.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import invdiff
from invdiff.blur import blur
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_rgb_shifted
from invdiff_motion.hand import Hand, hand_kernel
from invdiff_motion.trajectory import motion_kernel

SIDE, NOISE = 256, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipe")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--quality", type=int, nargs="+", default=[90, 75, 50])
    given = parser.parse_args()
    pipe = invdiff.load(given.recipe)
    photos = [load(path).shown() for path in list_pictures(given.folder)[:: given.every]]
    photos = [centre(x) for x in photos if min(x.shape[1:]) >= SIDE]
    print(f"| quality | {2 * len(photos)} shaken photos | blind, tensor | blind, JPEG | told, tensor | told, JPEG |")
    print("|---|---|---|---|---|---|")
    for quality in given.quality:
        rows = [row(pipe, x, kernel, quality, i) for i, x in enumerate(photos) for kernel in shakes(i)]
        print(f"| {quality} |", " | ".join(f"{mean(column):.2f}" for column in zip(*rows, strict=True)), "|")


def centre(x: Tensor) -> Tensor:
    top, left = ((n - SIDE) // 2 for n in x.shape[-2:])
    return x[:, top : top + SIDE, left : left + SIDE]


def shakes(index: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(index)
    return [motion_kernel(31, 0.5, generator)[0].float(), hand_kernel(31, Hand(span=(9.0, 24.0)), generator).float()]


def row(pipe: invdiff.Pipeline, clean: Tensor, kernel: Tensor, quality: int, seed: int) -> list[float]:
    """PSNR of the shaken photo and of four results."""
    y = blur(clean[None], kernel[None])[0]
    y = y + NOISE * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    pixels = (y.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    file = Image.open(buffer)
    bare = tensor(file)
    results = [pipe.restore(photo, kernel=k).image for k in (None, kernel.numpy()) for photo in (bare, file)]
    return [psnr_rgb_shifted(tensor(image), clean) for image in (bare, *results)]


def tensor(image: Image.Image | Tensor) -> Tensor:
    """``(3, h, w)`` in [0, 1] of what one is given back."""
    if isinstance(image, Tensor):
        return image
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
