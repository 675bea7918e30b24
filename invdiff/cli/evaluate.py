"""``invdiff eval``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .main import EXIT_INTERRUPTED, EXIT_SOME_FAILED, _common, _deterministic, main


@main.command("eval")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--kernels", help="A registered set, or a file or folder of measured kernels [what the recipe draws].")
@click.option("--limit", type=click.IntRange(min=1), help="The first so many pictures of each dataset.")
@click.option("--repeat", type=click.IntRange(min=1), help="Kernels for each picture [a set's all, or one drawn].")
@click.option("--method", "methods", multiple=True, help="Another row: a registered method, 'oracle', or a recipe.")
@click.option("--variant", "variants", multiple=True, help="Another row: 'label: key=value' changes to the recipe.")
@click.option("--lpips", type=click.Path(path_type=Path), help="Folder with LPIPS weights; adds those metrics.")
@click.option("--fid", type=click.Path(path_type=Path), help="File with Inception weights; adds FID.")
@click.option("--trace", is_flag=True, help="Metrics of every step, and the kernels on the way.")
@click.option("--pictures", type=click.IntRange(min=0), default=8, show_default=True, help="Of a dataset, in the page.")
@_common
def evaluate(recipe: Path, data: tuple[Path, ...], output: Path, quiet: bool, **options: Any) -> None:
    """Measure RECIPE (a file, or a folder of recipes) on folders DATA of clean pictures, and others beside it."""
    from ..evaluation.request import prepare
    from .display import EvalDisplay

    _deterministic()
    work = prepare(recipe, data, output, **options)
    with EvalDisplay(work, quiet=quiet) as display:
        try:
            for event in work.run():
                display.show(event)
        except KeyboardInterrupt:
            work.publish(interrupted=True)
            display.finish(interrupted=True)
            sys.exit(EXIT_INTERRUPTED)
        work.publish()
        display.finish()
    if work.failures:
        sys.exit(EXIT_SOME_FAILED)
