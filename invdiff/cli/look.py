"""Commands that look and change nothing: ``info``, ``plugins``, ``schema``, ``recipes``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ..errors import InvdiffError
from . import completion
from .main import WORD, debug_option, json_option, main, recipe_argument, say_json, set_option


@main.command()
@recipe_argument
@click.option("--size", type=click.IntRange(1, 10_000), default=256, show_default=True, help="Side of the result.")
@set_option
@json_option
@debug_option
def info(recipe: str, size: int, overrides: tuple[str, ...], as_json: bool) -> None:
    """What RECIPE costs: parameters, multiply-adds of a step and of an image, memory."""
    from ..assembly import recipe_cost

    found = recipe_cost(recipe, size, overrides)
    if as_json:
        say_json({**asdict(found), "image": found.image})
        return
    click.echo(f"result          {found.size}x{found.size}")
    click.echo(f"parameters      {found.parameters / 1e6:.2f} M")
    gradients = f" ({found.forward / 1e9:.1f} G without its gradients)" if found.step != found.forward else ""
    click.echo(f"multiply-adds   {found.step / 1e9:.1f} G a step{gradients}")
    click.echo(f"                {found.image / 1e9:.1f} G an image of {found.steps} steps")
    click.echo(f"peak memory     about {found.peak_bytes / 2**30:.2f} GiB in float32")


@main.command()
@json_option
@debug_option
def plugins(as_json: bool) -> None:
    """List every component, who ships it, and plugins that FAILED."""
    from ..components.discovery import registry

    found = registry()
    if as_json:
        say_json(found.listing())
        return
    rows = list(found.rows())
    wide = max((len(c.kind) for c in rows), default=0), max((len(c.owner) for c in rows), default=0)
    for c in rows:
        twice = "  FAILED: registered twice" if found.contested(c.role, c.kind) else ""
        click.echo(f"{c.role:<12} {c.kind:<{wide[0]}}  {c.owner:<{wide[1]}}  {c.summary}{twice}")
    for failure in found.failures:
        click.echo(f"{'plugin':<12} {failure.plugin:<{wide[0]}}  {failure.owner:<{wide[1]}}  FAILED: {failure.reason}")


@main.command()
@debug_option
def schema() -> None:
    """Print a JSON Schema of recipes, with the settings of every installed component, for editors."""
    from ..components.discovery import registry
    from ..recipe.schema import recipe_schema

    click.echo(json.dumps(recipe_schema(registry()), indent=2))


@main.group(invoke_without_command=True)
@json_option
@click.pass_context
def recipes(context: click.Context, as_json: bool) -> None:
    """List the recipes that come with invdiff; they are called by name: invdiff run blindsr_x4."""
    if context.invoked_subcommand is None:
        from ..recipe.bundled import about, bundled

        if as_json:
            say_json([{"name": name, "path": str(path), "about": about(path)} for name, path in bundled().items()])
            return
        for name, path in bundled().items():
            click.echo(f"{name:<26} {about(path)}")
    elif as_json:
        raise InvdiffError("--json is for the list: leave it out, a recipe is YAML")


@recipes.command()
@click.argument("name", type=WORD, shell_complete=completion.recipe_names)
@debug_option
def show(name: str) -> None:
    """Print the recipe called NAME, to edit a copy of it."""
    from ..recipe.bundled import find_recipe

    click.echo(find_recipe(name).read_text(encoding="utf-8"), nl=False)
