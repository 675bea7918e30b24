"""The command line. Thin: options in, rooms called, errors to one line."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .errors import InvdiffError, one_line

EXIT_SOME_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130


class _Group(click.Group):
    """Turns every error that the user can put right, click's own too, into one line and exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except (InvdiffError, click.ClickException) as error:
            if "--debug" in sys.argv:
                traceback.print_exc()
            if isinstance(error, click.exceptions.NoArgsIsHelpError):
                error.show()
            else:
                text = error.format_message() if isinstance(error, click.ClickException) else one_line(error)
                click.echo(f"error: {' '.join(text.split())}", err=True)
            sys.exit(EXIT_USER)
        except OSError as error:  # no leave to read or write, a full disk, a name too long
            if "--debug" in sys.argv:
                traceback.print_exc()
            text = f"{error.filename or 'system'}: {error.strerror or one_line(error)}"
            click.echo(f"error: {' '.join(text.split())}", err=True)
            sys.exit(EXIT_USER)
        except click.Abort:
            click.echo("interrupted", err=True)
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="invdiff")
def main() -> None:
    """Restore a picture without knowing what degraded it."""


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option("--quiet", is_flag=True, help="No progress bar and no table."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True),
        click.option("--seed", type=click.IntRange(min=0), help="Seed of all random numbers, instead of the recipe's."),
        click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."),
    ):
        command = option(command)
    return command


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
    from . import images
    from .console import RunDisplay
    from .lpips import LPIPS
    from .pipeline import load
    from .runner import Options, Run, make_jobs

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


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="Folder of photos; repeatable.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@_common
def train(
    recipe: Path,
    output: Path,
    data: tuple[Path, ...],
    resume: bool,
    overrides: tuple[str, ...],
    seed: int | None,
    device: str,
    quiet: bool,
    debug: bool,
) -> None:
    """Train RECIPE's prior on folders of photos (Algorithm 1)."""
    from .console import TrainDisplay
    from .pipeline import build_trainer

    trainer = build_trainer(recipe, output, [str(d) for d in data], overrides, seed, device)
    if resume:
        trainer.resume()
    elif trainer.checkpoint.exists():
        raise InvdiffError(f"{trainer.checkpoint}: this folder holds a run: go on with --resume, or choose another -o")
    with TrainDisplay(trainer, quiet=quiet) as display:
        trainer.run(display.record)
    if not quiet:
        click.echo(f"{trainer.folder / 'weights.safetensors'}: step {trainer.step}, {trainer.seconds:.0f} s")


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
    from .console import EvalDisplay
    from .prepare import prepare

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


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--size", type=click.IntRange(min=1), default=256, show_default=True, help="Side of the result.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def info(recipe: Path, size: int, overrides: tuple[str, ...], debug: bool) -> None:
    """What RECIPE costs: parameters, multiply-adds of a step and of an image, memory."""
    from .info import recipe_cost

    found = recipe_cost(recipe, size, overrides)
    click.echo(f"result          {found.size}x{found.size}")
    click.echo(f"parameters      {found.parameters / 1e6:.2f} M")
    gradients = f" ({found.forward / 1e9:.1f} G without its gradients)" if found.step != found.forward else ""
    click.echo(f"multiply-adds   {found.step / 1e9:.1f} G a step{gradients}")
    click.echo(f"                {found.image / 1e9:.1f} G an image of {found.steps} steps")
    click.echo(f"peak memory     about {found.peak_bytes / 2**30:.2f} GiB in float32")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For other programs.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def plugins(as_json: bool, debug: bool) -> None:
    """List every component, who ships it, and plugins that FAILED."""
    from .plugins import registry

    found = registry()
    if as_json:
        click.echo(json.dumps(found.listing(), indent=2))
        return
    for c in found.rows():
        twice = "  FAILED: registered twice" if found.contested(c.role, c.kind) else ""
        click.echo(f"{c.role:<12} {c.kind:<15} {c.owner:<22} {c.summary}{twice}")
    for failure in found.failures:
        click.echo(f"{'plugin':<12} {failure.plugin:<15} {failure.owner:<22} FAILED: {failure.reason}")


