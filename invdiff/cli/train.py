"""``invdiff train``."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InvdiffError
from .main import Common, common_options, main, recipe_argument


@main.command()
@recipe_argument
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="Folder of photos; repeatable.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@common_options
def train(recipe: str, output: Path, data: tuple[Path, ...], resume: bool, common: Common) -> None:
    """Train RECIPE's prior on folders of photos (Algorithm 1)."""
    from ..assembly import build_trainer
    from .display import TrainDisplay

    folders = [str(folder) for folder in data]
    trainer = build_trainer(recipe, output, folders, common.overrides, common.seed, common.device)
    if resume:
        trainer.resume()
    elif trainer.checkpoint.exists():
        raise InvdiffError(f"{trainer.checkpoint}: this folder holds a run: go on with --resume, or choose another -o")
    with TrainDisplay(trainer, quiet=common.quiet) as display:
        trainer.run(display.show)
    if not common.quiet:
        click.echo(f"{trainer.folder / 'weights.safetensors'}: step {trainer.step}, {trainer.seconds:.0f} s")
