"""``invdiff eval``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from . import completion
from .main import (
    EXIT_INTERRUPTED,
    EXIT_SOME_FAILED,
    PLACE,
    WORD,
    Common,
    common_options,
    deterministic,
    main,
    recipe_argument,
)


@main.command(
    "eval",
    examples=(
        (
            "invdiff eval recipes/blindsr_x4.yaml set5/ -o runs/eval --kernels gaussian8 --method bicubic "
            "--method oracle --lpips lpips/",
            "the recipe beside two others, on the same blurred and shrunk pictures",
        ),
        (
            "invdiff eval recipes/deblur_ffhq.yaml ffhq/ -o runs/eval_faces --kernels motion --repeat 3 "
            "--method wiener --trace",
            "three shakes a picture, every step looked at",
        ),
        (
            'invdiff eval blindsr_x4 set5/ -o runs/dial --variant "one step: sampler.steps=1" --limit 1',
            "a change to the recipe, measured",
        ),
    ),
)
@recipe_argument
@click.argument("data", nargs=-1, required=True, type=PLACE)
@click.option("-o", "--output", required=True, type=PLACE, help="Folder for the results.")
@click.option(
    "--kernels",
    type=WORD,
    shell_complete=completion.kernel_sets,
    help="A registered set, or a file or folder of measured kernels [what the recipe draws].",
)
@click.option("--limit", type=click.IntRange(min=1), help="The first so many pictures of each dataset.")
@click.option("--repeat", type=click.IntRange(min=1), help="Kernels for each picture [a set's all, or one drawn].")
@click.option(
    "--method",
    "methods",
    multiple=True,
    shell_complete=completion.methods,
    help="Another row: a registered method, 'oracle', or a recipe.",
)
@click.option("--variant", "variants", multiple=True, help="Another row: 'label: key=value' changes to the recipe.")
@click.option("--lpips", type=PLACE, help="Folder with LPIPS weights; adds those metrics.")
@click.option("--niqe", type=PLACE, help="File with NIQE's model of natural photos; adds NIQE.")
@click.option("--fid", type=PLACE, help="File with Inception weights; adds FID.")
@click.option("--trace", is_flag=True, help="Metrics of every step, and the kernels on the way.")
@click.option("--pictures", type=click.IntRange(min=0), default=8, show_default=True, help="Of a dataset, in the page.")
@common_options
def evaluate(recipe: str, data: tuple[Path, ...], output: Path, common: Common, **options: Any) -> None:
    """Measure RECIPE (a file, a bundled one's name, or a folder of recipes) on folders DATA of clean pictures, and
    others beside it."""
    from ..evaluation.request import prepare
    from ..io.atomic import alone_in
    from .display import EvaluationDisplay

    deterministic()
    with alone_in(output):
        work = prepare(
            Path(recipe),
            data,
            output,
            overrides=common.overrides,
            seed=common.seed,
            device=common.device,
            debug=common.debug,
            **options,
        )
        with EvaluationDisplay(work, quiet=common.quiet, as_json=common.as_json) as display:
            try:
                work.run(display.show)
            except KeyboardInterrupt:
                display.finish(work.publish(interrupted=True), interrupted=True)
                sys.exit(EXIT_INTERRUPTED)
            display.finish(work.publish())
    if work.failures:
        sys.exit(EXIT_SOME_FAILED)
