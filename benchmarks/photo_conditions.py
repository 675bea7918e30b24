"""What priors gain over bicubic under what happens to photos: noise and JPEG after the blur. A Markdown table.

    python benchmarks/photo_conditions.py set5/ blindsr_x4_s blindsr_x4_photo

Centre crops of 192 under the eight Gaussian8 kernels, shrunk by 4, then noise of that standard deviation on [0, 1] and
JPEG of that quality with colour halved; seeded. One step of each prior, nothing drawn. PSNR on the luma of BT.601,
4 pixels of border left out, means over all rows; in brackets the kernel's L1.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import invdiff
from invdiff.camera import through_jpeg
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import kernel_l1, psnr_y, round8
from invdiff_blindsr.kernels import gaussian
from invdiff_blindsr.operator import BlindSR, BlindSRSettings

SIDE = 192
SIGMAS = (1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2)
CONDITIONS: dict[str, tuple[float, int | None]] = {
    "clean": (0.0, None),
    "noise .01": (0.01, None),
    "noise .03": (0.03, None),
    "JPEG 90": (0.0, 90),
    "JPEG 75": (0.0, 75),
    "JPEG 60": (0.0, 60),
    "noise .01, JPEG 60": (0.01, 60),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("priors", nargs="+", help="weights, files or bundled names")
    given = parser.parse_args()
    operator = BlindSR(BlindSRSettings(quantize=False))
    sampler = invdiff.SamplerSettings(steps=1, temperature=0)
    pipes = {name: invdiff.Pipeline(operator, invdiff.load_prior(name), [], sampler) for name in given.priors}
    pictures = [load(path).to_degrade(4, SIDE).pixels for path in list_pictures(given.folder)]
    print("| after the blur | " + " | ".join(CONDITIONS) + " |\n" + "|---" * (len(CONDITIONS) + 1) + "|")
    lines: dict[str, list[str]] = {"bicubic (dB)": [], **{name: [] for name in pipes}}
    for noise, quality in CONDITIONS.values():
        base: list[float] = []
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in pipes}
        for number, clean in enumerate(pictures):
            for sigma in SIGMAS:
                kernel = gaussian(21, sigma, sigma).float()
                generator = torch.Generator().manual_seed(1000 * number + round(100 * sigma))
                y = photographed(operator.apply(clean[None], kernel[None])[0], noise, quality, generator)
                base.append(psnr_y(round8(operator.baseline(y[None])[0]), clean, 4))
                for name, pipe in pipes.items():
                    out = pipe.restore(y)
                    assert out.parameters is not None
                    found[name].append((psnr_y(round8(out.image), clean, 4), kernel_l1(out.parameters, kernel)))
        lines["bicubic (dB)"].append(f"{mean(base):.2f}")
        for name, rows in found.items():
            lines[name].append(f"{mean(r[0] for r in rows) - mean(base):+.2f} ({mean(r[1] for r in rows):.2f})")
    for name, cells in lines.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


def photographed(y: Tensor, noise: float, quality: int | None, generator: torch.Generator) -> Tensor:
    """A measurement as a file holds it."""
    pixels = ((y + noise * torch.randn(y.shape, generator=generator)).clamp(0, 1) * 255).round().to(torch.uint8)
    return (pixels if quality is None else through_jpeg(pixels, quality, halved=True)).float() / 255


if __name__ == "__main__":
    main()
