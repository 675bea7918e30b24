"""What a recipe's own pace, its faster and its better one come to, and other numbers of steps: a Markdown table.

    python benchmarks/paces.py blindsr_x4 natural/ faces/ --every 140 --lpips lpips/

Centre crops of 160 of every so many of each folder's photos, none of a test, degraded as the recipe draws it. Means
over all of them, and seconds of one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean

import torch

import invdiff
from invdiff.io.decoding import list_pictures, load
from invdiff.metrics import kernel_l1, psnr_y, round8
from invdiff.metrics.lpips import LPIPS

SIDE = 160
STEPS = (1, 3, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("folders", nargs="+", type=Path, help="clean pictures")
    parser.add_argument("--every", type=int, default=1, help="take each of so many pictures")
    parser.add_argument("--lpips", type=Path, required=True, help="folder with LPIPS weights")
    given = parser.parse_args()
    torch.set_num_threads(1)
    ways = {"the recipe": invdiff.load(given.recipe)}
    ways |= {f"`--{pace}`": invdiff.load(given.recipe, pace=pace) for pace in ("fast", "best")}
    ways |= {f"steps: {n}": invdiff.load(given.recipe, overrides=[f"sampler.steps={n}"]) for n in STEPS}
    recipe = ways["the recipe"]
    distances = [LPIPS(given.lpips, network) for network in ("vgg", "alex")]
    found: dict[str, list[list[float]]] = {"bicubic": [], **{name: [] for name in ways}}
    for folder in given.folders:
        for path in list_pictures(folder, recursive=True)[:: given.every]:
            clean = load(path).to_degrade(recipe.degradation.scale, SIDE).pixels
            y, kernel = recipe.synthesize(clean)

            def row(image: torch.Tensor, clean: torch.Tensor = clean) -> list[float]:
                shown = round8(image)
                perceived = [float(distance.distances(shown[None], clean[None])) for distance in distances]
                return [psnr_y(shown, clean, recipe.degradation.scale), *perceived]

            found["bicubic"].append(row(recipe.degradation.baseline(y[None])[0]))
            for name, pipe in ways.items():
                begun = time.process_time()
                out = pipe.restore(y)
                seconds = time.process_time() - begun
                found[name].append([*row(out.image), kernel_l1(out.parameters, kernel), seconds])
    print("| way | PSNR-Y | LPIPS-VGG | LPIPS-Alex | kernel L1 | seconds |\n" + "|---" * 6 + "|")
    for name, rows in found.items():
        means = [mean(values) for values in zip(*rows, strict=True)]
        cells = [f"{value:.{digits}f}" for value, digits in zip(means, (2, 3, 3, 3, 2), strict=False)]
        print(f"| {name} | " + " | ".join([*cells, *[""] * (5 - len(cells))]) + " |")
    print(f"\n{len(found['bicubic'])} photos")


if __name__ == "__main__":
    main()
