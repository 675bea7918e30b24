"""What kernels that differ across the picture bring where the camera turned while it shook.

    python benchmarks/turned.py photos/ deblur_ffhq deblur_turned --every 13

Every ``--every``-th photo of the folder under a hand's shake of twelve pixels, while the camera also turned by so many
degrees in all. No grid of kernels makes these photos: each is the mean of its scene, turned and moved as a whole at 120
moments; noise of 1 %, 8 bits. A border that shows what lay outside is cut off. PSNR-RGB against the scene as it lies at
the mean pose, after the best turn and shift, which nobody can know, 16 pixels of border left out; mean over the photos,
and how many came out below the shaken one. A Markdown table.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from torch import Tensor

import invdiff
from invdiff.io.atomic import make_folder
from invdiff.io.decoding import list_pictures, load
from invdiff.io.pictures import save_png
from invdiff.metrics import round8
from invdiff_motion.hand import hand_path

NOISE, SHAKE, MOMENTS, BORDER = 0.01, 12.0, 120, 20
LEFT_OUT = 16
STARTS = (0.0, -3.0, 3.0)  # pixels of turn at the far border, from where the best one is looked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--degrees", type=float, nargs="+", default=[0.0, 1.0, 2.0])
    parser.add_argument("-o", "--output", type=Path, help="where shaken, restored and clean pictures are written")
    given = parser.parse_args()
    pipes = {recipe: invdiff.load(recipe) for recipe in given.recipes}
    found: dict[tuple[float, str], list[tuple[float, float]]] = {}
    for count, path in enumerate(list_pictures(given.folder)[given.every // 2 :: given.every]):
        x = load(path).shown()
        for degrees in given.degrees:
            y, clean = shaken(x, degrees, torch.Generator().manual_seed(count))
            before = best_psnr(y, clean)
            restored = {recipe: round8(pipe.restore(y).image) for recipe, pipe in pipes.items()}
            for recipe, image in restored.items():
                found.setdefault((degrees, recipe), []).append((before, best_psnr(image, clean)))
            if given.output is not None:
                side_by_side = torch.cat([y, *restored.values(), clean], -1)
                name = f"{path.stem}_{degrees:g}.png"
                save_png((255 * side_by_side).round().byte().permute(1, 2, 0).numpy(), make_folder(given.output) / name)
    print("| turned by, degrees | shaken | " + " | ".join(given.recipes) + " |\n|---|---|" + "---|" * len(pipes))
    for degrees in given.degrees:
        rows = [found[degrees, recipe] for recipe in given.recipes]
        cells = [f"{mean(b for _, b in row):.2f} ({sum(b < a for a, b in row)} below)" for row in rows]
        print(f"| {degrees:g} | {mean(a for a, _ in rows[0]):.2f} | " + " | ".join(cells) + " |")


def shaken(x: Tensor, degrees: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A photo of ``x (3, h, w)``, and the scene as it lies at the mean pose."""
    places, shares = (v.numpy() for v in hand_path(generator))
    turn = hand_path(generator)[0][:, 0].numpy()
    places = places * SHAKE / np.ptp(places, axis=0).max()
    turn = turn * math.radians(degrees) / np.ptp(turn)
    places, turn = places - shares @ places, turn - shares @ turn
    total, light = np.zeros(x.shape), np.array_split(np.arange(len(shares)), MOMENTS)
    for moment in light:
        share = shares[moment].sum()
        pose = [shares[moment] @ v[moment] / share for v in (turn, places[:, 0], places[:, 1])]
        total += share * moved(x.double().numpy(), *pose, order=1)
    inside = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    y = torch.from_numpy(total).float()[inside]
    return ((y + NOISE * torch.randn(y.shape, generator=generator)).clamp(0, 1) * 255).round() / 255, x[inside]


def moved(x: np.ndarray, angle: float, down: float, right: float, order: int) -> np.ndarray:
    """A picture turned about its middle and moved, mirrored at its border."""
    height, width = x.shape[-2:]
    rows, cols = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    sine, cosine = math.sin(angle), math.cos(angle)
    at = cosine * rows - sine * cols - down + (height - 1) / 2, sine * rows + cosine * cols - right + (width - 1) / 2
    return np.stack([map_coordinates(plane, at, order=order, mode="mirror") for plane in x])


def best_psnr(image: Tensor, clean: Tensor) -> float:
    """After the turn and shift that bring the grey pictures nearest to each other."""
    x, want = image.double().numpy(), clean.double().numpy()
    far = max(x.shape[-2:]) / 2
    inside = (..., slice(LEFT_OUT, -LEFT_OUT), slice(LEFT_OUT, -LEFT_OUT))

    def away(pose: np.ndarray) -> float:
        grey = moved(x.mean(0, keepdims=True), pose[0] / far, pose[1], pose[2], order=3)
        return float(((grey[0] - want.mean(0))[inside] ** 2).mean())

    steps = np.array([[0, 0, 0], [1.5, 0, 0], [0, 1, 0], [0, 0, 1]])
    options = {"maxfev": 90, "xatol": 0.02, "fatol": 1e-8}
    tried = [
        minimize(
            away,
            [turn, 0, 0],
            method="Nelder-Mead",
            options={**options, "initial_simplex": steps + np.array([turn, 0, 0])},
        )
        for turn in STARTS
    ]
    angle, down, right = min(tried, key=lambda one: float(one.fun)).x
    error = (moved(x, angle / far, down, right, order=3) - want)[inside] ** 2
    return float(-10 * np.log10(error.mean()))


if __name__ == "__main__":
    main()
