"""What a terminal shows: progress bars, lines in a log, and the table at the end. Displays are told what happens."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import printable
from ..evaluation.evaluation import Evaluation
from ..evaluation.publish import Published
from ..io.progress import Event
from ..metrics.catalogue import METRICS, RESIDUAL
from ..metrics.result import border_of
from ..restoring.result import means
from ..restoring.run import Run
from ..training.trainer import Trainer
from .main import say_json


class Display:
    """A progress bar where there is a terminal, lines for a log elsewhere. Failures are always said."""

    def __init__(self, doing: str, total: int, *, done: int = 0, quiet: bool) -> None:
        self.quiet = quiet
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self.task = self.progress.add_task(doing, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._hide()

    def _hide(self) -> None:
        if not self.progress.disable:  # rich 13 would print an empty line
            self.progress.stop()

    def show(self, event: Event) -> None:
        """What a job tells."""
        self.progress.update(self.task, completed=event.done, description=printable(event.label), note=event.note)
        if event.failure:
            click.echo(f"failed: {printable(event.failure)}", err=True)
        elif event.notice and not self.quiet:
            click.echo(printable(event.notice), err=True)
        elif event.line and not self.quiet and not self.progress.console.is_terminal:
            click.echo(printable(event.line), err=True)


class TrainDisplay(Display):
    """Steps, losses, images a second and the time left."""

    def __init__(self, trainer: Trainer, *, quiet: bool) -> None:
        super().__init__("training", trainer.settings.steps, done=trainer.step, quiet=quiet)


class RunDisplay(Display):
    """Steps of all pictures and the time left, then a table of the metrics."""

    def __init__(self, work: Run, *, quiet: bool, as_json: bool) -> None:
        super().__init__("restoring", work.steps * len(work.jobs), quiet=quiet)
        self.work, self.as_json = work, as_json

    def finish(self, *, interrupted: bool = False) -> None:
        """The table, and what became of the pictures."""
        self._hide()
        outcomes = self.work.outcomes
        skipped, failed = sum(o.skipped for o in outcomes), sum(o.failed for o in outcomes)
        if self.as_json:
            images = [o.entry for o in outcomes]
            say_json({"folder": str(self.work.folder), "left": len(self.work.jobs) - len(outcomes), "images": images})
            return
        if not self.quiet:
            self._words([o.entry for o in outcomes if not o.failed])
            self._table([o.entry for o in outcomes if not o.failed])
        counts = f"{len(outcomes) - skipped - failed} restored"
        counts += f", {skipped} already done" if skipped else ""
        counts += f", {failed} failed" if failed else ""
        if interrupted:
            counts = f"interrupted: {counts}, {len(self.work.jobs) - len(outcomes)} left"
        if not self.quiet or interrupted:
            click.echo(f"{counts}; results and report.json in {self.work.folder}", err=interrupted)

    def _words(self, entries: list[dict[str, Any]]) -> None:
        """What was found in each picture, and what became of it, in two lines."""
        for entry in entries:
            words = entry.get("words") or {}
            if words:
                click.echo(printable(f"{entry['stem']}: {words.get('found', '')}"))
                click.echo(printable("  " + "; ".join(text for name, text in words.items() if name != "found")))
            as_it_is = entry.get("metrics") is None and not entry.get("halved")
            if as_it_is and entry.get("findings", {}).get("noise", 0) >= _NOISY:
                click.echo("  much of its finest detail is noise, or texture as fine: --halve gives less of both")

    def _table(self, entries: list[dict[str, Any]]) -> None:
        operator = self.work.pipeline.degradation
        average = means(entries)
        # In deblurring nobody can know of a shift; in super-resolution the custom is luma.
        left_out = {"kernel_psnr_shifted"}
        left_out |= {"kernel_l1", "lr_psnr"} if operator.scale == 1 else {"psnr_rgb", "kernel_mnc"}
        names = [n for n in METRICS if n in average and n not in left_out]
        baseline = "bicubic" if operator.scale > 1 else "input"
        table = Table(title=f"restored / {baseline}" if names else None)
        table.add_column("picture")
        for name in names:
            table.add_column(METRICS[name].heading_with_unit, justify="right")
        table.add_column("residual", justify="right")
        table.add_column("seconds", justify="right")
        for entry in entries:
            residual = entry["residual"]
            cells = [_cell(entry.get("metrics") or {}, n) for n in names]
            seconds = f"{entry['seconds']:.1f}"
            table.add_row(
                escape(printable(entry["stem"])), *cells, "" if residual is None else f"{residual:.4f}", seconds
            )
        if len(entries) > 1 and names:
            table.add_section()
            table.add_row("mean", *(_cell(average, n) for n in names), "", "")
        _print(table)
        shown = [*(METRICS[name] for name in names), RESIDUAL, METRICS["seconds"]]
        second = {f"/ {baseline}": _BASELINES[baseline]} if names else {}
        print_words(second | {metric.title: metric.explained(border_of(operator)) for metric in shown})


def _cell(metrics: dict[str, float], name: str) -> str:
    value, baseline = (METRICS[name].number(metrics.get(key)) for key in (name, f"{name}_baseline"))
    return f"{value} / {baseline}" if value and baseline else value


_NOISY = 0.02
"""A photo's noise, on [0, 1], from which on a copy of half the size is worth a try: see docs/benchmarks.md."""

_BASELINES = {
    "bicubic": "the same of the photo enlarged without restoring it",
    "input": "the same of the photo as it is",
}


def print_table(title: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A table of texts, whose first column names the lines."""
    table = Table(title=escape(printable(title)) or None)
    for place, name in enumerate(head):
        table.add_column(escape(printable(name)), justify="right" if place else "left")
    for line in lines:
        table.add_row(*(escape(printable(cell)) for cell in line))
    _print(table)


def print_words(words: Mapping[str, str]) -> None:
    """What the words of a table say, a line a word."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for word, meaning in words.items():
        table.add_row(escape(word), escape(meaning))
    _print(table)


def _print(what: Table) -> None:
    # A pipe has no width; a table cut short in a log would be of no use.
    Console(width=None if sys.stdout.isatty() else 140).print(what)


class EvaluationDisplay(Display):
    """Rows done and the time left; failures as they happen, and where the tables are."""

    def __init__(self, work: Evaluation, *, quiet: bool, as_json: bool) -> None:
        super().__init__("evaluating", work.total, quiet=quiet)
        self.work, self.as_json = work, as_json
        for note in () if quiet else work.options.notes:
            click.echo(note, err=True)

    def finish(self, published: Published, *, interrupted: bool = False) -> None:
        """The tables, and what was done."""
        self._hide()
        folder, failed = self.work.results.folder, len(self.work.failures)
        if self.as_json:
            done = {"measured": self.work.made, "already_done": self.work.skipped, "interrupted": interrupted}
            say_json({"folder": str(folder), **done, "failures": self.work.failures, "means": published.means})
            return
        counts = f"{self.work.made} rows measured"
        counts += f", {self.work.skipped} already done" if self.work.skipped else ""
        counts += f", {failed} failures" if failed else ""
        if interrupted:
            counts = f"interrupted: {counts}"
        elif not self.quiet:
            for heading, table in published.tables.items():
                print_table(heading, table.head, table.body)
            print_words(published.words)
        if not self.quiet or interrupted:
            click.echo(f"{counts}; results.csv, summary.md and report.html in {folder}", err=interrupted)
