"""Motion deblurring on folders of clean pictures, each shaken by a few seeded or measured kernels.

    python benchmarks/deblur.py recipes/deblur_ffhq.yaml ffhq/ bsd100/:12 --lpips lpips/ -o runs/deblur_bench \
        --variant "ours, blind:" --variant "ours, true kernel: guidance.1.kernel=given"

Centre crops of 256; noise as the recipe says. Wiener and Richardson-Lucy are scikit-image's, with the true
kernel, mirrored borders and the best of a few settings for them. Writes ``rows.csv`` as it goes, and
takes up where an earlier call stopped; prints a Markdown table of means. ``folder:12`` takes the first
twelve pictures by name; ``--kernels file.mat`` uses the kernels of a file in turn.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import invdiff
from invdiff import images, metrics, report
from invdiff.kernel_files import read_kernels
from invdiff.lpips import LPIPS
from invdiff.pipeline import Pipeline
from invdiff_motion.trajectory import motion_kernel

KEYS = ["variant", "set", "picture", "kernel"]
METRICS = ["psnr_rgb", "psnr_shifted", "ssim_y", "lpips", "kernel_l1", "kernel_l1_shifted"]
COLUMNS = [*KEYS, *METRICS, "mnc_first", "mnc_last", "residual", "seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--lpips", type=Path, help="folder with LPIPS weights")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/deblur_bench"))
    parser.add_argument("--variant", action="append", default=[], help="'label: key=value key=value'")
    parser.add_argument("--count", type=int, default=3, help="kernels for each picture")
    parser.add_argument("--intensity", type=float, default=0.5)
    parser.add_argument("--kernels", type=Path, help="measured kernels instead of drawn ones")
    parser.add_argument("--no-classical", action="store_true", help="leave out Wiener and Richardson-Lucy")
    parser.add_argument("--sheets", type=int, default=0, help="write comparison sheets of the first so many pictures")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / "rows.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    if not rows:
        with table.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
    done = {tuple(r[k] for k in KEYS) for r in rows}
    lpips = LPIPS(options.lpips) if options.lpips else None
    methods: dict[str, Any] = {"blurred": lambda y, k: y}
    if not options.no_classical:
        methods |= {"Wiener, true kernel": wiener, "Richardson-Lucy, true kernel": richardson_lucy}
    for variant in options.variant or ["ours, blind:"]:
        label, _, overrides = variant.partition(":")
        methods[label] = invdiff.load(options.recipe, overrides=overrides.split())
    operator = next(m for m in methods.values() if isinstance(m, Pipeline)).degradation
    size = operator.parameters.shape[0]
    measured = read_kernels(options.kernels, size) if options.kernels else []

    for folder in options.folders:
        name, _, limit = folder.partition(":")
        for number, path in enumerate(images.list_images(Path(name))[: int(limit) if limit else None]):
            photo = images.load(path)
            height, width = (min(n, 256) for n in photo.pixels.shape[-2:])
            clean = photo.cropped(height, width, centre=True).pixels
            for i in range(options.count):
                generator = torch.Generator().manual_seed(1000 * number + i)
                if measured:
                    which = (number + i) % len(measured)
                    label_k, kernel = f"measured {which + 1}", measured[which].kernel.float()
                else:
                    label_k, kernel = f"drawn {i + 1}", motion_kernel(size, options.intensity, generator)[0].float()
                y = operator.corrupt(operator.apply(clean[None], kernel[None]), generator)[0]
                panels: list[tuple[Tensor, Tensor | None]] = [(y, None)]
                for label, method in methods.items():
                    key = (label, Path(name).name, path.stem, label_k)
                    if key in done:
                        continue
                    found, image, estimate = measure(method, operator, y, clean, kernel, lpips)
                    panels.append((image, estimate))
                    row = dict(zip(COLUMNS, key, strict=False)) | {k: f"{v:.6g}" for k, v in found.items()}
                    with table.open("a", newline="") as file:
                        csv.DictWriter(file, COLUMNS, restval="").writerow(row)
                    rows.append(row)
                    print(*row.values(), flush=True)
                if number < options.sheets and len(panels) > 1:
                    sheet = report.comparison([*panels, (clean, kernel)])
                    images.save_png(sheet, options.output / f"{Path(name).name}.{path.stem}.{i + 1}.png")
    summary(rows)


def measure(
    method: Any, operator: Any, y: Tensor, clean: Tensor, kernel: Tensor, lpips: LPIPS | None
) -> tuple[dict[str, float], Tensor, Tensor | None]:
    """Metrics of one result, the result, and its kernel."""
    started, estimate, trace = time.monotonic(), None, []
    found: dict[str, float] = {}
    if isinstance(method, Pipeline):
        out = method.restore(y, given=kernel, callback=lambda record: trace.append(record.theta))
        image, estimate = out.image, out.parameters
        found["residual"] = float(out.residual or "nan")
    else:
        image = method(y, kernel)
    found["seconds"] = time.monotonic() - started
    image = metrics.round8(image)
    found["psnr_rgb"] = metrics.psnr_rgb(image, clean)
    found["psnr_shifted"] = metrics.psnr_rgb_shifted(image, clean)
    found["ssim_y"] = metrics.ssim_y(image, clean, 0)
    if lpips:
        found["lpips"] = lpips(image, clean)
    if estimate is not None:
        found["kernel_l1"] = metrics.kernel_l1(estimate, kernel)
        found["kernel_l1_shifted"] = metrics.kernel_l1_shifted(estimate, kernel)
        found["mnc_first"], found["mnc_last"] = (metrics.mnc(trace[i][0].cpu(), kernel) for i in (0, -1))
    return found, image, estimate


def wiener(y: Tensor, kernel: Tensor) -> Tensor:
    """scikit-image's, with the balance that served best of 0.003 to 3 (by half decades)."""
    from skimage.restoration import wiener as run

    return _mirrored(y, kernel, lambda plane, k: run(plane, k, 3.0, clip=False))


def richardson_lucy(y: Tensor, kernel: Tensor) -> Tensor:
    """scikit-image's, with the number of iterations that served best of 5, 10, 15, 20, 30 and 50."""
    from skimage.restoration import richardson_lucy as run

    return _mirrored(y.clamp_min(0), kernel, lambda plane, k: run(plane, k, 10))


def _mirrored(y: Tensor, kernel: Tensor, run: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Tensor:
    pad = kernel.shape[-1]
    padded = np.pad(y.double().numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    planes = [run(plane, kernel.double().numpy())[pad:-pad, pad:-pad] for plane in padded]
    return torch.from_numpy(np.stack(planes)).float()


def summary(rows: list[dict[str, Any]]) -> None:
    """Means per set and variant as a Markdown table."""
    names = COLUMNS[len(KEYS) :]
    print("\n| set | variant | rows | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 3) + "|")
    for group in dict.fromkeys((r["set"], r["variant"]) for r in rows):
        mine = [r for r in rows if (r["set"], r["variant"]) == group]
        cells = []
        for name in names:
            values = [float(r[name]) for r in mine if r.get(name)]
            digits = 2 if name in ("psnr_rgb", "psnr_shifted", "seconds") else 3
            cells.append(f"{sum(values) / len(values):.{digits}f}" if values else "")
        print(f"| {group[0]} | {group[1]} | {len(mine)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
