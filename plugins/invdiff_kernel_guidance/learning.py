"""Train the network of ``kernel_network``: gather what a recipe makes of shaken photos, then learn from it.

    python -m invdiff_kernel_guidance.learning gather deblur_ffhq --data natural/ --data faces/ -o runs/kernels
    python -m invdiff_kernel_guidance.learning train runs/kernels -o runs/kernels

Gathering: photos are cropped and shaken, with noise or JPEG in some of them, and restored by the recipe; at the noise
levels where the network is to act, the kernel so far and the evidence are kept, beside the true kernel. Files of 25
photos each; what is there already is left as it is, so gathering goes on where it stopped, and several processes share
it (``--share 0/2``). With ``--network`` one that has learned acts already, so that the next sees what it leaves.
Training reads all files, keeps some photos aside, and writes ``kernels.safetensors``.
"""

from __future__ import annotations

import argparse
import io
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save as encode
from torch import Tensor

import invdiff
from invdiff.blur.deconvolution import shifted
from invdiff.errors import InvdiffError, TrainingError, printable
from invdiff.guidance import Estimate, Guidance, Step
from invdiff.io.atomic import make_folder, write_atomic
from invdiff.io.decoding import list_pictures, load
from invdiff.io.tensors import read_tensors
from invdiff.orientation import ORIENTATIONS, shown
from invdiff.settings import Settings

from .evidence import least_squares_kernels
from .kernel_network import KernelNet, KernelNetwork, KernelNetworkSettings, find_network, load_network, save_network

_PART = 25  # photos a file
_SIDES = (192, 256, 256, 256)
_ACTS = (0.0, 0.1)  # noise levels at which the network acts while it gathers
_LEARNED = 0.15  # noise level from which on a step is a lesson
_SHAKES = ("degradation.intensity=[0.2, 0.8]", "degradation.hand={share: 0.6, span: [7, 26]}")
_ASIDE = 3  # files of each folder that are measured and not learned from: the first
_TRIES = 1000  # photos drawn before one is large enough
_WITHIN = 6  # pixels: the true kernel may lie so far from where the estimate has it
_BATCH, _RATE, _WARMUP, _EVERY = 32, 1e-3, 50, 200


