"""The door of the command line: the group, its exit codes, and what commands share."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from ..errors import InvdiffError, one_line

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


def _deterministic() -> None:
    """Same bytes on one machine, on GPUs too. The variable must stand before CUDA starts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
