"""How sure the draws are: how often the truth lies where they say it does, and what they should say. A Markdown table.

    python benchmarks/coverage.py photos/ blindsr_x4

Every ``--every``-th picture of the folder, its centre, degraded as the recipe does, seeded; ``--samples`` draws each.
Of each pixel and colour the 90 % interval is ``1.645`` times the uncertainty map to both sides of the mean: *inside* is
how much of the truth it holds. The next two columns are the root mean square of the mean's error and of the map. The
last one is what recipes name as ``draws``: the floor and the factor by which the map, in ten parts of equal size by how
far the draws lie apart, comes nearest to the error that 90 % stay below. It is asked for with ``--set "draws.floor=0
draws.factor=1"``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

import invdiff
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import psnr_y, rms

WIDTH, SHARE = 1.645, 0.9
"""A normal distribution has that share within so many standard deviations."""
PARTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipe")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument(
        "--set", action="append", default=[], dest="variants", help="changes, spaces between: a row each"
    )
    given = parser.parse_args()
    cleans = [load(path).to_degrade(4, given.side).pixels for path in list_pictures(given.folder)[:: given.every]]
    print(f"| {len(cleans)} pictures | PSNR-Y | inside | error of the mean | uncertainty | floor, factor |")
    print("|---|---|---|---|---|---|")
    for variant in given.variants or [""]:
        pipe = invdiff.load(given.recipe, overrides=variant.split())
        errors, maps, gains = [], [], []
        for clean in cleans:
            found = pipe.restore(pipe.synthesize(clean)[0], samples=given.samples)
            errors.append((found.image - clean).abs())
            maps.append(found.uncertainty.expand_as(clean))
            gains.append(psnr_y(found.image, clean, border=4))
        error, uncertainty = (torch.cat([x.flatten() for x in kept]) for kept in (errors, maps))
        inside = float((error <= WIDTH * uncertainty).double().mean())
        floor, factor = fitted(error, uncertainty)
        print(
            f"| {variant or 'as it is'} | {sum(gains) / len(gains):.2f} | {100 * inside:.0f} % | {rms(error):.4f} | "
            f"{rms(uncertainty):.4f} | {floor:.3f}, {factor:.2f} |",
            flush=True,
        )


def fitted(error: Tensor, deviation: Tensor) -> tuple[float, float]:
    """Least squares, relative, of ``sqrt(floor**2 + factor**2 * deviation**2)`` to what 90 % of each part's errors are
    below, in standard deviations."""
    parts = np.array_split(np.argsort(deviation.numpy()), PARTS)
    wanted = np.array([np.quantile(error.numpy()[part], SHARE) / WIDTH for part in parts]) ** 2
    seen = np.array([float(deviation[torch.from_numpy(part)].double().square().mean()) for part in parts])
    squares, _ = nnls(np.stack([np.ones(PARTS), seen], 1) / wanted[:, None], np.ones(PARTS))
    return float(squares[0] ** 0.5), float(squares[1] ** 0.5)


if __name__ == "__main__":
    main()
