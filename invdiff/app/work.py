"""The work on one order: what ``invdiff run`` does, watched, and stopped when somebody says so."""

from __future__ import annotations

import math
import shlex
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from torch.overrides import TorchFunctionMode

from ..io.decoding import TooManyPixelsError, load
from ..io.pictures import Photo, encode_png, from_array, save_png
from ..io.plain import parse_json
from ..io.sheets import kernel_picture
from ..metrics.glossary import words_in
from ..restoring.jobs import Job
from ..restoring.run import Run, RunOptions
from ..sampler import StepRecord
from ..tiling import tiles_told
from .orders import Order, PagePicture, view_of

_PREVIEW, _WHOLE = 1024, 4096
"""Longest sides of what a page is shown: on the way, and at the end."""


class Stopped(BaseException):
    """Somebody said stop. No ``Exception``: a run notes those as failures, and goes on."""


class Stoppable(TorchFunctionMode):
    """Within it, in this thread, the next operation of torch's after ``stop`` is set raises :class:`Stopped`."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self.stop = stop

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.stop.is_set():
            raise Stopped
        return func(*args, **(kwargs or {}))


def work_on(order: Order, device: str) -> None:
    """Restore the order's photo into its folder; its state is then ``done`` or ``failed``.

    Raises :class:`Stopped` where it was stopped before there is a result, and :class:`InvdiffError` for a recipe that
    must be changed.
    """
    pipeline = order.task.pipeline(order.dial, device)
    photo = load(order.source)
    walked = pipeline.fitting(photo)
    operator = walked.degradation
    size = (photo.pixels.shape[-2], photo.pixels.shape[-1])
    order.steps = walked.sampler.steps_in_all

    def on_step(record: StepRecord) -> None:
        order.show("after", view_of(photo.restored(operator.frame(record.x0)[0]), _PREVIEW, 85))
        shown = None if record.theta is None else operator.shown(record.theta[0].cpu(), size)
        if shown is not None:
            kernel = kernel_picture(shown, 210)
            order.show("kernel", PagePicture(encode_png(kernel), "image/png"))
        order.step, order.progress = record.index + 1, (record.index + 1) / record.steps

    def on_tile(number: int, count: int) -> None:
        order.progress = max(order.progress, (order.step + number / count) / order.steps)

    job = Job(order.stem, order.name, order.source)
    run = Run(pipeline, [job], order.folder, RunOptions(goes_on=False), recipe=order.task.recipe)
    with Stoppable(order.stop), tiles_told(walked.prior, on_tile):
        run.run(watch=on_step)
    (outcome,) = run.outcomes
    if outcome.failed:
        order.failure = without_place(outcome.entry["error"], order)
        order.state = "failed"
        return
    order.show("after", view_of(load(order.folder / f"{order.stem}.png"), _WHOLE))
    order.words = words_of(parse_json(run.report_path.read_text(encoding="utf-8")), order)
    order.glossary = words_in(text for line in order.words for text in line.values())
    order.progress, order.state = 1.0, "done"


def without_place(error: str, order: Order) -> str:
    """An error with the photo's own name where it names the file that the server made of it."""
    return error.replace(str(order.source), order.name)


def words_of(report: Mapping[str, Any], order: Order) -> list[dict[str, str]]:
    """The report in words: lines of a label, a text and what it means, from what ``report.json`` holds."""
    (entry,) = report["images"]
    settings, residual = report["settings"], entry["residual"]
    counts = f"{_counted(entry['steps'], 'step')}, {_counted(entry['evaluations'], 'evaluation')} of the network"
    dial = "0 is faithful and smooth; towards 1 texture is drawn, which may be invented"
    words = entry.get("words") or {}
    labels = {"found": "Found", "done": "Done", "fit": "Your photo"}
    found = [(label, words[name], "") for name, label in labels.items() if name in words]
    found += [
        ("Time", f"{entry['seconds']:.1f} s, {counts}", ""),
        ("Dial", f"{settings['sampler']['temperature']:g}", dial),
    ]
    if residual is not None:
        levels = f"{residual:.4f}, or {255 * residual:.1f} of 255 grey levels"
        convention = report["conventions"]["residual"]
        found.append(("Residual", levels, f"how far your photo is from the result, degraded again: {convention}"))
    found += [(name, f"{value:.3g}", "estimated") for name, value in (entry.get("parameters") or {}).items()]
    versions = ", ".join(f"{name} {report['versions'][name]}" for name in ("invdiff", "torch"))
    found.append(("Made by", f"recipe {report['recipe']}, seed {report['seed']}, {versions}, {report['device']}", ""))
    if order.shrunk:
        found.append(("Size", order.shrunk, "made smaller before it was restored"))
    else:
        call = ["invdiff", "run", order.task.recipe, order.name, "-o", "out/"]
        call += [word for change in order.task.dialled(order.dial) for word in ("--set", change)]
        found.append(("Again", shlex.join(call), "the same from the command line"))
    return [{"label": label, "text": text, "meaning": meaning} for label, text, meaning in found]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def seen_first(order: Order, most: int, smaller: bool = False) -> None:
    """Decode the photo once, to refuse what is none before it waits, and to show it; raises :class:`ImageError`.

    One of more than ``most`` pixels is refused with :class:`TooManyPixelsError`, or, with ``smaller``, shrunk to them.
    """
    try:
        photo = load(order.source, most)
    except TooManyPixelsError:
        if not smaller:
            raise
        whole = load(order.source)
        photo = shrunk(whole, most)
        order.shrunk = " to ".join("{2}x{1}".format(*each.pixels.shape) for each in (whole, photo))
        order.source.unlink()
        order.name, order.source = f"{order.stem}.png", order.source.with_suffix(".png")
        save_png(photo.to_array(), order.source, photo.metadata)
    order.show("before", view_of(photo, _WHOLE))


def shrunk(photo: Photo, most: int) -> Photo:
    """A photo with fewer pixels, ``most`` of them at most; in print it stays as large as it was."""
    height, width = photo.pixels.shape[-2:]
    factor = math.sqrt(most / (height * width))
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    picture = Image.fromarray(photo.to_array()).resize(size, Image.Resampling.LANCZOS)
    return replace(from_array(np.asarray(picture)), metadata=photo.metadata.enlarged(size[0] / width))
