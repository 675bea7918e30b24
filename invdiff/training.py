"""Algorithm 1: train a prior on photos, degraded by the operator itself.

Every random number of a step comes from a stream keyed by (seed, step), so a resumed run continues
exactly, on any number of data workers: there is no generator state to save.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import Adam

from .degradation import Degradation
from .errors import ImageError, TrainingError
from .files import make_folder, stream, write_atomic
from .photos import PhotoCrops, find_images
from .prior import PriorNet
from .settings import Float, Int, Settings
from .weights import encode, read_tensors, save_prior

_DATA, _NOISE, _PREPARE = 0, 1, 2  # streams


class NoiseLevels(Settings):
    """Which times training visits: uniform ones, and a share around a noise level of interest."""

    lognormal_share: Annotated[Float, Field(ge=0, le=1)] = 0.0
    """Part of the samples whose ``sigma = sqrt((1 - abar) / abar)`` is drawn log-normally."""
    median: Annotated[Float, Field(gt=0)] = 0.15
    spread: Annotated[Float, Field(gt=0)] = 1.2


class TrainSettings(Settings):
    """One training run. The defaults are the paper's (Sec. 4.1); ``data`` may come from the command line."""

    data: list[str] = []
    steps: Annotated[Int, Field(ge=1)] = 500_000
    batch: Annotated[Int, Field(ge=1)] = 8
    crop: Annotated[Int, Field(ge=8)] = 256
    rescale: tuple[Float, Float] = (1.0, 1.0)
    """Photos are shrunk by a random factor in this range before cropping."""
    learning_rate: Annotated[Float, Field(gt=0)] = 2e-4
    decay: Literal["halve", "cosine", "none"] = "halve"
    halve_every: Annotated[Int, Field(ge=1)] = 100_000
    warmup: Annotated[Int, Field(ge=0)] = 0
    clip: Annotated[Float, Field(gt=0)] = 1.0
    """Largest gradient norm."""
    ema: Annotated[Float, Field(ge=0, lt=1)] = 0.999
    parameter_weight: Annotated[Float, Field(ge=0)] = 1.0
    """Weight of the parameters' L1 error, summed over a kernel's pixels (Eq. 13)."""
    variance_weight: Annotated[Float, Field(ge=0)] = 1e-3
    """Weight of the variational bound, for priors with a learned variance."""
    noise: NoiseLevels = NoiseLevels()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 autocast on CUDA, float32 elsewhere."""
    compile: bool = False
    channels_last: bool = False
    checkpoint_every: Annotated[Int, Field(ge=1)] = 1000
    log_every: Annotated[Int, Field(ge=1)] = 50
    workers: Annotated[Int, Field(ge=1)] = 2

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        if not 0 < self.rescale[0] <= self.rescale[1] <= 1:
            raise ValueError(f"rescale must be [low, high] with 0 < low <= high <= 1, got {list(self.rescale)}")
        return self


@dataclass
class TrainRecord:
    """Means over the steps since the last record."""

    step: int
    steps: int
    loss: float
    image_loss: float
    parameter_loss: float
    learning_rate: float
    images_per_second: float


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The rate of a step, counted from 0."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(settings.warmup, 1))
    if settings.decay == "halve":
        return rate * 0.5 ** (step // settings.halve_every)
    if settings.decay == "cosine":
        angle = torch.pi * torch.tensor(step / settings.steps, dtype=torch.float64)
        return rate * (0.01 + 0.99 * 0.5 * (1 + float(angle.cos())))
    return rate


def draw_times(prior: PriorNet, levels: NoiseLevels, batch: int, generator: torch.Generator) -> Tensor:
    """Times ``(batch,)`` of a training step."""
    schedule = prior.schedule
    uniform = torch.randint(len(schedule), (batch,), generator=generator)
    sigma = levels.median * (levels.spread * torch.randn(batch, generator=generator)).exp()
    table = schedule.noise_to_signal(torch.arange(len(schedule)), torch.empty(len(schedule)))
    focused = torch.searchsorted(table, sigma).clamp_max(len(schedule) - 1)
    return torch.where(torch.rand(batch, generator=generator) < levels.lognormal_share, focused, uniform)


def losses(
    prior: PriorNet,
    model: Callable[..., Any],
    degradation: Degradation,
    x: Tensor,
    t: Tensor,
    noise: torch.Generator,
    settings: TrainSettings,
    bfloat16: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Total, image and parameter loss of one batch ``x (B, 3, H, W)`` in [0, 1] (Eq. 13)."""
    with torch.no_grad():
        y, theta = degradation.degrade(x, noise)
        clean, condition = prior.from_unit(x), prior.from_unit(degradation.lift(y))
        eps = torch.randn(x.shape, generator=noise).to(x)
        x_t = prior.schedule.add_noise(clean, eps, t)
    # Only the network: a measurement blurred in bfloat16 would be off by more than its 8-bit rounding.
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
        out = model(x_t, t, condition)
    target = prior.schedule.target(prior.prediction, clean, eps, t)
    weight = prior.loss_weight(t).to(x)
    image = (weight * (out.raw.float() - target).square().mean(dim=(1, 2, 3))).mean()
    parameter = image.new_zeros(())
    if out.parameters is not None:
        parameter = (out.parameters.float() - theta).abs().flatten(1).sum(1).mean()
    total = image + settings.parameter_weight * parameter
    for estimate in out.earlier:
        total = total + settings.parameter_weight * (estimate.float() - theta).abs().flatten(1).sum(1).mean()
    if out.variance_fraction is not None:
        x0 = prior.schedule.to_x0(prior.prediction, out.raw.float().detach(), x_t, t)
        total = total + settings.variance_weight * len(prior.schedule) * _bound(prior, clean, x0, out, t)
    return total, image, parameter