class Watcher(Guidance[Settings]):
    """Keeps the kernel and the evidence of each step that is a lesson: ``(6, K, K)`` each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    @torch.no_grad()
    def refine(self, step: Step) -> Estimate:
        assert step.theta is not None  # it stands behind a guidance that finds one
        if step.sigma <= _LEARNED:
            kernel = step.theta[0].float()
            evidence = least_squares_kernels(step.y[0], step.degradation.frame(step.x0)[0], len(kernel))
            self.seen.append(torch.cat([kernel[None], evidence]))
        return Estimate(step.x0, step.theta)


def gather(recipe: str, folders: list[Path], output: Path, photos: int, share: tuple[int, int], network: str) -> None:
    """Write ``output/NUMBER.safetensors`` up to that many photos; of several processes each takes its share."""
    pipe, watcher = invdiff.load(recipe, overrides=_SHAKES), Watcher()
    *others, last = [guide for guide in pipe.guidance if not isinstance(guide, KernelNetwork)]
    acting = [KernelNetwork(KernelNetworkSettings(weights=network, levels=_ACTS))] if network else []
    pipe = invdiff.Pipeline(pipe.degradation, pipe.prior, [*others, watcher, *acting, last], pipe.sampler)
    paths = [path for folder in folders for path in list_pictures(folder)]
    for part in range(share[0], -(-photos // _PART), share[1]):
        file = make_folder(output) / f"{part:04d}.safetensors"
        if file.exists():
            continue
        samples = [_sample(pipe, watcher, paths, number) for number in range(part * _PART, (part + 1) * _PART)]
        seen, true = (torch.stack(column).half() for column in zip(*samples, strict=True))
        write_atomic(file, encode({"seen": seen, "true": true}, {"recipe": recipe}))
        print(f"{file}: {(part + 1) * _PART} photos", flush=True)


def _sample(pipe: invdiff.Pipeline, watcher: Watcher, paths: list[Path], number: int) -> tuple[Tensor, Tensor]:
    """What the steps show of one photo, ``(steps, 6, K, K)``, and its true kernel."""
    generator = torch.Generator().manual_seed(number)

    def below(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    side = _SIDES[below(len(_SIDES))]
    for _ in range(_TRIES):
        clean = load(paths[below(len(paths))]).shown()
        if len(clean) == 3 and min(clean.shape[1:]) >= side:
            break
    else:
        raise TrainingError(f"no photo in colour of {side} pixels or more among {_TRIES} that were drawn")
    top, left = (below(n - side + 1) for n in clean.shape[1:])
    clean = clean[:, top : top + side, left : left + side]
    clean = clean.flip(-1) if below(2) else clean
    kernel = pipe.degradation.sample_parameters(1, generator)
    kind, noise = uniform(), 0.01
    compressed = 0.3 <= kind < 0.55
    if kind < 0.3:
        noise = 0.04 * uniform()
    elif compressed:
        noise = 0.01 * uniform()
    y = pipe.degradation.apply(clean[None], kernel)[0]
    y = (y + noise * torch.randn(y.shape, generator=generator)).clamp(0, 1)
    pixels = Image.fromarray((255 * y).round().to(torch.uint8).permute(1, 2, 0).numpy())
    watcher.seen = []
    pipe.restore(_compressed(pixels, 50 + below(46)) if compressed else pixels)
    return torch.stack(watcher.seen), kernel[0]


def _compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def train(folders: list[Path], output: Path, steps: int, rate: float, start: str, seed: int = 0) -> None:
    """Learn from all files of some folders, and write ``output/kernels.safetensors``; ``start`` names weights to go on
    from."""
    files = sorted(file for folder in folders for file in folder.glob("[0-9]*.safetensors"))
    kept = [file for file in files if int(file.stem) < _ASIDE]
    (measured, truth), (seen, wanted) = (_lessons(some) for some in (kept, [f for f in files if f not in kept]))
    print(f"{len(seen)} lessons, {len(measured)} aside: {_told(measured[:, 0], truth)}", flush=True)
    torch.manual_seed(seed)
    network = load_network(find_network(start)).train().requires_grad_() if start else KernelNet()
    if start:
        with torch.no_grad():
            print(f"{start}: {_told(network(measured[:, 0], measured[:, 1:]), truth)}", flush=True)
    averaged, optimizer = deepcopy(network), torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    for step in range(steps):
        generator = torch.Generator().manual_seed(seed * steps + step)
        left = (steps - step) / (0.5 * steps)  # the second half cools down
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / _WARMUP, left)
        chosen = torch.randint(len(seen), (_BATCH,), generator=generator)
        way = int(torch.randint(ORIENTATIONS, (), generator=generator))  # the evidence turns with its kernel
        given, answer = (shown(x[chosen], way) for x in (seen, wanted))
        found = network(given[:, 0], given[:, 1:])
        likeness = F.cosine_similarity(found.flatten(1), answer.flatten(1))
        loss = ((found - answer).abs().sum((1, 2)) + 0.5 * (1 - likeness)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            share = 1 - min(0.998, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), share)
            if (step + 1) % _EVERY == 0 or step + 1 == steps:
                aside_now = _told(averaged(measured[:, 0], measured[:, 1:]), truth)
                print(f"step {step + 1}/{steps}: loss {float(loss):.3f}; {aside_now}", flush=True)
                note = {"steps": step + 1, "lessons": len(seen), "seed": seed}
                save_network(averaged, output / "kernels.safetensors", note)


def _lessons(files: list[Path]) -> tuple[Tensor, Tensor]:
    """What every step of every photo shows, and the true kernel where that step has it."""
    if not files:
        raise TrainingError(f"too few files gathered: {_ASIDE} of each folder are kept aside, others learned from")
    parts = [read_tensors(file)[0] for file in files]
    photos = [each for part in parts for each in zip(part["seen"].float(), part["true"].float(), strict=True)]
    wanted = [_where(true, step[0]) for seen, true in photos for step in seen]
    return torch.cat([seen for seen, _ in photos]), torch.stack(wanted)


def _where(kernel: Tensor, estimate: Tensor) -> Tensor:
    """The true kernel, moved by whole pixels to where an estimate has it: where it lies is the picture's to say."""
    moves = [(rows, cols) for rows in range(-_WITHIN, _WITHIN + 1) for cols in range(-_WITHIN, _WITHIN + 1)]
    places = torch.stack([shifted(kernel, *move) for move in moves])
    return places[(places * estimate).sum((1, 2)).argmax()]


def _told(found: Tensor, true: Tensor) -> str:
    error = (found - true).abs().sum((1, 2)).mean()
    likeness = F.cosine_similarity(found.flatten(1), true.flatten(1)).mean()
    return f"kernel L1 {float(error):.4f}, likeness {float(likeness):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    gathering = tasks.add_parser("gather")
    gathering.add_argument("recipe")
    gathering.add_argument("--data", action="append", required=True, type=Path, help="folder of photos; repeatable")
    gathering.add_argument("--photos", type=int, default=4000)
    gathering.add_argument("--network", default="", help="weights of a network that is to act already")
    gathering.add_argument("--share", type=_share, default=(0, 1), help="this process's share, such as 0/2 and 1/2")
    training = tasks.add_parser("train")
    training.add_argument("gathered", nargs="+", type=Path, help="folders")
    training.add_argument("--steps", type=int, default=6000)
    training.add_argument("--rate", type=float, default=_RATE, help="of learning, at its highest")
    training.add_argument("--start", default="", help="weights to go on from: a file, or those that come along")
    for task in (gathering, training):
        task.add_argument("-o", "--output", required=True, type=Path)
    given = parser.parse_args()
    try:
        if given.task == "train":
            train(given.gathered, given.output, given.steps, given.rate, given.start)
        else:
            gather(given.recipe, given.data, given.output, given.photos, given.share, given.network)
    except InvdiffError as error:
        parser.exit(2, f"error: {printable(str(error))}\n")


def _share(text: str) -> tuple[int, int]:
    own, _, of = text.partition("/")
    if not 0 <= int(own) < int(of):
        raise ValueError(text)
    return int(own), int(of)


if __name__ == "__main__":
    main()
