"""What a user waits for, as ratios: the table of docs/benchmarks.md.

    python benchmarks/speed.py
    python benchmarks/speed.py --row blur_256 --rounds 20

One thread. Both sides of a ratio take turns in one process, and the median over rounds of processor time is printed,
smallest and largest beside it: other work on the machine moves all of them alike. Memory is the largest resident set
of ``invdiff run`` in a process of its own. What is compared with deepinv is left out where that is not installed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn

import invdiff
from invdiff.blur import Blur, downsample_bicubic, downsample_bicubic_adjoint
from invdiff.cli.memory import keep_memory
from invdiff.guidance import Problem
from invdiff.pipeline import Pipeline
from invdiff.sampler import step
from invdiff_rivals.dps import DPS

Action = Callable[[], object]


@dataclass
class Row:
    """What a row says, and how it is found: ``measure(rounds)`` gives the cell."""

    what: str
    measure: Callable[[int], str]
    needs: str | None = None
    """A package without which it is left out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="append", choices=ROWS, help="measure this one; repeatable")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    keep_memory()
    print("| what | measured |\n|---|---|", flush=True)
    for name in given.row or ROWS:
        row = ROWS[name]
        cell = row.measure(given.rounds) if importable(row.needs) else f"not measured: {row.needs} is not installed"
        print(f"| {row.what} | {cell} |", flush=True)


def importable(package: str | None) -> bool:
    """Whether a package is there and goes with this torch."""
    try:
        return package is None or importlib.import_module(package) is not None
    except (ImportError, RuntimeError):
        return False


# --- measuring


def seconds(action: Action) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def ratio(ours: Action, base: Action, rounds: int) -> str:
    """Processor time of ``ours`` over that of ``base``, in turn."""
    ours(), base()
    found = [seconds(ours) / seconds(base) for _ in range(rounds)]
    return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def command(*arguments: str | Path, **environment: str) -> tuple[float, float]:
    """Processor seconds and peak memory in GB of ``invdiff`` in a process of its own.

    A small process stands between: what this one holds would count as the other's peak, which begins as its copy.
    """
    called = [sys.executable, "-m", "invdiff", *map(str, arguments), "--device", "cpu", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", _ASK, *called], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(called)} ended with {done.returncode}: {done.stderr.strip()}")
    spent, most = map(float, done.stdout.split()[-2:])
    unit = 1 if sys.platform == "darwin" else 1024
    return spent, most * unit / 1e9


