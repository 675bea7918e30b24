"""``invdiff train``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from ..errors import InvdiffError, printable
from .main import PLACE, Common, common_options, deterministic, main, recipe_argument, say_json


@main.command(
    examples=(
        (
            "invdiff train recipes/train_blindsr_x4_small.yaml --data photos/ -o runs/mine",
            "anew, on a folder of photos: one and a half hours on two CPU cores",
        ),
        (
            "invdiff train recipes/train_blindsr_x4_small.yaml --data photos/ -o runs/mine --resume",
            "on from where it stopped",
        ),
        (
            "invdiff train train_blindsr_x4_small --data photos/ -o runs/tuned --set train.start=blindsr_x4_s "
            "--set train.steps=300 --set train.learning_rate=1e-4",
            "the bundled prior, brought nearer to photos of yours",
        ),
    )
)
@recipe_argument
@click.option("-o", "--output", required=True, type=PLACE, help="Folder of the run.")
@click.option("--data", multiple=True, type=PLACE, help="Folder of photos, or .tar of them; repeatable.")
@click.option("--validate", type=PLACE, help="Folder of pictures to measure on while it learns.")
@click.option("--lpips", type=PLACE, help="Folder with LPIPS weights, for a loss that asks for them.")
@click.option("--tensorboard", type=PLACE, help="Folder for TensorBoard, with the numbers of log.jsonl.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option(
    "--cooldown", type=click.IntRange(min=1), help="With --resume: let the rate fall over so many steps, and end."
)
@common_options
def train(
    recipe: str,
    output: Path,
    data: tuple[Path, ...],
    validate: Path | None,
    lpips: Path | None,
    tensorboard: Path | None,
    resume: bool,
    cooldown: int | None,
    common: Common,
) -> None:
    """Train RECIPE's prior on folders of photos (Algorithm 1)."""
    from ..assembly import build_trainer
    from ..io.atomic import alone_in
    from .display import TrainDisplay

    folders = [str(folder) for folder in data]
    if cooldown is not None and not resume:
        raise InvdiffError("--cooldown ends a run that is there: it goes with --resume")
    deterministic()
    change = (common.overrides, common.seed, common.device)
    trainer = build_trainer(recipe, output, folders, *change, validate, tensorboard, lpips)
    quiet = common.quiet or not trainer.team.leads
    with alone_in(output) if trainer.team.leads else nullcontext():
        if resume:
            trainer.resume()
            if cooldown is not None:
                trainer.cool_down(cooldown)
        elif trainer.checkpoint.exists():
            there = "this folder holds a run: go on with --resume, or choose another -o"
            raise InvdiffError(f"{trainer.checkpoint}: {there}")
        for note in () if quiet else trainer.notes:
            click.echo(printable(note), err=True)
        with TrainDisplay(trainer, quiet=quiet) as display:
            trainer.run(display.show)
    if common.as_json and trainer.team.leads:
        say_json({"weights": str(trainer.weights), "step": trainer.step, "seconds": trainer.seconds})
    elif not quiet:
        click.echo(f"{trainer.weights}: step {trainer.step}, {trainer.seconds:.0f} s")
