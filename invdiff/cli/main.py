"""The door of the command line: the group, its exit codes, and what commands share."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import logging
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..errors import explained, is_foreseen, printable
from ..io.plain import as_json
from . import completion
from .crash import keep_crash
from .help import Command
from .machine import use_allowed_cpus
from .memory import keep_memory

_NOWHERE = logging.NullHandler()
EXIT_SOME_FAILED, EXIT_USER, EXIT_FAULT, EXIT_INTERRUPTED = 1, 2, 70, 130


class Commands(click.Group):
    """Turns whatever ends a command early into one line and an exit code; ``--debug`` adds the traceback."""

    command_class = Command
    debug = False
    """Whether this call asked for tracebacks; set by the option before any command begins."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        self.debug = False
        kwargs["standalone_mode"] = False
        _prepare_streams()
        _hush_decoders()
        keep_memory()
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(EXIT_USER)
        except BrokenPipeError:  # whoever read the output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_SOME_FAILED)
        except click.Abort:
            _complain("interrupted")
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            sys.exit(say_error(error, debug=self.debug))
        sys.exit(code if isinstance(code, int) else 0)


def _prepare_streams() -> None:
    """Neither a letter that the terminal's encoding lacks nor an output that is closed is a reason to stop."""
    sys.stdout, sys.stderr = (stream or io.StringIO() for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _hush_decoders() -> None:
    """What libraries mutter of a damaged picture on the way; that it is damaged is said in a line of ours."""
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("tifffile").addHandler(_NOWHERE)


def _complain(line: str) -> None:
    """Say it where errors are read; where nothing can be said the exit code still tells."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def say_error(error: Exception, debug: bool = False) -> int:
    """Say it in one line, after the traceback if that is asked for, keep a fault of ours, and return the exit code."""
    if debug:
        traceback.print_exception(error)
    line, code = _ended_by(error)
    _complain(f"error: {printable(line)}")
    return code


def _ended_by(error: Exception) -> tuple[str, int]:
    """What the user is told of an error, and the exit code."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{error.format_message().rstrip('.')}; '{error.ctx.command_path} --help' says how", EXIT_USER
    if isinstance(error, click.ClickException):
        return error.format_message(), EXIT_USER
    if is_foreseen(error):
        return explained(error), EXIT_USER
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # with a name, were it a file
        return f"standard output: {error.strerror}", EXIT_USER
    kept = keep_crash(error)
    what = f"{explained(error)}; this is a fault of invdiff, please report it"
    return f"{what} with {kept}" if kept else what, EXIT_FAULT


@click.group("invdiff", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
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


class _NotEmpty(click.ParamType):
    """An empty word is what a shell makes of a variable that is not set; as a path it would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty name", param, ctx)
        return super().convert(value, param, ctx)


class _Place(_NotEmpty, click.Path):
    pass


class _Word(_NotEmpty, click.types.StringParamType):
    pass


PLACE, WORD = _Place(path_type=Path), _Word()
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    shell_complete=completion.changes,
    help="Change a setting of the recipe, such as sampler.steps=20; repeatable.",
)
recipe_argument = click.argument("recipe", type=WORD, shell_complete=completion.recipe_names)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where it is computed; auto is a GPU if there is one.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For other programs: JSON instead of tables.")


def say_json(data: Any) -> None:
    """Print it; what JSON has no word for, such as an infinite PSNR, becomes null. Names stay what they are."""
    click.echo(as_json(data, getattr(sys.stdout, "encoding", None) or "utf-8"))


@dataclass(frozen=True)
class Common:
    """What every command that computes is told."""

    overrides: tuple[str, ...]
    seed: int | None
    device: str
    quiet: bool
    as_json: bool
    debug: bool


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of :class:`Common`, which the command gets as ``common``."""

    @functools.wraps(command)
    def called(
        overrides: tuple[str, ...], seed: int | None, device: str, quiet: bool, as_json: bool, **others: Any
    ) -> Any:
        import numpy  # noqa: F401 - first by itself: an interrupt while torch imports it would be lost

        use_allowed_cpus()
        root = click.get_current_context().find_root().command
        debug = isinstance(root, Commands) and root.debug
        return command(common=Common(overrides, seed, device, quiet, as_json, debug), **others)

    options = (
        debug_option,
        json_option,
        click.option("--quiet", is_flag=True, help="No progress bar and no table."),
        device_option,
        click.option("--seed", type=click.IntRange(min=0), help="Seed of all random numbers, instead of the recipe's."),
        set_option,
    )
    decorated: Callable[..., Any] = called
    for option in options:
        decorated = option(decorated)
    return decorated


class NumberRange(click.FloatRange):
    """A number within bounds; ``nan``, which no bound keeps out, and infinities are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number", param, ctx)
        return found


def deterministic() -> None:
    """Same bytes on one machine with one number of threads, on GPUs too. The variable must stand before CUDA starts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    # What torch.use_deterministic_algorithms(True, warn_only=True) does too, after importing torch's compiler for 2 s.
    torch.set_deterministic_debug_mode("warn")
