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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from ..components.weights import encode, save_prior
from ..degradation import Degradation
from ..errors import ImageError, TrainingError
from ..io.atomic import make_folder, write_atomic
from ..io.progress import Event, Tell, nobody
from ..io.tensors import read_tensors
from ..prior import PriorNet
from ..seeds import Stream, stream
from .crops import PhotoCrops, find_photos
from .loss import draw_times, losses
from .settings import TrainSettings, learning_rate


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
        prior.prepare(degradation, stream(seed, Stream.TRAINING_PREPARATION))
        self.prior = prior.to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
        self.ema = {name: value.detach().clone() for name, value in self.prior.state_dict().items()}
        self.optimizer = Adam(self.prior.parameters(), lr=settings.learning_rate)
        self.model: Callable[..., Any] = torch.compile(self.prior) if settings.compile else self.prior
        self.bfloat16 = settings.precision == "bfloat16" or (settings.precision == "auto" and device.type == "cuda")
        step = math.lcm(degradation.scale, prior.spec.multiple)
        if settings.crop % step:
            raise TrainingError(f"train.crop: {settings.crop} must divide by {step} for this operator and prior")
        try:
            degradation.output_shape((settings.crop, settings.crop))
        except ImageError as error:
            raise TrainingError(f"train.crop: {error}") from None
        self.photos = PhotoCrops(find_photos(settings.data), settings.crop, settings.rescale, seed)
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

    def run(self, tell: Tell = nobody) -> None:
        """Train to the end, or until Ctrl-C, which waits for the end of the step and leaves a checkpoint.

        Stops at a non-finite loss; the last checkpoint on disk is from before it.
        """
        if self.step == 0:
            (self.folder / "log.jsonl").unlink(missing_ok=True)
        with _interrupts_between_steps() as interrupted:
            self._run(tell, interrupted)

    def _run(self, tell: Tell, interrupted: threading.Event) -> None:
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
                rate = count * self.settings.batch / (now - since)
                record = {
                    "step": self.step,
                    "steps": self.settings.steps,
                    "loss": total,
                    "image_loss": image,
                    "parameter_loss": parameter,
                    "learning_rate": learning_rate(self.settings, self.step - 1),
                    "images_per_second": rate,
                    "seconds": round(self.seconds, 1),
                }
                with open(self.folder / "log.jsonl", "a") as log:
                    log.write(json.dumps(record) + "\n")
                note = f"image {image:.4f}  parameters {parameter:.4f}  {rate:.1f} img/s"
                line = f"step {self.step}/{self.settings.steps}  {note}"
                tell(Event(self.step, self.settings.steps, "training", note, line=line))
                since, parts, count = now, torch.zeros(3), 0
            last = self.step == self.settings.steps or interrupted.is_set()
            if self.step % self.settings.checkpoint_every == 0 or last:
                self.save()
            if interrupted.is_set():
                raise KeyboardInterrupt

    def _one_step(self, x: Tensor) -> Tensor:
        settings = self.settings
        generator = stream(self.seed, Stream.TRAINING_STEP, self.step)
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
