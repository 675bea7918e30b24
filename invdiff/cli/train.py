"""``invdiff train``."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InvdiffError
from .main import _common, main


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
    from ..assembly import build_trainer
    from .display import TrainDisplay

    trainer = build_trainer(recipe, output, [str(d) for d in data], overrides, seed, device)
    if resume:
        trainer.resume()
    elif trainer.checkpoint.exists():
        raise InvdiffError(f"{trainer.checkpoint}: this folder holds a run: go on with --resume, or choose another -o")
    with TrainDisplay(trainer, quiet=quiet) as display:
        trainer.run(display.record)
    if not quiet:
        click.echo(f"{trainer.folder / 'weights.safetensors'}: step {trainer.step}, {trainer.seconds:.0f} s")