def _bound(prior: PriorNet, clean: Tensor, x0: Tensor, out: Any, t: Tensor) -> Tensor:
    """KL of the true reverse step from the predicted one, with the mean held fixed (Nichol and Dhariwal 2021).

    At ``t = 0``, where the true step has no variance, the next one's takes its place.
    """
    pairs = [prior.schedule.transition_variances(max(i, 1), max(i, 1) - 1) for i in t.tolist()]
    small, large = (torch.tensor(v).to(clean).view(-1, 1, 1, 1) for v in zip(*pairs, strict=True))
    log_ratio = out.variance_fraction.float() * (large / small).log()
    abar, before = prior.schedule.abar(t, clean), prior.schedule.abar(t - 1, clean)
    gap = before.sqrt() * (1 - abar / before) / (1 - abar) * (clean - x0)
    kl = 0.5 * (log_ratio - 1 + (1 + gap.square() / small) * (-log_ratio).exp())
    return kl.mean()


class Trainer:
    """One run in one folder: ``checkpoint.safetensors``, ``weights.safetensors`` (EMA) and ``log.jsonl``."""

    def __init__(
        self,
        prior: PriorNet,
        degradation: Degradation,
        settings: TrainSettings,
        folder: Path,
        *,
        kind: str,
        seed: int,
        device: torch.device,
        note: dict[str, Any],
    ) -> None:
        self.settings, self.folder, self.kind, self.seed = settings, make_folder(folder), kind, seed
        self.degradation, self.device, self.note = degradation, device, note
        # Resuming with other settings would be another run, unless they change nothing that is learned.
        free = {"steps", "data", "workers", "log_every", "checkpoint_every"}
        self.identity = json.dumps({**note, "train": settings.model_dump(mode="json", exclude=free)})
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        prior.prepare(degradation, stream(seed, _PREPARE))
        self.prior = prior.to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
        self.ema = {name: value.detach().clone() for name, value in self.prior.state_dict().items()}
        self.optimizer = Adam(self.prior.parameters(), lr=settings.learning_rate)
        self.model: Callable[..., Any] = torch.compile(self.prior) if settings.compile else self.prior
        self.bfloat16 = settings.precision == "bfloat16" or (settings.precision == "auto" and device.type == "cuda")
        step = math.lcm(degradation.scale, prior.multiple)
        if settings.crop % step:
            raise TrainingError(f"train.crop: {settings.crop} must divide by {step} for this operator and prior")
        try:
            degradation.output_shape((settings.crop, settings.crop))
        except ImageError as error:
            raise TrainingError(f"train.crop: {error}") from None
        self.photos = PhotoCrops(find_images(settings.data), settings.crop, settings.rescale, seed)
        self.step = 0
        self.seconds = 0.0

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def save(self) -> None:
        """Write the checkpoint and the EMA weights, each atomically."""
        tensors = {f"model.{name}": value for name, value in self.prior.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in state.items()}
        header = {"step": str(self.step), "seconds": str(self.seconds), "identity": self.identity}
        write_atomic(self.checkpoint, encode({n: v.contiguous().cpu() for n, v in tensors.items()}, header))
        current = {name: value.clone() for name, value in self.prior.state_dict().items()}
        self.prior.load_state_dict(self.ema)
        note = {**self.note, "step": self.step, "seconds": round(self.seconds, 1)}
        save_prior(self.prior, self.kind, self.folder / "weights.safetensors", note=note)
        self.prior.load_state_dict(current)

    def resume(self) -> None:
        """Take up the folder's checkpoint: the run goes on as if it had never stopped."""
        if not self.checkpoint.exists():
            raise TrainingError(f"{self.checkpoint}: no checkpoint to resume from")
        tensors, header = read_tensors(self.checkpoint)
        if header.get("identity") != self.identity:
            raise TrainingError(f"{self.checkpoint}: belongs to a run with other settings; use another folder")
        self.prior.load_state_dict(_below("model.", tensors))
        self.ema = {name: value.to(self.device) for name, value in _below("ema.", tensors).items()}
        packed = self.optimizer.state_dict()
        packed["state"] = {}
        for name, value in _below("adam.", tensors).items():
            index, _, part = name.partition(".")
            packed["state"].setdefault(int(index), {})[part] = value
        self.optimizer.load_state_dict(packed)
        self.step, self.seconds = int(header["step"]), float(header["seconds"])
        log = self.folder / "log.jsonl"
        if log.exists():  # lines after the checkpoint will be written again
            kept = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            write_atomic(log, "".join(f"{line}\n" for line in kept))

    def run(self, progress: Callable[[TrainRecord], None] | None = None) -> None:
        """Train to the end, or until Ctrl-C, which waits for the end of the step and leaves a checkpoint.

        Stops at a non-finite loss; the last checkpoint on disk is from before it.
        """
        if self.step == 0:
            (self.folder / "log.jsonl").unlink(missing_ok=True)
        with _interrupts_between_steps() as interrupted:
            self._run(progress, interrupted)

    def _run(self, progress: Callable[[TrainRecord], None] | None, interrupted: threading.Event) -> None:
        started, since, parts, count = time.monotonic(), time.monotonic(), torch.zeros(3), 0
        seconds = self.seconds
        for x in self._batches():
            values = self._one_step(x)
            if not bool(values.isfinite().all()):
                kept = f"; {self.checkpoint} is the last good state" if self.checkpoint.exists() else ""
                raise TrainingError(f"the loss is not finite at step {self.step + 1}{kept}")
            self.step += 1
            self.seconds = seconds + time.monotonic() - started
            parts, count = parts + values, count + 1
            if self.step % self.settings.log_every == 0 or self.step == self.settings.steps:
                now = time.monotonic()
                total, image, parameter = (parts / count).tolist()
                record = TrainRecord(
                    self.step,
                    self.settings.steps,
                    total,
                    image,
                    parameter,
                    learning_rate(self.settings, self.step - 1),
                    count * self.settings.batch / (now - since),
                )
                with open(self.folder / "log.jsonl", "a") as log:
                    log.write(json.dumps({**vars(record), "seconds": round(self.seconds, 1)}) + "\n")
                if progress:
                    progress(record)
                since, parts, count = now, torch.zeros(3), 0
            last = self.step == self.settings.steps or interrupted.is_set()
            if self.step % self.settings.checkpoint_every == 0 or last:
                self.save()
            if interrupted.is_set():
                raise KeyboardInterrupt

    def _one_step(self, x: Tensor) -> Tensor:
        settings = self.settings
        generator = stream(self.seed, _NOISE, self.step)
        t = draw_times(self.prior, settings.noise, len(x), generator).to(self.device)
        total, image, parameter = losses(
            self.prior, self.model, self.degradation, x, t, generator, settings, self.bfloat16
        )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.prior.parameters(), settings.clip)
        values = torch.stack([total.detach(), image.detach(), parameter.detach()]).float().cpu()
        if not bool(torch.isfinite(norm)) or not bool(values.isfinite().all()):
            return values * torch.nan  # no update: the weights stay good
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        self.optimizer.step()
        decay = min(settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.prior.state_dict().items():
                if value.is_floating_point():
                    self.ema[name].lerp_(value, 1 - decay)
        return values

    def _batches(self) -> Iterator[Tensor]:
        """Batches from the current step on, read ahead by a few threads."""
        settings, ahead = self.settings, 2 * self.settings.workers
        with ThreadPoolExecutor(settings.workers) as pool:
            queue: list[Future[Tensor]] = []
            for step in range(self.step, settings.steps + ahead):
                if step < settings.steps:
                    queue.append(pool.submit(self.photos.batch, step, settings.batch))
                if len(queue) > ahead or (step >= settings.steps and queue):
                    yield queue.pop(0).result().to(self.device)
            while queue:
                yield queue.pop(0).result().to(self.device)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _interrupts_between_steps() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of raising in the middle of an update; a second one raises at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
