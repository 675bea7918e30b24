"""Commands that make or try something: ``check``, ``new-plugin``, ``weights``."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..errors import InvdiffError
from . import completion
from .main import EXIT_SOME_FAILED, PLACE, debug_option, json_option, main, say_json, set_option


@main.command()
@click.argument("kind", shell_complete=completion.kinds)
@set_option
@click.option(
    "--operator",
    metavar="KIND",
    shell_complete=completion.kinds,
    help="Operator that a guidance is tried on [a 5x5 blur].",
)
@click.option("--expected-failure", "expected", multiple=True, metavar="CHECK=REASON", help="Repeatable.")
@json_option
@debug_option
def check(
    kind: str, overrides: tuple[str, ...], operator: str | None, expected: tuple[str, ...], as_json: bool
) -> None:
    """Run the conformance suite on the registered component KIND."""
    from ..components.build import build, build_alone
    from ..components.discovery import registry
    from ..recipe.recipe import part_without_recipe
    from ..testing import check_component
    from ..testing.checks import UnknownCheckError
    from ..testing.suite import SUITES

    installed, failed = registry(), False
    reasons = dict(_check_and_reason(text) for text in expected)
    roles = [role for role in installed.roles(kind) if role in SUITES]
    if not roles:
        raise InvdiffError(f"{kind}: the suite is for {', '.join(SUITES)}, and this is a {installed.roles(kind)[0]}")
    if operator and "guidance" not in roles:
        raise InvdiffError(f"--operator {operator}: goes with a guidance, and {kind} is none")
    found: list[dict[str, Any]] = []
    tried_on = build(part_without_recipe(installed.get("degradation", operator))) if operator else None
    for role in roles:
        component = installed.get(role, kind)
        alone = build_alone(part_without_recipe(component, overrides), installed)
        try:
            outcomes = check_component(alone, operator=tried_on, expected_failures=reasons)
        except UnknownCheckError as error:
            raise InvdiffError(f"--expected-failure: {error}") from None
        counts = Counter(o.status for o in outcomes)
        failed = failed or counts["failed"] > 0
        found.append({"role": role, "owner": component.owner, "checks": [asdict(o) for o in outcomes]})
        if as_json:
            continue
        click.echo(f"{role} {kind}, {component.owner}")
        for o in outcomes:
            click.echo(f"  {'FAILED' if o.status == 'failed' else o.status:<9} {o}")
        click.echo(", ".join(f"{n} {status}" for status, n in counts.items()))
    if as_json:
        say_json(found)
    if failed:
        sys.exit(EXIT_SOME_FAILED)


def _check_and_reason(text: str) -> tuple[str, str]:
    name, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise InvdiffError(f"--expected-failure {text}: write it as check=reason")
    return name.strip(), reason.strip()


@main.command("new-plugin")
@click.argument("name")
@click.option("--operator", "role", flag_value="operator", default="operator", help="With an operator [the default].")
@click.option("--prior", "role", flag_value="prior", help="With a prior: a denoiser of a few lines.")
@click.option("--guidance", "role", flag_value="guidance", help="With a guidance: a step of steepest descent.")
@click.option("-o", "--output", type=PLACE, help="Folder to write [invdiff-<name>].")
@debug_option
def new_plugin(name: str, role: str, output: Path | None) -> None:
    """Write a package with a component called NAME: it installs, registers, and passes its tests."""
    from .scaffold import write_plugin

    folder = write_plugin(name, output or Path(f"invdiff-{name}"), role)
    click.echo(f"{folder}: pip install -e {folder}, then: invdiff check {name}")


@main.group()
def weights() -> None:
    """Weights files."""


@weights.command("import")
@click.argument("checkpoint", type=PLACE)
@click.option("-o", "--output", required=True, type=PLACE, help="The safetensors file to write.")
@click.option("--set", "overrides", multiple=True, metavar="A=B", help="What the file cannot tell, such as scale=2.")
@debug_option
def import_weights(checkpoint: Path, output: Path, overrides: tuple[str, ...]) -> None:
    """Convert a foreign CHECKPOINT, such as the authors' .pth, into weights of ours."""
    from ..components.discovery import registry
    from ..components.weights import import_checkpoint
    from ..recipe.source import parse_assignment

    prior = import_checkpoint(checkpoint, output, registry(), dict(parse_assignment(a) for a in overrides))
    click.echo(f"{output}: {sum(p.numel() for p in prior.parameters()):,} parameters")
