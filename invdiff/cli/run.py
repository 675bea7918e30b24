"""``invdiff run``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..errors import InvdiffError
from .main import EXIT_INTERRUPTED, EXIT_SOME_FAILED, _common, _deterministic, main


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-i", "--input", "inputs", multiple=True, type=click.Path(path_type=Path), help="Photo or folder.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for the results [runs/<recipe name>].")
@click.option("--reference", type=click.Path(path_type=Path), help="Folder of clean pictures to measure against.")
@click.option("--synthesize", is_flag=True, help="Inputs are clean: degrade them first.")
@click.option("--lpips", type=click.Path(path_type=Path), help="Folder with LPIPS weights; adds that metric.")
@click.option("--force", is_flag=True, help="Restore again what is already done.")
@_common
def run(
    recipe: Path,
    inputs: tuple[Path, ...],
    output: Path | None,
    reference: Path | None,
    synthesize: bool,
    lpips: Path | None,
    force: bool,
    overrides: tuple[str, ...],
    seed: int | None,
    device: str,
    quiet: bool,
    debug: bool,
) -> None:
    """Restore pictures by RECIPE: photos named with -i, or else the recipe's own sample."""
    from ..assembly import load
    from ..io import pictures as images
    from ..metrics.lpips import LPIPS
    from ..restoring.jobs import make_jobs
    from ..restoring.run import Options, Run
    from .display import RunDisplay

    _deterministic()
    pipeline = load(recipe, overrides=overrides, seed=seed, device=device)
    folder = output if output is not None else Path("runs") / pipeline.recipe.name
    jobs = make_jobs(pipeline, list(inputs))
    if folder.is_dir() and any(job.path and job.path.parent.samefile(folder) for job in jobs):
        raise InvdiffError(f"{folder}: the output folder is an input folder; choose another with -o")
    if reference is not None:
        images.list_images(reference)
    options = Options(
        synthesize=synthesize or (pipeline.recipe.input.synthesize and not inputs),
        reference=reference,
        lpips=LPIPS(lpips) if lpips else None,
        force=force,
        debug=debug,
    )
    if options.synthesize and reference is not None:
        raise InvdiffError("--reference goes with degraded inputs, --synthesize with clean ones: give one of them")
    work = Run(pipeline, folder, options, jobs)
    outcomes = []
    with RunDisplay(work, quiet=quiet) as display:
        try:
            for outcome in work.outcomes():
                outcomes.append(outcome)
                display.done(outcome)
        except KeyboardInterrupt:
            work.write()
            display.finish(outcomes, interrupted=True)
            sys.exit(EXIT_INTERRUPTED)
        display.finish(outcomes)
    if any(outcome.failed for outcome in outcomes):
        sys.exit(EXIT_SOME_FAILED)
