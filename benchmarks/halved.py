"""When a photo gains by being halved before it is restored, and when it loses: a Markdown table.

    python benchmarks/halved.py natural/ blindsr_x4_photo --every 112

Photos as people have them are often larger than what they show: centre crops of 192, blurred by a Gaussian, shrunk by 2
only, with soft noise or JPEG. Both ways give the crop's size again: restored x4 and shrunk exactly by 2, and halved
first, then restored x4. Gains over bicubic x2 in PSNR-Y, dB; in the last column how wide the first of them found the
blur, in pixels of its result.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import torch

import invdiff
from invdiff.blur import downsample_bicubic, upsample_bicubic
from invdiff.blur.spread import Spread
from invdiff.camera import Camera, through_jpeg
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_y, round8
from invdiff_blindsr.kernels import gaussian
from invdiff_blindsr.operator import BlindSR, BlindSRSettings

SIDE = 192
BLURS = (1.0, 2.0, 3.0)
CONDITIONS: dict[str, tuple[float, int | None]] = {
    "clean": (0.0, None),
    "noise .01": (0.01, None),
    "noise .04": (0.04, None),
    "JPEG 75": (0.0, 75),
    "noise .02, JPEG 50": (0.02, 50),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures, none of a test")
    parser.add_argument("recipe", help="for x4")
    parser.add_argument("--every", type=int, default=1, help="take each of so many pictures")
    given = parser.parse_args()
    pipe = invdiff.load(given.recipe)
    operator = BlindSR(BlindSRSettings(scale=2, quantize=False))
    truths = [load(path).to_degrade(4, SIDE).pixels for path in list_pictures(given.folder)[:: given.every]]
    ways = "restored, then shrunk | halved, then restored"
    print(f"| blur | photo | bicubic, dB | {ways} | width found |\n" + "|---" * 6 + "|")
    for blur in BLURS:
        kernel = gaussian(21, blur, blur).float()[None]
        for condition, (noise, quality) in CONDITIONS.items():
            camera = Camera(share=1, noise=(noise, noise), softness=(0.7, 0.7), quality=(100, 100))
            rows = []
            for number, truth in enumerate(truths):
                blurred = operator.apply(truth[None], kernel)[0]
                y = blurred + noise * camera.unit_noise(blurred, torch.Generator().manual_seed(number))
                y = round8(y)
                if quality is not None:
                    y = through_jpeg((255 * y).round().to(torch.uint8), quality, halved=True).float() / 255
                whole = pipe.restore(y)
                images = (
                    upsample_bicubic(y[None], 2)[0],
                    downsample_bicubic(whole.image[None], 2)[0],
                    pipe.restore(downsample_bicubic(y[None], 2)[0].clamp(0, 1)).image,
                )
                spread = Spread.of(whole.parameters)
                width = (spread.long * spread.short) ** 0.5
                rows.append([*(psnr_y(round8(image), truth, 4) for image in images), width])
            plain, *found, width = (mean(values) for values in zip(*rows, strict=True))
            gains = " | ".join(f"{each - plain:+.2f}" for each in found)
            print(f"| {blur:g} | {condition} | {plain:.2f} | {gains} | {width:.1f} |", flush=True)


if __name__ == "__main__":
    main()
