"""Commands that look and change nothing: ``info``, ``plugins``, ``schema``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .main import main


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--size", type=click.IntRange(min=1), default=256, show_default=True, help="Side of the result.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def info(recipe: Path, size: int, overrides: tuple[str, ...], debug: bool) -> None:
    """What RECIPE costs: parameters, multiply-adds of a step and of an image, memory."""
    from ..assembly import recipe_cost

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
    from ..components.discovery import registry

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
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def schema(debug: bool) -> None:
    """Print a JSON Schema of recipes, with the settings of every installed component, for editors."""
    from ..components.discovery import registry
    from ..recipe.schema import recipe_schema

    click.echo(json.dumps(recipe_schema(registry()), indent=2))
