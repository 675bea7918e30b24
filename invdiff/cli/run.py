"""``invdiff run``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InvdiffError, printable
from .main import (
    EXIT_INTERRUPTED,
    EXIT_SOME_FAILED,
    PLACE,
    Common,
    NumberRange,
    common_options,
    deterministic,
    main,
    recipe_argument,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..degradation import Degradation
    from ..recipe.recipe import Pace
    from ..restoring.run import Spread


@main.command(
    examples=(
        ("invdiff run blindsr_x4", "the recipe's sample photo: degraded, restored, measured"),
        ("invdiff run blindsr_x4 photo.jpg another.jpg -o out_two/", "photos of yours, taken as they are"),
        (
            "invdiff run recipes/blindsr_x4.yaml -i clean/ --synthesize --set input.crop=64 -o out_clean/",
            "clean pictures: degraded first, and measured against",
        ),
    )
)
@recipe_argument
@click.argument("photos", nargs=-1, type=PLACE)
@click.option("-i", "--input", "inputs", multiple=True, type=PLACE, help="Photo or folder.")
@click.option("--recursive", is_flag=True, help="Folders with all folders below them; results have the same tree.")
@click.option("-o", "--output", type=PLACE, help="Folder for the results [runs/<recipe name>]; of one photo, a file.")
@click.option("--format", "kind", type=click.Choice(["png", "jpg", "webp", "tiff"]), help="Of restored pictures [png].")
@click.option("--quality", type=click.IntRange(1, 100), help="Of jpg and webp [95].")
@click.option("--reference", type=PLACE, help="Folder of clean pictures to measure against.")
@click.option("--synthesize", is_flag=True, help="Inputs are clean: degrade them first.")
@click.option("--halve", is_flag=True, help="Restore copies of half the size, for noisy photos: cleaner, and smaller.")
@click.option("--kernel", type=PLACE, help="File with the blur's kernel, if it is known.")
@click.option("--lpips", type=PLACE, help="Folder with LPIPS weights; adds that metric.")
@click.option("--fast", is_flag=True, help="In the least time; the recipe says how, and what it costs.")
@click.option("--best", is_flag=True, help="As near to the truth as it comes, however long it takes.")
@click.option("--samples", type=click.IntRange(1), default=1, help="Draw so often: the mean, and how sure it is.")
@click.option("--denoise", type=NumberRange(0, 1), default=1.0, help="How much of the noise goes; 0 keeps grain.")
@click.option("--scale", type=NumberRange(0, min_open=True), help="Also write <name>.x1.png, the photo's size.")
@click.option("--size", help="Also write the result in that size, 1920 wide or in 1920x1080, say.")
@click.option("--engine", type=click.Choice(["here", "dask"]), default="here", help="Where: dask is on many processes.")
@click.option("--scheduler", help="With dask: address of a cluster's scheduler, tcp://HOST:8786 [this machine].")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--preview", is_flag=True, help="Show each step in <name>.preview.png until the picture is done.")
@click.option(
    "--force",
    is_flag=True,
    help="Restore what is already done, over another photo's result, too.",
)
@common_options
def run(
    recipe: str,
    photos: tuple[Path, ...],
    inputs: tuple[Path, ...],
    recursive: bool,
    output: Path | None,
    kind: str | None,
    quality: int | None,
    common: Common,
    reference: Path | None,
    synthesize: bool,
    halve: bool,
    kernel: Path | None,
    lpips: Path | None,
    fast: bool,
    best: bool,
    samples: int,
    denoise: float,
    scale: float | None,
    size: str | None,
    engine: str,
    scheduler: str | None,
    dry_run: bool,
    preview: bool,
    force: bool,
) -> None:
    """Restore PHOTOS, files or folders, by RECIPE, a file or a bundled one's name; or else the recipe's own sample.

    Results, and report.json, are in runs/<recipe name> or where -o says: a folder, or for one photo a file's name.
    """
    from ..assembly import assemble, read
    from ..io.atomic import alone_in
    from ..metrics.lpips import LPIPS
    from ..restoring.destination import destination_of
    from ..restoring.jobs import job_of_sample, jobs_of, with_references
    from ..restoring.run import Run, RunOptions
    from ..restoring.smaller import Smaller
    from .display import RunDisplay
    from .plan import show_plan

    deterministic()
    if fast and best:
        raise InvdiffError("--fast and --best are two ends of one thing: give one of them")
    if samples > 1 and (fast or best):
        raise InvdiffError("--samples draws in a way of its own, which was measured: leave --fast and --best out")
    pace: Pace | None = "fast" if fast else "best" if best else None
    found = read(recipe, common.overrides, common.seed, pace)
    result = destination_of(output if output is not None else Path("runs") / found.name, kind, quality)
    named = [*inputs, *photos]
    if not named and found.input.sample is None:
        raise InvdiffError(f"{found.path}: the recipe has no input.sample; name pictures to restore")
    jobs = jobs_of(named, recursive=recursive) if named else [job_of_sample(str(found.input.sample))]
    jobs = result.of(jobs, force=force)
    if result.stem is None:
        _check_apart(result.folder, [*named, *([] if reference is None else [reference])], recursive)
    no_photo = not named and not synthesize
    synthesize = synthesize or (found.input.synthesize and not named)
    pipeline = assemble(found, common.device, choose=not synthesize)  # how what is made here came about is known
    if halve and kernel is not None:
        raise InvdiffError("--kernel is the blur of a photo as it is, --halve restores a copy: give one of them")
    for option, given in (("--reference", reference), ("--kernel", kernel), ("--halve", halve or None)):
        if no_photo and given is not None:
            raise InvdiffError(f"{option} goes with photos: name one")
    for option, given in (("--reference", reference), ("--kernel", kernel)):
        if synthesize and given is not None:
            raise InvdiffError(f"{option} goes with degraded inputs, --synthesize with clean ones: give one of them")
    if scale is not None and size is not None:
        raise InvdiffError("--scale and --size say the same thing: give one of them")
    if synthesize and halve:
        raise InvdiffError("--halve goes with photos as they are, --synthesize with clean ones: give one of them")
    if engine == "dask" and preview:
        raise InvdiffError("--preview shows what one process does: leave it out, or --engine dask")
    if reference is not None:
        jobs = with_references(jobs, reference, pipeline.degradation.scale, recursive=recursive)
        _say(f"no reference for {job.stem}" for job in jobs if job.reference is None)
    _say(_left(place, recursive) for place in named)
    options = RunOptions(
        synthesize=synthesize,
        crop=found.input.crop,
        halve=halve,
        kernel=None if kernel is None else _kernel(kernel, pipeline.degradation),
        lpips=LPIPS(lpips) if lpips else None,
        samples=samples,
        format=result.format,
        denoise=denoise,
        smaller=Smaller.of_size(size) if size is not None else None if scale is None else Smaller(scale),
        force=force,
        preview=preview,
        debug=common.debug,
    )
    work = Run(pipeline, jobs, result.folder, options, recipe=str(found.path))
    if dry_run:
        if not show_plan(work, as_json=common.as_json):
            sys.exit(EXIT_SOME_FAILED)
        return
    _say(work.notes)
    elsewhere: AbstractContextManager[Spread | None] = nullcontext()
    if engine == "dask":
        from .cluster import Errand, spread_by_dask

        told = (common.overrides, common.seed, pace, common.device, not synthesize)
        errand = Errand(str(found.path.resolve()), *told, result.folder.resolve(), replace(options, lpips=None), lpips)
        elsewhere = spread_by_dask(errand, scheduler)
    elif scheduler is not None:
        raise InvdiffError("--scheduler goes with --engine dask")
    display = RunDisplay(work, quiet=common.quiet, as_json=common.as_json)
    with alone_in(result.folder), elsewhere as spread, display:
        try:
            work.run(display.show, spread=spread)
        except KeyboardInterrupt:
            work.write()
            display.finish(interrupted=True)
            sys.exit(EXIT_INTERRUPTED)
        display.finish()
    if any(outcome.failed for outcome in work.outcomes):
        sys.exit(EXIT_SOME_FAILED)


def _kernel(path: Path, operator: Degradation) -> Tensor:
    from ..blur.kernel_files import read_kernel
    from ..degradation import KernelSpace

    if not isinstance(operator.parameters, KernelSpace):
        raise InvdiffError(f"--kernel {path}: the recipe's operator has no kernel; leave the option out")
    measured = read_kernel(path, operator.parameters.size)
    if any(measured.shift):
        rows, cols = (-moved for moved in measured.shift)
        _say([f"{path}: its mass lies {rows} pixels below and {cols} right of the middle: so far is the scene moved"])
    return measured.kernel.float()


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        if line:
            click.echo(printable(line), err=True)


def _check_apart(folder: Path, read: Iterable[Path], recursive: bool) -> None:
    """Refuse a folder whose results would be inputs the next time."""
    for place in read:
        above = place if place.is_dir() else place.parent
        if folder.resolve() == above.resolve():
            raise InvdiffError(f"{folder}: the output folder is an input folder; choose another with -o")
        if recursive and place.is_dir() and folder.resolve().is_relative_to(place.resolve()):
            raise InvdiffError(f"{folder}: the output folder lies in an input folder; choose another with -o")


def _left(place: Path, recursive: bool) -> str:
    """What in a folder is not taken for a picture, in a line; nothing where there is nothing."""
    from ..io.decoding import named_as_picture, passed_over
    from ..restoring.jobs import beside_results

    kinds = Counter(path.suffix.lower() or "no suffix" for path in passed_over(place, recursive=recursive))
    named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    beside = sum(path.is_file() and named_as_picture(path) for path in beside_results(place))
    lines = [f"as no pictures: {named}" if kinds else "", f"as beside earlier results: {beside}" if beside else ""]
    return "; ".join(f"{place}: passed over, {line}" for line in lines if line)
