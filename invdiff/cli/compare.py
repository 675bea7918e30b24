"""``invdiff compare``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvdiffError, printable
from .main import PLACE, debug_option, json_option, main, say_json

if TYPE_CHECKING:
    from ..io.plain import Difference
    from ..metrics.comparison import Compared


@dataclass(frozen=True)
class Comparison:
    """What two folders say against each other.

    ``groups`` are by heading, over the things that both have; ``alone`` are lines on what only one has, ``apart`` how
    near the pictures are to each other, PSNR-RGB in dB by name.
    """

    settings: Sequence[Difference]
    groups: dict[str, list[Compared]]
    alone: Sequence[str]
    apart: dict[str, float]


@main.command(
    examples=(
        ("invdiff compare out/ out7/", "what a change of settings did to the same photo"),
        ("invdiff compare out/ out7/ --json", "the same for a script"),
    )
)
@click.argument("a", type=PLACE)
@click.argument("b", type=PLACE)
@json_option
@debug_option
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Set two results against each other: folders A and B of 'invdiff run', or of 'invdiff eval'.

    Pairs are what both have: the same picture, under the same kernel, by the same method.
    """
    found = _compared(a, b)
    if as_json:
        say_json(_plain(found))
        return
    from .display import print_table, print_words

    for difference in found.settings:
        click.echo(printable(f"{difference.key}: {difference.before} in A, {difference.now} in B"))
    if not found.settings:
        click.echo("the same settings")
    for line in found.alone:
        click.echo(printable(line))
    for heading, lines in found.groups.items():
        print_table(heading, ["", "A", "B", "B - A", "B better in"], [_cells(line) for line in lines])
    if found.apart:
        rows = [[name, f"{value:.2f} dB"] for name, value in found.apart.items()]
        print_table("A's picture beside B's", ["picture", "PSNR-RGB"], rows)
    metrics = {line.metric.title: line.metric.meaning for lines in found.groups.values() for line in lines}
    sign = {"B - A": "mean over the pairs, and its standard error: a difference of less than two of them may be chance"}
    print_words(metrics | sign)


def _compared(a: Path, b: Path) -> Comparison:
    from ..evaluation import compare as evaluations

    for folder in (a, b):
        if not folder.is_dir():
            raise InvdiffError(f"{folder}: no such folder; give two folders that 'invdiff run' or 'invdiff eval' wrote")
    kinds = {(folder / evaluations.EVALUATION).exists() for folder in (a, b)}
    if len(kinds) == 2:
        raise InvdiffError(f"{a} and {b}: one is of 'invdiff run', the other of 'invdiff eval'; give two of one kind")
    found = _of_evaluations(a, b) if kinds == {True} else _of_runs(a, b)
    if not any(found.groups.values()) and not found.apart:
        raise InvdiffError(f"{a} and {b}: no picture is in both; give two results of the same pictures")
    return found


def _of_runs(a: Path, b: Path) -> Comparison:
    from ..metrics.comparison import compare
    from ..restoring.compare import numbers_of, pictures_apart, read_report, settings_apart

    reports = [read_report(folder) for folder in (a, b)]
    ours, theirs = (numbers_of(report) for report in reports)
    both = [stem for stem in ours if stem in theirs]
    groups = {f"{len(both)} pictures": compare(ours, theirs)}
    apart = pictures_apart(list(zip((a, b), reports, strict=True)), both)
    return Comparison(settings_apart(*reports), groups, list(_alone(ours, theirs)), apart)


def _of_evaluations(a: Path, b: Path) -> Comparison:
    from ..evaluation.compare import numbers_of, settings_apart
    from ..metrics.comparison import compare

    ours, theirs = (numbers_of(folder) for folder in (a, b))
    groups = {}
    for key in (key for key in ours if key in theirs):
        pairs = sum(case in theirs[key] for case in ours[key])
        dataset, kernels, method = key
        groups[f"{method}: {dataset}, kernels {kernels}, {pairs} rows"] = compare(ours[key], theirs[key])
    names = [[f"{m}: {d}, kernels {k}" for d, k, m in side] for side in (ours, theirs)]
    return Comparison(settings_apart(a, b), groups, list(_alone(*names)), {})


def _alone(ours: Any, theirs: Any) -> Iterator[str]:
    for label, names in (("A", [n for n in ours if n not in theirs]), ("B", [n for n in theirs if n not in ours])):
        if names:
            yield f"only in {label}: {', '.join(names)}"


def _cells(line: Compared) -> list[str]:
    metric = line.metric
    error = "" if line.error is None else f" ± {metric.number(line.error)}"
    wins = "" if line.better is None else f"{line.better} of {line.pairs}"
    step = f"{line.difference:+.{metric.digits}f}{error}"
    return [metric.heading, metric.number(line.a), metric.number(line.b), step, wins]


def _plain(found: Comparison) -> dict[str, Any]:
    def record(line: Compared) -> dict[str, Any]:
        return {**vars(line), "metric": line.metric.name}

    return {
        "settings": [vars(difference) for difference in found.settings],
        "groups": {heading: [record(line) for line in lines] for heading, lines in found.groups.items()},
        "alone": found.alone,
        "psnr_rgb_of_a_beside_b": found.apart,
    }
