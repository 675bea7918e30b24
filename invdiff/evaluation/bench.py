"""Where one contender restores one case: the row that comes of it, and the files behind the row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ..degradation import KernelSpace
from ..errors import ImageError
from ..io.atomic import write_atomic
from ..io.decoding import load
from ..io.pictures import Photo, save_png
from ..io.sheets import array_bytes
from ..method import Restoration
from ..metrics.result import Judge
from .contenders import Contender
from .measure import Watch, measured, written
from .plan import PlannedCase
from .results import Place, Results, Row


class Bench:
    """Makes rows, or completes those of an earlier call, in one folder of results.

    ``judges`` are the metrics with weights of their own; ``trace``: look at every step.
    """

    def __init__(self, results: Results, judges: Sequence[Judge], *, trace: bool) -> None:
        self.results, self.judges, self.trace = results, judges, trace

    def completed(self, known: Row, planned: PlannedCase, contender: Contender) -> Row | None:
        """An earlier call's row, with numbers that it lacks measured on its saved picture, which is what they are
        taken of. None where it has to be made again: its picture is not there or damaged, or steps are asked for."""
        judges = {judge.name: judge for judge in self.judges}
        untraced = not known.trace or not judges.keys() <= known.trace[0].keys()
        if self.trace and contender.traced and untraced:
            return None
        path = self.results.path(known.place, ".png")
        missing = {name: judge for name, judge in judges.items() if name not in known.values}
        if not path.is_file():
            return None
        if not missing:
            return known
        try:
            image = load(path).pixels
        except ImageError:
            return None
        found = {name: judge(image, planned.subject.framed) for name, judge in missing.items()}
        row = replace(known, values={**known.values, **written(found)})
        self.results.save(row)
        return row

    def restored(self, place: Place, planned: PlannedCase, contender: Contender) -> Row:
        """A row made anew, with its files."""
        watch = Watch(planned, self.judges, estimates=contender.estimates)
        started = time.monotonic()
        found = contender.restore(planned.case, watch if self.trace and contender.traced else None)
        seconds = time.monotonic() - started - watch.seconds
        framed = planned.subject.framed
        if found.image.shape != framed.shape or not bool(found.image.isfinite().all()):
            shapes = f"{tuple(found.image.shape)} for {tuple(framed.shape)}"
            raise ImageError(f"the method's image is of the wrong size, or not finite ({shapes})")
        values = written({**measured(found, planned, self.judges), "seconds": seconds})
        known = self.results.rows.get(place)  # whose picture is gone, or which has no trace: keep the rest
        before, trace = (known.values, known.trace) if known else ({}, [])
        row = Row(place, planned.subject.digest, {**before, **values}, watch.steps or trace)
        self._save(row, found, planned, watch)
        return row

    def _save(self, row: Row, found: Restoration, planned: PlannedCase, watch: Watch) -> None:
        """A result's files, its record last."""
        results, place, operator = self.results, row.place, planned.case.degradation
        shown = operator.frame(operator.baseline(planned.case.y[None])[0])
        save_png(Photo(planned.subject.framed).to_array(), results.truth(place))
        save_png(Photo(shown).to_array(), results.path(place, ".png", "_input"))
        save_png(Photo(found.image).to_array(), results.path(place, ".png"))
        if isinstance(operator.parameters, KernelSpace):
            kernels = (
                (planned.case.parameters, results.path(place, ".npy", "_kernels")),
                (found.parameters, results.path(place, ".kernel.npy")),
                (watch.first, results.path(place, ".first.npy")),
            )
            for kernel, path in kernels:
                if kernel is not None:
                    write_atomic(path, array_bytes(kernel))
        results.save(row)
