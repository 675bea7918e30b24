"""What a terminal shows: progress bars and the table at the end."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..evaluation.evaluation import Evaluation, Event
from ..metrics.result import border_of
from ..restoring.jobs import Job
from ..restoring.run import Outcome, Run, means
from ..sampler import StepRecord
from ..training.trainer import Trainer, TrainRecord

_TITLES = {
    "psnr_rgb": "PSNR-RGB (dB)",
    "psnr_y": "PSNR-Y (dB)",
    "ssim_y": "SSIM-Y",
    "lpips_vgg": "LPIPS (VGG)",
    "lpips_alex": "LPIPS (Alex)",
    "kernel_l1": "kernel L1",
    "kernel_l1_shifted": "kernel L1, shifted",
    "mnc": "MNC",
    "lr_psnr": "LR-PSNR (dB)",
}


class _Display:
    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()


class RunDisplay(_Display):
    """Steps of all pictures and the time left, then a table of the metrics."""

    def __init__(self, run: Run, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.run = run
        self.steps = run.pipeline.recipe.sampler.steps
        self.task = self.progress.add_task("restoring", total=self.steps * len(run.jobs), note="")
        self.finished = 0
        run.on_step = self.step

    def step(self, job: Job, record: StepRecord) -> None:
        self.progress.update(self.task, completed=self.finished * self.steps + record.index + 1, description=job.stem)

    def done(self, outcome: Outcome) -> None:
        self.finished += 1
        self.progress.update(self.task, completed=self.finished * self.steps)
        if outcome.failed:
            source, error = outcome.entry["input"], outcome.entry["error"]
            click.echo(f"failed: {error}" if source in error else f"failed: {source}: {error}", err=True)

    def finish(self, outcomes: list[Outcome], *, interrupted: bool = False) -> None:
        self.progress.stop()
        restored = [o for o in outcomes if not o.failed and not o.skipped]
        skipped = sum(o.skipped for o in outcomes)
        failed = sum(o.failed for o in outcomes)
        if not self.quiet:
            self._table([o for o in outcomes if not o.failed])
        counts = f"{len(restored)} restored"
        counts += f", {skipped} already done" if skipped else ""
        counts += f", {failed} failed" if failed else ""
        if interrupted:
            counts = f"interrupted: {counts}, {len(self.run.jobs) - len(outcomes)} left"
        if not self.quiet or interrupted:
            click.echo(f"{counts}; results and report.json in {self.run.folder}", err=interrupted)

    def _table(self, outcomes: list[Outcome]) -> None:
        entries = [o.entry for o in outcomes]
        average = means(entries)
        names = [n for n in _TITLES if n in average]
        # In deblurring nobody can know of a shift; in super-resolution the custom is luma.
        shiftable = self.run.pipeline.degradation.scale == 1
        names = [n for n in names if n not in (("kernel_l1", "lr_psnr") if shiftable else ("psnr_rgb", "mnc"))]
        table = Table(title=f"restored / {self.baseline}" if names else None)
        table.add_column("picture")
        for name in names:
            table.add_column(_TITLES[name], justify="right")
        table.add_column("residual", justify="right")
        table.add_column("seconds", justify="right")
        for entry in entries:
            residual = entry["residual"]
            cells = [_cell(entry.get("metrics") or {}, n) for n in names]
            table.add_row(
                entry["stem"], *cells, "" if residual is None else f"{residual:.4f}", f"{entry['seconds']:.1f}"
            )
        if len(entries) > 1 and names:
            table.add_section()
            table.add_row("mean", *(_cell(average, n) for n in names), "", "")
        # A pipe has no width; a table cut short in a log would be of no use.
        Console(width=None if sys.stdout.isatty() else 140).print(table)
        if names:
            border = border_of(self.run.pipeline.degradation)
            click.echo(f"PSNR and SSIM: BT.601 luma, border {border}, 8-bit output. Seconds: restoring alone.")

    @property
    def baseline(self) -> str:
        return "bicubic" if self.run.pipeline.degradation.scale > 1 else "input"


def _cell(metrics: dict[str, float], name: str) -> str:
    value, baseline = metrics.get(name), metrics.get(f"{name}_baseline")
    if value is None:
        return ""
    digits = 2 if name.endswith("psnr") or name.startswith("psnr") else 4
    return f"{value:.{digits}f}" + ("" if baseline is None else f" / {baseline:.{digits}f}")


class TrainDisplay(_Display):
    """Steps, losses, images a second and the time left."""

    def __init__(self, trainer: Trainer, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.task = self.progress.add_task(
            "training", total=trainer.settings.steps, completed=trainer.step, note="starting"
        )

    def record(self, record: TrainRecord) -> None:
        note = (
            f"image {record.image_loss:.4f}  kernel {record.parameter_loss:.4f}  {record.images_per_second:.1f} img/s"
        )
        self.progress.update(self.task, completed=record.step, note=note)
        if not self.quiet and not self.progress.console.is_terminal:
            click.echo(f"step {record.step}/{record.steps}  {note}", err=True)


class EvalDisplay(_Display):
    """Rows done and the time left; failures as they happen, and where the tables are."""

    def __init__(self, work: Evaluation, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.work = work
        self.task = self.progress.add_task("evaluating", total=work.total, note="")
        self.made = self.skipped = 0
        for note in () if quiet else work.options.notes:
            click.echo(note, err=True)

    def show(self, event: Event) -> None:
        self.made += event.row is not None and not event.skipped
        self.skipped += event.skipped
        self.progress.update(self.task, completed=event.done, description=event.label)
        if event.failure:
            click.echo(f"failed: {event.failure}", err=True)

    def finish(self, *, interrupted: bool = False) -> None:
        self.progress.stop()
        folder, failed = self.work.results.folder, len(self.work.failures)
        counts = f"{self.made} rows measured"
        counts += f", {self.skipped} already done" if self.skipped else ""
        counts += f", {failed} failures" if failed else ""
        if interrupted:
            counts = f"interrupted: {counts}"
        elif not self.quiet:
            click.echo((folder / "summary.md").read_text(encoding="utf-8"))
        if not self.quiet or interrupted:
            click.echo(f"{counts}; results.csv, summary.md and report.html in {folder}", err=interrupted)
