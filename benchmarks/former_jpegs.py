"""How often the pixels of a picture tell that it was a JPEG, and of which quality: a Markdown table.

    python benchmarks/former_jpegs.py photos/ --every 10

Photos shrunk by 2, in which no JPEG is left any more; their upper left, as it is or as a JPEG that Pillow wrote, with
up to 15 rows and columns cut off, as screenshots and crops are; seeded. Lines: the quality, colour halved in every
second photo. Columns, by the side of what is left: how many are found, and how far off the quality is in the mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from invdiff.blur import downsample_bicubic
from invdiff.camera import through_jpeg
from invdiff.io.decoding import list_pictures, load
from invdiff.io.former_jpeg import former_jpeg

SIDES = (48, 64, 96)
QUALITIES = (None, 98, 97, 95, 90, 85, 75, 60, 40, 20)
MOST = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="pictures with sides of at least 222 pixels")
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    scenes = [shrunk(load(path).pixels) for path in list_pictures(given.folder)[:: given.every]]
    print(f"| {len(scenes)} photos |", " | ".join(f"{side}x{side} | off by" for side in SIDES), "|")
    print("|---" * (1 + 2 * len(SIDES)) + "|")
    for quality in QUALITIES:
        print(f"| {quality or 'no JPEG'} |", " | ".join(cell(scenes, quality, side) for side in SIDES), "|", flush=True)


def shrunk(pixels: Tensor) -> Tensor:
    """By 2, as uint8 ``(3, h, w)``."""
    height, width = (n // 2 * 2 for n in pixels.shape[-2:])
    return (downsample_bicubic(pixels[None, :, :height, :width], 2)[0].clamp(0, 1) * 255).round().to(torch.uint8)


def cell(scenes: list[Tensor], quality: int | None, side: int) -> str:
    found = []
    for index, scene in enumerate(scenes):
        top, left = torch.randint(MOST + 1, (2,), generator=torch.Generator().manual_seed(index)).tolist()
        window = scene[:, : side + top, : side + left]
        if quality is not None:
            window = through_jpeg(window, quality, halved=index % 2 == 0).to(torch.uint8)
        found.append(former_jpeg(window[:, top:, left:].float() / 255))
    told = [jpeg for jpeg in found if jpeg is not None]
    off = "" if quality is None or not told else f"{mean(abs(jpeg.quality - quality) for jpeg in told):.1f}"
    return f"{100 * len(told) / len(scenes):.0f} % | {off}"


if __name__ == "__main__":
    main()
