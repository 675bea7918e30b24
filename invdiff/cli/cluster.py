"""``invdiff run --engine dask``: pictures on the processes of a cluster, this machine's own or any other's."""

from __future__ import annotations

import logging
import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..assembly import assemble, read
from ..errors import InvdiffError, reason
from ..metrics.lpips import LPIPS
from ..recipe.recipe import Pace
from ..restoring.jobs import Job
from ..restoring.run import Outcome, Run, RunOptions, Spread, failed
from .machine import allowed_cpus
from .main import deterministic

_PATIENCE = 10  # seconds that a scheduler has to answer


@dataclass(frozen=True)
class Errand:
    """What a worker makes its own run of: the recipe, changes to it, and the options but for LPIPS, which it reads.

    Paths must lead to the same files everywhere. ``number`` tells one call of the command from the next, in workers
    that outlive it.
    """

    recipe: str
    overrides: tuple[str, ...]
    seed: int | None
    pace: Pace | None
    device: str
    choose: bool
    folder: Path
    options: RunOptions
    lpips: Path | None
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __hash__(self) -> int:
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Errand) and other.number == self.number


@contextmanager
def spread_by_dask(errand: Errand, scheduler: str | None) -> Iterator[Spread]:
    """A way to restore jobs on the cluster with that scheduler, or on processes of this machine, one for each core.

    A worker that dies costs its picture another try, which Dask sees to; a picture over which four have died fails.
    Raises :class:`InvdiffError` where Dask is not there, or no scheduler.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InvdiffError("--engine dask: wants Dask: pip install 'invdiff[dask]'") from None
    with ExitStack() as opened:
        place = scheduler
        if scheduler is None:
            processes = 1 if errand.device == "cuda" else allowed_cpus()
            with _unheard_by_children():
                place = opened.enter_context(
                    LocalCluster(
                        n_workers=processes, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
                    )
                )
        try:
            client = opened.enter_context(Client(place, timeout=_PATIENCE))
        except (OSError, ValueError) as error:
            raise InvdiffError(f"--scheduler {scheduler}: {reason(error)}") from None
        yield lambda jobs: _restored(client, errand, jobs)


@contextmanager
def _unheard_by_children() -> Iterator[None]:
    """Processes that are started within it do not hear Ctrl-C, which a terminal sends to all: this one ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _restored(client: Any, errand: Errand, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
    from distributed import as_completed

    told = client.scatter(errand, broadcast=True, hash=False)
    futures = {client.submit(restore_one, told, _anywhere(job), pure=False): job for job in jobs}
    for future in as_completed(futures):
        error, job = future.exception(), futures[future]
        outcome = failed(job, f"its worker died: {reason(error)}") if error is not None else future.result()
        if outcome.failed and job.path is not None:  # said of the picture as it was named
            text = str(outcome.entry["error"]).replace(str(job.path.resolve()), job.input)
            outcome = failed(job, text)
        yield job, outcome


def _anywhere(job: Job) -> Job:
    """A job whose paths do not depend on where a process runs."""
    path, reference = (None if place is None else place.resolve() for place in (job.path, job.reference))
    return replace(job, path=path, reference=reference)


def restore_one(errand: Errand, job: Job) -> Outcome:
    """What a worker does."""
    return _run_of(errand).one(job)


@lru_cache(maxsize=1)
def _run_of(errand: Errand) -> Run:
    deterministic()
    recipe = read(errand.recipe, errand.overrides, errand.seed, errand.pace)
    pipeline = assemble(recipe, errand.device, choose=errand.choose)
    options = errand.options if errand.lpips is None else replace(errand.options, lpips=LPIPS(errand.lpips))
    return Run(pipeline, [], errand.folder, options, recipe=errand.recipe)
