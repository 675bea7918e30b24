"""Images a second of training, variants in turn in one process: ratios to the first one, medians over rounds.

    python benchmarks/training_speed.py --data photos/ --rounds 8 --threads 1

Each variant is a recipe with changes; a round takes two steps of each. What counts for the choice of a network is
quality after equal *time*: that is a curve (``invdiff train --validate``), not a row of this table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from invdiff.assembly import build_trainer
from invdiff.io.progress import nobody
from invdiff.training.trainer import Trainer

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
VARIANTS = {
    "small, bfloat16 (as it was trained)": ("train_blindsr_x4_small.yaml", ["train.precision=bfloat16"]),
    "small, float32": ("train_blindsr_x4_small.yaml", ["train.precision=float32"]),
    "small, float32, contiguous": (
        "train_blindsr_x4_small.yaml",
        ["train.precision=float32", "train.channels_last=false"],
    ),
    "photo: on the measurement's grid, float32": ("train_blindsr_x4_photo.yaml", ["train.precision=float32"]),
    "the same, bfloat16": ("train_blindsr_x4_photo.yaml", ["train.precision=bfloat16"]),
    "the same, compiled": ("train_blindsr_x4_photo.yaml", ["train.precision=bfloat16", "train.compile=true"]),
    "natural: plain convolutions, float32": ("train_natural.yaml", ["train.precision=float32"]),
    "natural, bfloat16": ("train_natural.yaml", ["train.precision=bfloat16"]),
    "natural, bfloat16, compiled": ("train_natural.yaml", ["train.precision=bfloat16", "train.compile=true"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="folder of photos; repeatable")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        steps = {name: stepper(name, Path(folder), given.data) for name in VARIANTS}
        for step in steps.values():
            step()  # photos are read, memory is had
        found: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(given.rounds):
            for name, step in steps.items():
                found[name].append(step())
    first = next(iter(found.values()))
    print("| variant | images a second | ratio to the first | smallest and largest |")
    print("|---|---|---|---|")
    for name, rates in found.items():
        ratios = [rate / base for rate, base in zip(rates, first, strict=True)]
        print(f"| {name} | {median(rates):.1f} | {median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |")


def stepper(name: str, folder: Path, data: list[str]) -> Callable[[], float]:
    """A function that takes two steps of that variant and says images a second of processor time."""
    recipe, changes = VARIANTS[name]
    trainer: Trainer = build_trainer(RECIPES / recipe, folder / str(abs(hash(name))), data, changes, device="cpu")
    trainer._choose(nobody)
    batches = trainer._batches()

    def two_steps() -> float:
        images = [next(batches), next(batches)]
        started = time.process_time()
        for x in images:
            trainer._one_step(x)
            trainer.step += 1
        return sum(map(len, images)) / (time.process_time() - started)

    return two_steps


if __name__ == "__main__":
    main()
