"""The door of the command line: the group, its exit codes, and what commands share."""

from __future__ import annotations

import functools
import io
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from ..errors import InvdiffError, one_line, printable

EXIT_SOME_FAILED, EXIT_USER, EXIT_FAULT, EXIT_INTERRUPTED = 1, 2, 70, 130


class Commands(click.Group):
    """Turns whatever ends a command early into one line and an exit code; ``--debug`` adds the traceback."""

    debug = False
    """Whether this call asked for tracebacks; set by the option before any command begins."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        self.debug = False
        kwargs["standalone_mode"] = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(
                stream, io.TextIOWrapper
            ):  # what the terminal's encoding has no sign for is no reason to stop
                stream.reconfigure(errors="replace")
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(EXIT_USER)
        except BrokenPipeError:  # whoever read the output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_SOME_FAILED)
        except click.Abort:
            click.echo("interrupted", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if self.debug:
                traceback.print_exc()
            line, code = _explained(error)
            click.echo(f"error: {printable(line)}", err=True)
            sys.exit(code)
        sys.exit(code if isinstance(code, int) else 0)


def _explained(error: Exception) -> tuple[str, int]:
    """What the user is told of an error, and the exit code."""
    if isinstance(error, click.ClickException):
        return error.format_message(), EXIT_USER
    if isinstance(error, InvdiffError):
        return one_line(error), EXIT_USER
    if isinstance(error, OSError):  # no leave to read or write, a full disk, a name too long
        return f"{error.filename or 'system'}: {error.strerror or one_line(error)}", EXIT_USER
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    what = f"{type(error).__name__} at {where}: {one_line(error)}"
    return f"{what}; this is a fault of invdiff, please report it with what --debug shows", EXIT_FAULT


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="invdiff")
def main() -> None:
    """Restore a picture without knowing what degraded it."""


def _remember_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    command = context.find_root().command
    if value and isinstance(command, Commands):
        command.debug = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_debug,
    help="Show the traceback of an error.",
)
set_option = click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
recipe_argument = click.argument("recipe")


@dataclass(frozen=True)
class Common:
    """What every command that computes is told."""

    overrides: tuple[str, ...]
    seed: int | None
    device: str
    quiet: bool
    debug: bool


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of :class:`Common`, which the command gets as ``common``."""

    @functools.wraps(command)
    def called(overrides: tuple[str, ...], seed: int | None, device: str, quiet: bool, **others: Any) -> Any:
        root = click.get_current_context().find_root().command
        debug = isinstance(root, Commands) and root.debug
        return command(common=Common(overrides, seed, device, quiet, debug), **others)

    options = (
        debug_option,
        click.option("--quiet", is_flag=True, help="No progress bar and no table."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True),
        click.option("--seed", type=click.IntRange(min=0), help="Seed of all random numbers, instead of the recipe's."),
        set_option,
    )
    decorated: Callable[..., Any] = called
    for option in options:
        decorated = option(decorated)
    return decorated


def deterministic() -> None:
    """Same bytes on one machine, on GPUs too. The variable must stand before CUDA starts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
