"""Commands that make or try something: ``check``, ``new-plugin``, ``weights``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from ..errors import InvdiffError
from .main import EXIT_SOME_FAILED, main


@main.command()
@click.argument("kind")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--operator", metavar="KIND", help="Operator that a guidance is tried on [a 5x5 blur].")
@click.option("--expected-failure", "expected", multiple=True, metavar="CHECK=REASON", help="Repeatable.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def check(kind: str, overrides: tuple[str, ...], operator: str | None, expected: tuple[str, ...], debug: bool) -> None:
    """Run the conformance suite on the registered component KIND."""
    from ..components.build import build_alone, build_degradation
    from ..components.discovery import registry
    from ..recipe.recipe import part_without_recipe
    from ..testing import check_component
    from ..testing.suite import SUITES

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
    from ..components.discovery import registry
    from ..components.weights import import_checkpoint
    from ..recipe.source import parse_assignment

    prior = import_checkpoint(checkpoint, output, registry(), dict(parse_assignment(a) for a in overrides))
    click.echo(f"{output}: {sum(p.numel() for p in prior.parameters()):,} parameters")
