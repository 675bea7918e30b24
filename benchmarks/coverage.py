"""How sure the draws are: how often the truth lies in the interval that several draws give. A Markdown table.

    python benchmarks/coverage.py photos/ blindsr_x4

The first pictures of the folder (every ``--every``-th, centre crops of ``--side``), blurred as the recipe draws it,
shrunk by 4, rounded; seeded. Of each pixel and colour the 90 % interval of Student's t for one more draw, ``mean +-
t(n - 1) s sqrt(1 + 1 / n)``, with ``s`` from the uncertainty map: where draws are as far from the truth as from each
other, about 90 % of it lies inside. The last columns are the root mean square of the mean's error and of ``s sqrt(1 +
1 / n)``: equal where the draws are right on average.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from scipy.stats import t as student

import invdiff
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import rms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipe")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument(
        "--set", action="append", default=[], dest="variants", help="changes, spaces between: a row each"
    )
    given = parser.parse_args()
    paths = list_pictures(given.folder)[:: given.every][: given.pictures]
    cleans = [load(path).to_degrade(4, given.side).pixels for path in paths]
    width = float(student.ppf(0.95, given.samples - 1))
    print("| settings | inside | error of the mean | deviation of the draws |\n|---|---|---|---|")
    for variant in given.variants or ["sampler.temperature=1"]:
        pipe = invdiff.load(given.recipe, overrides=variant.split())
        inside, errors, deviations = [], [], []
        for clean in cleans:
            y, _ = pipe.synthesize(clean)
            found = pipe.restore(y, samples=given.samples)
            error = (found.image - clean).abs()
            deviation = found.uncertainty.expand_as(error) * (1 + 1 / given.samples) ** 0.5
            inside.append((error <= width * deviation).float().mean())
            errors.append(error)
            deviations.append(deviation)
        share = 100 * float(torch.stack(inside).mean())
        print(
            f"| {variant} | {share:.0f} % | {rms(torch.stack(errors)):.4f} | {rms(torch.stack(deviations)):.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