@main.command()
@click.argument("kind")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--operator", metavar="KIND", help="Operator that a guidance is tried on [a 5x5 blur].")
@click.option("--expected-failure", "expected", multiple=True, metavar="CHECK=REASON", help="Repeatable.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def check(kind: str, overrides: tuple[str, ...], operator: str | None, expected: tuple[str, ...], debug: bool) -> None:
    """Run the conformance suite on the registered component KIND."""
    from .pipeline import build_alone, build_degradation
    from .plugins import registry
    from .recipe import part_without_recipe
    from .testing import check_component
    from .testing.suite import SUITES

    installed, failed = registry(), False
    reasons = dict(_check_and_reason(text) for text in expected)
    roles = [role for role in installed.roles(kind) if role in SUITES]
    if not roles:
        raise InvdiffError(f"{kind}: the suite is for {', '.join(SUITES)}, and this is a {installed.roles(kind)[0]}")
    if operator and "guidance" not in roles:
        raise InvdiffError(f"--operator {operator}: goes with a guidance, and {kind} is none")
    tried_on = build_degradation(part_without_recipe(installed.get("degradation", operator))) if operator else None
    for role in roles:
        component = installed.get(role, kind)
        alone = build_alone(part_without_recipe(component, overrides), installed)
        try:
            outcomes = check_component(alone, operator=tried_on, expected_failures=reasons)
        except ValueError as error:
            raise InvdiffError(str(error).replace("expected_failures", "--expected-failure", 1)) from None
        click.echo(f"{role} {kind}, {component.owner}")
        for o in outcomes:
            click.echo(f"  {'FAILED' if o.status == 'failed' else o.status:<9} {o}")
        counts = Counter(o.status for o in outcomes)
        click.echo(", ".join(f"{n} {status}" for status, n in counts.items()))
        failed = failed or counts["failed"] > 0
    if failed:
        sys.exit(EXIT_SOME_FAILED)


def _check_and_reason(text: str) -> tuple[str, str]:
    name, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise InvdiffError(f"--expected-failure {text}: write it as check=reason")
    return name.strip(), reason.strip()


@main.command()
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def schema(debug: bool) -> None:
    """Print a JSON Schema of recipes, with the settings of every installed component, for editors."""
    from .plugins import registry
    from .schema import recipe_schema

    click.echo(json.dumps(recipe_schema(registry()), indent=2))


@main.command("new-plugin")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write [invdiff-<name>].")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def new_plugin(name: str, output: Path | None, debug: bool) -> None:
    """Write a package with an operator called NAME: it installs, registers, and passes its tests."""
    from .scaffold import write_plugin

    folder = write_plugin(name, output or Path(f"invdiff-{name}"))
    click.echo(f"{folder}: pip install -e {folder}, then: invdiff check {name}")


@main.group()
def weights() -> None:
    """Weights files."""


@weights.command("import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The safetensors file to write.")
@click.option("--set", "overrides", multiple=True, metavar="A=B", help="What the file cannot tell, such as scale=2.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def import_weights(checkpoint: Path, output: Path, overrides: tuple[str, ...], debug: bool) -> None:
    """Convert a foreign CHECKPOINT, such as the authors' .pth, into weights of ours."""
    from .plugins import registry
    from .source import parse_assignment
    from .weights import import_checkpoint

    prior = import_checkpoint(checkpoint, output, registry(), dict(parse_assignment(a) for a in overrides))
    click.echo(f"{output}: {sum(p.numel() for p in prior.parameters()):,} parameters")


def _deterministic() -> None:
    """Same bytes on one machine, on GPUs too. The variable must stand before CUDA starts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
