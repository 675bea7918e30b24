"""What leaving clipped pixels out brings where a shaken photo has lamps, or whites brighter than it can hold.

    python benchmarks/clipped.py photos/ deblur_ffhq --every 97

Every ``--every``-th photo of the folder, its corner of 256, twice: with a bright tenth of up to four times what a photo
holds, and as a night of two fifths of the light with six lamps. Shakes as hands make them, noise of 1 %, 8 bits.
The recipe with clipped pixels left out and believed, told the kernel and blind. PSNR-RGB against what a photo holds of
the scene without a shake, after the best shift, mean over the photos. A Markdown table.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import invdiff
from invdiff.blur import blur
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_rgb_shifted, round8
from invdiff_motion.hand import Hand, hand_kernel

NOISE, SIDE = 0.01, 256
LAMP = torch.tensor([1.0, 0.9, 0.7])[:, None, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipe")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    place = next(i for i, each in enumerate(invdiff.load(given.recipe).guidance) if hasattr(each.settings, "clipped"))
    pipes = {
        how: invdiff.load(given.recipe, overrides=[f"guidance.{place}.clipped={how}"])
        for how in ("left_out", "believed")
    }
    photos = (load(path).shown() for path in list_pictures(given.folder)[given.every // 2 :: given.every])
    large = (x[:, :SIDE, :SIDE] for x in photos if min(x.shape[1:]) >= SIDE)
    found: dict[tuple[str, ...], list[float]] = {}
    for count, x in enumerate(islice(large, given.pictures)):
        for name, lit in (("whites", with_whites), ("lamps", with_lamps)):
            generator = torch.Generator().manual_seed(count)
            scene = lit(x, generator)
            kernel = hand_kernel(pipes["left_out"].degradation.parameters.shape[-1], Hand(share=1.0), generator).float()
            y = blur(scene[None], kernel[None])[0]
            y = ((y + NOISE * torch.randn(y.shape, generator=generator)).clamp(0, 1) * 255).round() / 255
            clean = scene.clamp(0, 1)
            found.setdefault((name, "shaken"), []).append(psnr_rgb_shifted(y, clean))
            for how, pipe in pipes.items():
                for told in (True, False):
                    image = pipe.restore(y, kernel=kernel if told else None).image
                    key = (name, "told" if told else "blind", how)
                    found.setdefault(key, []).append(psnr_rgb_shifted(round8(image), clean))
    print(
        "| | shaken | blind, believed | blind, left out | told, believed | told, left out |\n|---|---|---|---|---|---|"
    )
    for name in ("whites", "lamps"):
        keys = [("shaken",), *((told, how) for told in ("blind", "told") for how in ("believed", "left_out"))]
        print(f"| {name} | " + " | ".join(f"{mean(found[(name, *key)]):.2f}" for key in keys) + " |")


def with_whites(x: Tensor, generator: torch.Generator) -> Tensor:
    """The brightest tenth of ``x (3, h, w)`` as it may have been: the brighter, the further beyond the range."""
    grey = x.mean(0)
    least = torch.quantile(grey, 0.9)
    return x * (1 + 3 * ((grey - least) / (1 - least + 0.05)).clamp(0, 1))


def with_lamps(x: Tensor, generator: torch.Generator) -> Tensor:
    scene = 0.4 * x
    rows, cols = torch.meshgrid(torch.arange(x.shape[1]), torch.arange(x.shape[2]), indexing="ij")
    for _ in range(6):
        row, col = torch.randint(20, min(x.shape[1:]) - 20, (2,), generator=generator).tolist()
        size, light = torch.rand(2, generator=generator).tolist()
        lamp = (rows - row).square() + (cols - col).square() <= (1 + 2 * size) ** 2
        scene = scene + (3 + 12 * light) * lamp * LAMP
    return scene


if __name__ == "__main__":
    main()
