"""Algorithm 1: train a prior on photos, degraded by the operator itself.

Every random number of a step comes from a stream keyed by (seed, step), so a resumed run continues
exactly, on any number of data workers: there is no generator state to save.
"""

from __future__ import annotations

import contextlib
import json
import math
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
from ..errors import ImageError, TrainingError, with_kind
from ..io.atomic import make_folder, write_atomic
from ..io.progress import Event, Tell, nobody
from ..io.tensors import read_tensors
from ..metrics.lpips import LPIPS
from ..prior import PriorNet
from ..seeds import Stream, stream
from .board import Board
from .checkpoint import adam_state, adam_tensors, alike, losses_so_far, number, refuse_non_finite, same_run
from .crops import PhotoCrops, find_photos
from .interrupts import interrupts_between_steps
from .lesson import lesson
from .log import Log, Losses
from .loss import losses
from .precision import choose_bfloat16, choose_compiled
from .settings import ImageLosses, TrainSettings, is_told, learning_rate
from .teacher import Teacher
from .team import Team
from .validation import Validation
from .walk import Loop, walk

_FUSED = ("cpu", "cuda", "mps")  # where torch has Adam in one call

WEIGHTS = "weights.safetensors"
"""The averaged weights of a run, in its folder."""


class Trainer:
    """One run in one folder: ``checkpoint.safetensors``, ``weights.safetensors`` (EMA) and ``log.jsonl``.

    With a folder to ``validate`` on, ``best.safetensors`` are the averaged weights that restored its pictures best,
    and ``log.svg`` shows how that went. ``board`` is a folder for TensorBoard, where the log's numbers go as well.
    ``notes`` are lines on how the run was set up.
    """

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
        validate: Path | None = None,
        board: Path | None = None,
        loop: Loop | None = None,
        teacher: Teacher | None = None,
        lpips: LPIPS | None = None,
    ) -> None:
        self.cooling, self.loop = False, loop
        self.team = Team()
        device = self.team.device(device)
        self.settings, self.folder, self.kind, self.seed = settings, make_folder(folder), kind, seed
        self.degradation, self.device, self.note = degradation, device, {**note}
        # Resuming with other settings would be another run, unless they change nothing that is learned.
        free = {"steps", "data", "workers", "log_every", "checkpoint_every", "validate_every", "cooldown", "accumulate"}
        if settings.losses != ImageLosses():
            self.note |= {"losses": settings.losses.model_dump(mode="json")}
        if settings.teacher is not None:
            self.note |= {"teacher": settings.teacher.model_dump(mode="json")}
        self.identity = json.dumps({**note, "train": settings.model_dump(mode="json", exclude=free)})
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        prior.prepare(degradation, stream(seed, Stream.TRAINING_PREPARATION))
        self.prior = prior.to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
        self.ema = {name: value.detach().clone() for name, value in self.prior.state_dict().items()}
        self.optimizer = Adam(self.prior.parameters(), lr=settings.learning_rate, fused=device.type in _FUSED)
        self.model = self.team.joined(self.prior)
        self.teacher, self.lpips = teacher, lpips if lpips is None else lpips.to(device)
        if teacher is not None:
            teacher.prior.to(device)
        if settings.batch % (self.team.size * settings.accumulate):
            shares = f"{self.team.size} processes with {settings.accumulate} parts each"
            raise TrainingError(f"train.batch: {settings.batch} does not divide by {shares}")
        if settings.told and not prior.spec.takes_parameters:
            raise TrainingError("train.told: this prior takes no parameters, it can only restore with its own")
        if settings.learns == "parameters" and (prior.spec.parameter_shape is None or self.team.size > 1):
            why = "this prior estimates none" if prior.spec.parameter_shape is None else "that is for one process"
            raise TrainingError(f"train.learns: parameters: {why}")
        step = math.lcm(degradation.scale, prior.spec.multiple, teacher.prior.spec.multiple if teacher else 1)
        if settings.crop % step:
            raise TrainingError(f"train.crop: {settings.crop} must divide by {step} for this operator and prior")
        try:
            degradation.output_shape((settings.crop, settings.crop))
        except ImageError as error:
            raise TrainingError(f"train.crop: {error}") from None
        found, self.notes = find_photos(settings.data)
        self.photos = PhotoCrops(found, settings.crop, settings.rescale, seed)
        self.validation: Validation | None = None
        if validate is not None:
            try:
                self.validation = Validation(validate, degradation, prior, settings.crop, seed)
            except ImageError as error:
                raise TrainingError(f"--validate: {error}") from None
        self.best = -math.inf
        self.log, self.losses = Log(self.folder, self._board(board)), Losses()
        self.step = 0
        self.seconds = 0.0
        self.bfloat16: bool | None = None if settings.precision == "auto" else settings.precision == "bfloat16"
        self.compiled: bool | None = None if settings.compile else False

    def _board(self, folder: Path | None) -> Board | None:
        """The leader's alone: the others write nothing."""
        return Board(folder) if folder is not None and self.team.leads else None

    @property
    def checkpoint(self) -> Path:
        """Where the state is kept; that of a stable run stays as it is while a copy of it cools down."""
        return self.folder / ("cooldown.safetensors" if self.cooling else "checkpoint.safetensors")

    @property
    def weights(self) -> Path:
        """Where the averaged weights are kept; cooled ones have a name of their own."""
        return self.folder / ("cooled.safetensors" if self.cooling else WEIGHTS)

    def cool_down(self, steps: int) -> None:
        """End a run well: let the rate fall to nothing over so many steps, from where the run stands.

        The run's own checkpoint stays, so that it can go on later as if it had not cooled down. A cooldown that was
        interrupted goes on.
        """
        if self.settings.decay == "cosine":
            cooled = "a rate that falls by 'decay: cosine' has cooled down by itself at the end"
            raise TrainingError(f"--cooldown: {cooled}; leave the option out")
        begun = self.step
        self.settings = self.settings.model_copy(update={"steps": begun + steps, "cooldown": steps})
        self.cooling = True
        if self.checkpoint.exists():
            _, header = read_tensors(self.checkpoint)
            if (header.get("begun"), header.get("ends")) == (str(begun), str(begun + steps)):
                self.resume()

    def save(self) -> None:
        """Write the checkpoint and the EMA weights, each atomically; the leader of several processes alone does.

        Raises :class:`TrainingError`, and writes nothing, where they are not finite.
        """
        if not self.team.leads:
            return
        tensors = {f"model.{name}": value for name, value in self.prior.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.items()}
        tensors |= adam_tensors(self.optimizer)
        tensors["losses.sums"] = self.losses.sums
        try:
            refuse_non_finite(tensors)
        except TrainingError as error:
            raise TrainingError(f"after step {self.step}, {error}{self._good_state()}") from None
        header = {"step": str(self.step), "seconds": str(self.seconds), "identity": self.identity}
        header |= {"losses": str(self.losses.steps), "best": str(self.best)}
        header["optimized"] = str(len(self.optimizer.state))
        header["precision"] = "bfloat16" if self.bfloat16 else "float32"
        header["compiled"] = "yes" if self.compiled else "no"
        if self.cooling:
            ends = self.settings.steps
            header |= {"begun": str(ends - self.settings.cooldown), "ends": str(ends)}
        write_atomic(self.checkpoint, encode({n: v.contiguous().cpu() for n, v in tensors.items()}, header))
        self._save_weights(self.weights.name)

    def _save_weights(self, name: str) -> None:
        note = {**self.note, "step": self.step, "seconds": round(self.seconds, 1)}
        with self._averaged() as prior:
            save_prior(prior, self.kind, self.folder / name, note=note)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[PriorNet]:
        """The prior with its averaged weights, in evaluation mode."""
        current = {name: value.clone() for name, value in self.prior.state_dict().items()}
        self.prior.load_state_dict(self.ema)
        self.prior.eval()
        try:
            yield self.prior
        finally:
            self.prior.train()
            self.prior.load_state_dict(current)

    def resume(self) -> None:
        """Take up the folder's checkpoint: the run goes on as if it had never stopped."""
        if not self.checkpoint.exists():
            raise TrainingError(f"{self.checkpoint}: no checkpoint to resume from; leave --resume out to begin")
        tensors, header = read_tensors(self.checkpoint)
        if not same_run(header.get("identity"), self.identity):
            raise TrainingError(f"{self.checkpoint}: belongs to a run with other settings; use another folder")
        try:
            self._take_up(tensors, header)
        except (KeyError, ValueError, TypeError, RuntimeError, OverflowError, TrainingError) as error:
            why = str(error) if isinstance(error, TrainingError) else with_kind(error)
            raise TrainingError(f"{self.checkpoint}: damaged ({why[:200]})") from None

    def _take_up(self, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
        refuse_non_finite(tensors)
        own = self.prior.state_dict()
        self.step, self.seconds = int(header["step"]), number(header, "seconds", 0)
        if self.step < 1:
            raise TrainingError(f"'step' is {self.step}")
        self.best = number(header, "best", -math.inf) if "best" in header else -math.inf
        self.losses = losses_so_far(tensors, header, self.step)
        packed = self.optimizer.state_dict()
        count = int(header["optimized"]) if "optimized" in header else None  # checkpoints of before do not say
        packed["state"] = adam_state(tensors, list(self.prior.parameters()), self.step, count)
        self.ema = {name: value.to(self.device) for name, value in alike("ema.", tensors, own).items()}
        self.prior.load_state_dict(alike("model.", tensors, own))
        self.optimizer.load_state_dict(packed)
        if self.settings.precision == "auto":  # measured once a run: another answer would be another run
            self.bfloat16 = header.get("precision") == "bfloat16"
        if self.settings.compile == "auto":
            self.compiled = header.get("compiled") == "yes"

    def run(self, tell: Tell = nobody) -> None:
        """Train to the end, or until Ctrl-C, which waits for the end of the step and leaves a checkpoint.

        Stops at a non-finite loss; the last checkpoint on disk is from before it.
        """
        with self.log.after(self.step) if self.team.leads else contextlib.nullcontext():
            if self.team.leads and self.step:  # a kill may have come between checkpoint and weights
                self._save_weights(self.weights.name)
            self._choose(tell)
            with interrupts_between_steps() as interrupted:
                self._run(tell, interrupted)

    def _choose(self, tell: Tell) -> None:
        """What is left to be measured: the leader does, and all do as it says."""
        images = self.settings.batch // (self.team.size * self.settings.accumulate)
        asked = (self.prior, self.settings, self.device, images)

        def told(choice: Callable[[], tuple[bool, str]]) -> bool:
            chosen, why = choice() if self.team.leads else (False, "")
            if why:
                tell(Event(self.step, self.settings.steps, "training", line=why))
            return self.team.any(chosen)

        if self.bfloat16 is None:
            self.bfloat16 = told(lambda: choose_bfloat16(*asked))
        if self.compiled is None:
            self.compiled = told(lambda: choose_compiled(*asked, bool(self.bfloat16)))
        if self.compiled:
            self.model = torch.compile(self.model)

    def _run(self, tell: Tell, interrupted: threading.Event) -> None:
        started = since = time.monotonic()
        seconds, settings, told, logged = self.seconds, self.settings, 0, self.step
        for x in self._batches():
            values = self._one_step(x)
            if not bool(values.isfinite().all()):
                raise TrainingError(f"the loss is not finite at step {self.step + 1}{self._good_state()}")
            self.step += 1
            self.seconds = seconds + time.monotonic() - started
            self.losses.add(values)
            for failure in list(self.photos.broken.values())[told:]:
                told += 1
                tell(Event(self.step, settings.steps, "training", failure=f"left out: {failure}"))
            if self.step % settings.log_every == 0 or self.step == settings.steps:
                now = time.monotonic()
                self._record((self.step - logged) * settings.batch / (now - since), tell)
                since, logged, self.losses = now, self.step, Losses()
            if self.validation and (self.step % settings.validate_every == 0 or self.step == settings.steps):
                self._validate(self.validation, tell)
            kept = self.step % settings.checkpoint_every == 0 or self.step == settings.steps
            if kept:
                self.save()
            if self.team.any(interrupted.is_set()):
                if not kept:
                    self.save()
                raise KeyboardInterrupt

    def _good_state(self) -> str:
        return f"; {self.checkpoint} is the last good state" if self.checkpoint.exists() else ""

    def _record(self, rate: float, tell: Tell) -> None:
        total, image, parameter = self.losses.mean().tolist()
        settings = self.settings
        if not self.team.leads:
            return
        self.log.append(
            {
                "step": self.step,
                "steps": settings.steps,
                "loss": total,
                "image_loss": image,
                "parameter_loss": parameter,
                "learning_rate": learning_rate(settings, self.step - 1),
                "images_per_second": rate,
                "seconds": round(self.seconds, 1),
            }
        )
        note = f"image {image:.4f}  parameters {parameter:.4f}  {rate:.1f} img/s"
        self._tell(tell, note, _time((settings.steps - self.step) * settings.batch / rate))

    def _tell(self, tell: Tell, note: str, left: str = "") -> None:
        """``left``, the time to the end, is for logs: a progress bar has its own."""
        steps = self.settings.steps
        line = f"step {self.step}/{steps}  {note}" + (f" about {left} left" if left else "")
        tell(Event(self.step, steps, "training", note, line=line))

    def _validate(self, validation: Validation, tell: Tell) -> None:
        """Measure the averaged weights, keep them if they are the best so far, draw the curve."""
        if not self.team.leads:
            return
        with self._averaged() as prior:
            found = validation(prior, self.device)
        self.log.append({"step": self.step, "validation": {name: round(value, 5) for name, value in found.items()}})
        if found["psnr_y"] > self.best and not self.cooling:
            self.best = found["psnr_y"]
            self._save_weights("best.safetensors")
        self.log.draw(validation.baseline["psnr_y"])
        note = f"validation {found['psnr_y']:.2f} dB ({found['gain']:+.2f})"
        self._tell(tell, note)

    def _one_step(self, x: Tensor) -> Tensor:
        """One update from this process's share of the batch; the losses of the whole batch."""
        settings, parts = self.settings, self.settings.accumulate
        self.optimizer.zero_grad(set_to_none=True)
        values = torch.zeros(3, device=self.device)
        numbers, told, bfloat16 = self._numbers(self.step), is_told(settings, self.step), bool(self.bfloat16)
        for i, (images, mine) in enumerate(zip(x.chunk(parts), _chunks(numbers, parts), strict=True)):
            generators = [stream(self.seed, Stream.TRAINING_STEP, number) for number in mine]
            given = lesson(self.prior, self.degradation, images, settings.noise, generators)
            if self.loop is not None:
                given += walk(self.prior, self.degradation, self.loop, given, generators, bfloat16=bfloat16)
            with self.team.apart(self.model) if i < parts - 1 else contextlib.nullcontext():
                asked = (self.prior, self.model, self.degradation, given, settings)
                found = losses(*asked, told=told, bfloat16=bfloat16, teacher=self.teacher, lpips=self.lpips)
                (found[0] / parts).backward()
            values += torch.stack([value.detach() for value in found]).float() / parts
        norm = torch.nn.utils.clip_grad_norm_(self.prior.parameters(), settings.clip)
        values = self.team.mean(values).cpu()
        if not bool(torch.isfinite(norm)) or not bool(values.isfinite().all()):
            return values * torch.nan  # no update: the weights stay good
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        self.optimizer.step()
        decay = min(settings.ema, (1 + self.step) / (10 + self.step))
        floats = {name: value for name, value in self.prior.state_dict().items() if value.is_floating_point()}
        with torch.no_grad():
            torch._foreach_lerp_([self.ema[name] for name in floats], list(floats.values()), 1 - decay)
        return values

    def _numbers(self, step: int) -> list[int]:
        """This process's images of a step, by their numbers in the run."""
        share = self.settings.batch // self.team.size
        first = step * self.settings.batch + self.team.rank * share
        return list(range(first, first + share))

    def _batches(self) -> Iterator[Tensor]:
        """This process's share of each batch from the current step on, read ahead by a few threads."""
        settings, ahead = self.settings, 2 * self.settings.workers
        with ThreadPoolExecutor(settings.workers) as pool:
            queue: list[Future[Tensor]] = []
            for step in range(self.step, settings.steps + ahead):
                if step < settings.steps:
                    queue.append(pool.submit(self.photos.batch, self._numbers(step)))
                if len(queue) > ahead or (step >= settings.steps and queue):
                    yield queue.pop(0).result().to(self.device)
            while queue:
                yield queue.pop(0).result().to(self.device)


def _chunks(numbers: list[int], parts: int) -> list[list[int]]:
    size = len(numbers) // parts
    return [numbers[i * size : (i + 1) * size] for i in range(parts)]


def _time(seconds: float) -> str:
    """A duration as people say it; nothing for none."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds > 1.5 * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 0.5 else ""
