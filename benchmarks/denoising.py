"""How well a prior of any noise denoises: PSNR over all colours, beside total variation with the best of five weights.

    python benchmarks/denoising.py bsd100/ natural_s

White noise of 15, 25 and 50 of 255 is added, not clipped, as the field's tables have it. One evaluation of the prior.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

import invdiff
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_rgb

LEVELS = (15, 25, 50)
STRENGTHS = (0.5, 0.7, 1.0, 1.4, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("prior", help="bundled weights, or a file")
    parser.add_argument("--every", type=int, default=1, help="take each so many pictures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    prior = invdiff.load_prior(given.prior)
    files = list_pictures(given.folder)[:: given.every]
    print(f"| noise of 255, {len(files)} pictures | noisy | total variation | {given.prior} |\n|---|---|---|---|")
    for level in LEVELS:
        rows = []
        for i, path in enumerate(files):
            clean = load(path).to_degrade(1, None).pixels
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(i))
            noisy = clean + level / 255 * noise
            found = noisy, flat(noisy, clean, level / 255), denoised(prior, noisy, level / 255)
            rows.append([psnr_rgb(one, clean) for one in found])
        print(f"| {level} | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, 0)) + " |", flush=True)


def flat(noisy: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """Total variation's best."""
    found = [denoise_tv_chambolle(noisy.numpy(), weight=s * sigma, channel_axis=0) for s in STRENGTHS]
    return max(map(torch.from_numpy, found), key=lambda one: psnr_rgb(one, clean))


def denoised(prior: invdiff.PriorNet, noisy: Tensor, sigma: float) -> Tensor:
    """One evaluation at the schedule's nearest level."""
    low, high = prior.spec.value_range
    t = torch.tensor(prior.spec.schedule.nearest([(high - low) * sigma]))
    height, width = noisy.shape[-2:]
    room = (0, -width % prior.spec.multiple, 0, -height % prior.spec.multiple)
    x = prior.from_unit(torch.nn.functional.pad(noisy[None], room, mode="reflect"))
    with torch.no_grad():
        found = prior.predict(prior.spec.schedule.abar(t, x).sqrt() * x, t, x).x0
    return prior.to_unit(found)[0, :, :height, :width]


if __name__ == "__main__":
    main()