_ASK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def photo(height: int, width: int) -> Tensor:
    """A natural picture ``(3, height, width)`` in [0, 1] of any size, mirrored on where it ends."""
    tile = data.astronaut()
    tile = np.concatenate([np.concatenate([tile, tile[:, ::-1]], 1), np.concatenate([tile[::-1], tile[::-1, ::-1]], 1)])
    repeats = (-(-height // len(tile)), -(-width // len(tile)), 1)
    return torch.from_numpy(np.tile(tile, repeats)[:height, :width]).permute(2, 0, 1).float() / 255


def saved(folder: str, name: str, picture: Tensor) -> Path:
    path = Path(folder) / name
    Image.fromarray((picture.permute(1, 2, 0) * 255).byte().numpy()).save(path)
    return path


# --- the loop


def one_step(pipe: Pipeline, size: int) -> tuple[Action, Action]:
    """A step in the middle of a pipeline's loop, and what its network alone takes: with the gradient, if it is used."""
    clean = photo(size, size)
    y = pipe.synthesize(clean)[0][None]
    problem = Problem(y, pipe.degradation, pipe.prior, pipe.guidance)
    noise = torch.randn(problem.condition.shape, generator=torch.Generator().manual_seed(0))
    times = pipe.sampler.times(pipe.prior.spec)
    t, t_next = times[len(times) // 2], [*times[1:], -1][len(times) // 2]
    x = pipe.prior.spec.schedule.add_noise(problem.condition, noise, torch.tensor([t]))
    theta = pipe.degradation.sample_parameters(1, torch.Generator().manual_seed(0))

    def network() -> None:
        leaf = x.clone().requires_grad_(problem.needs_gradient)
        with torch.set_grad_enabled(problem.needs_gradient):
            found = pipe.prior.predict(leaf, torch.tensor([t]), problem.condition).x0
            if problem.needs_gradient:
                torch.autograd.grad(found.sum(), leaf)

    return partial(step, problem, x, t, t_next, noise, theta=theta, feedback=pipe.sampler.feedback), network


def of_recipe(recipe: str, rounds: int) -> str:
    return ratio(*one_step(invdiff.load(recipe, device="cpu"), 256), rounds)


def around_a_toy(rounds: int) -> str:
    """A denoiser of 30 ms: what is not network shows."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU()]
    toy = nn.Sequential(*layers, nn.Conv2d(24, 3, 3, padding=1))
    prior = invdiff.from_denoiser(lambda x, sigma: toy(x))
    recipe = invdiff.load("blindsr_x4", device="cpu")
    pipe = Pipeline(recipe.degradation, prior, [DPS()], recipe.sampler, device="cpu")
    return ratio(*one_step(pipe, 256), rounds)


# --- operators


def beside_blur_fft(size: int, rounds: int) -> str:
    from deepinv.physics import BlurFFT

    kernel, x = torch.rand(1, 31, 31), photo(size, size)[None]
    theirs = BlurFFT((3, size, size), filter=kernel[None] / kernel.sum())
    ours = Blur(kernel / kernel.sum(), "circular")
    pairs = [(lambda: ours.apply(x), lambda: theirs.A(x)), (lambda: ours.adjoint(x), lambda: theirs.A_adjoint(x))]
    return ", adjoint ".join(ratio(*pair, rounds) for pair in pairs)


def beside_downsampling(rounds: int) -> str:
    from deepinv.physics import Downsampling

    x, y = photo(256, 256)[None], photo(64, 64)[None]
    theirs = Downsampling((3, 256, 256), filter="bicubic", factor=4)
    pairs = [
        (lambda: downsample_bicubic(x, 4), lambda: theirs.A(x)),
        (lambda: downsample_bicubic_adjoint(y, 4), lambda: theirs.A_adjoint(y)),
    ]
    return ", adjoint ".join(ratio(*pair, rounds) for pair in pairs)


# --- sizes, memory, folders


def kept_memory(rounds: int) -> str:
    """The command with and without blocks that are kept."""
    with tempfile.TemporaryDirectory() as folder:
        small = saved(folder, "p.png", photo(64, 64))

        def run(keep: str) -> float:
            return command("run", "blindsr_x4", small, "-o", f"{folder}/out", "--force", INVDIFF_KEEP_MEMORY=keep)[0]

        found = [run("1") / run("0") for _ in range(min(rounds, 5))]
    return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def growth(rounds: int) -> str:
    pipe = invdiff.load("blindsr_x4", overrides=["sampler.steps=1"], device="cpu")
    large, small = (partial(pipe.restore, photo(side, side)) for side in (256, 128))
    return ratio(large, small, min(rounds, 3))


def peak(side: int, rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        picture = saved(folder, "p.png", photo(side // 4, side // 4))
        _, most = command("run", "blindsr_x4", picture, "-o", f"{folder}/out", "--set", "sampler.steps=1")
    return f"{most:.2f} GB"


def deblurred(megapixels: float, rounds: int) -> str:
    """A photo of four by three, its scene going on beyond."""
    height, width = (round(n * (megapixels * 1e6 / 12) ** 0.5) for n in (3, 4))
    with tempfile.TemporaryDirectory() as folder:
        picture = saved(folder, "p.png", photo(height, width))
        beyond = ("--set", "degradation.padding=valid")
        spent, most = command("run", "deblur_ffhq", picture, "-o", f"{folder}/out", *beyond)
    return f"{spent / megapixels:.0f} s a megapixel of one core, {most:.2f} GB"


def folder_of_small_photos(rounds: int) -> str:
    """All that a command spends, its start too, over the loop alone."""
    pipe = invdiff.load("blindsr_x4", device="cpu")
    pictures = [photo(40 + i, 48) for i in range(16)]
    pipe.restore(pictures[0])
    with tempfile.TemporaryDirectory() as folder:
        for i, picture in enumerate(pictures):
            saved(folder, f"{i}.png", picture)
        spent, _ = command("run", "blindsr_x4", folder, "-o", f"{folder}.out")
    return f"{spent / seconds(lambda: [pipe.restore(p) for p in pictures]):.2f}"


ROWS = {
    "loop_x4": Row("one step of `blindsr_x4` / network and input gradient", partial(of_recipe, "blindsr_x4")),
    "loop_toy": Row("the same around a toy network, with `dps`", around_a_toy),
    "loop_deblur": Row("one step of `deblur_ffhq` with its guidances / network", partial(of_recipe, "deblur_ffhq")),
    "loop_mcformer": Row("the same of `deblur_mcformer`", partial(of_recipe, "deblur_mcformer")),
    "blur_256": Row("circular blur, 256, kernel held / deepinv's BlurFFT", partial(beside_blur_fft, 256), "deepinv"),
    "blur_1024": Row("circular blur, 1024, kernel held / deepinv's BlurFFT", partial(beside_blur_fft, 1024), "deepinv"),
    "bicubic": Row("bicubic x4 / deepinv's Downsampling", beside_downsampling, "deepinv"),
    "kept_memory": Row("`invdiff run blindsr_x4` with memory kept / handed back", kept_memory),
    "growth": Row("x4, seconds of 1024x1024 out / 512x512 out", growth),
    "peak_512": Row("x4, peak memory, 512x512 out", partial(peak, 512)),
    "peak_1024": Row("x4, peak memory, 1024x1024 out", partial(peak, 1024)),
    "peak_2048": Row("x4, peak memory, 2048x2048 out", partial(peak, 2048)),
    "megapixel": Row("`deblur_ffhq` on a photo of one megapixel", partial(deblurred, 1.0)),
    "folder": Row("a folder of 16 small photos, start and files / the loop alone", folder_of_small_photos),
}

if __name__ == "__main__":
    main()
