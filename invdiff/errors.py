"""One base error for everything that a user can put right, and helpers that word it."""

from __future__ import annotations

import difflib
import re
import traceback
import unicodedata
from collections.abc import Iterable
from pathlib import Path


class InvdiffError(Exception):
    """Something the user can change: one line that says where, what, and what would be right."""


class RecipeError(InvdiffError):
    """A recipe that is missing, broken, or asks for what does not exist."""


class PluginError(InvdiffError):
    """A component that is unknown, taken twice, or whose package failed to load."""


class WeightsError(InvdiffError):
    """A weights file that is missing, damaged, or made for something else."""


class MissingWeightsError(WeightsError):
    """Weights that are not there: a training may have to make them first."""


class ImageError(InvdiffError):
    """A picture that cannot be read, restored or written."""


class TrainingError(InvdiffError):
    """A training run that cannot start, resume or go on."""


def suggest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'steps'?)`` where something known is close to ``word``, else the known ones, else nothing."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return f" (known: {', '.join(names)})" if names else ""


def one_line(error: BaseException) -> str:
    """An exception's message on one line, its class where it has no message."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def reason(error: BaseException) -> str:
    """Why the system refuses a file, without the file's name, which may be what is wrong; others in one line."""
    return (isinstance(error, OSError) and error.strerror) or one_line(error)


def with_kind(error: BaseException) -> str:
    """The same with the exception's class in front: for what others raise."""
    text = one_line(error)
    kind = type(error).__name__
    return text if text == kind else f"{kind}: {text}"


def is_foreseen(error: BaseException) -> bool:
    """Whether it is for the user to change: one of ours, a file that the system refuses, too little memory."""
    named = isinstance(error, OSError) and error.filename is not None
    return named or isinstance(error, InvdiffError) or _is_out_of_memory(error)


def explained(error: BaseException) -> str:
    """What a user is told of an error that was raised: its message where it is foreseen, else kind and place too."""
    if isinstance(error, InvdiffError):
        return one_line(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {reason(error)}"
    if _is_out_of_memory(error):
        return f"not enough memory (asked for at {place_of(error)}): smaller pictures, crops or batches need less"
    return f"{type(error).__name__} at {place_of(error)}: {without_values(one_line(error))}"


def _is_out_of_memory(error: BaseException) -> bool:
    """Torch says so in its own words."""
    words = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words


def place_of(error: BaseException) -> str:
    """``invdiff/sampler.py:88``: the last of our own lines on the way to where an error was raised."""
    frames = [
        (str(frame.f_globals.get("__name__")), frame, line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    module, frame, line = next((f for f in reversed(frames) if f[0].startswith("invdiff")), frames[-1])
    file = Path(*Path(frame.f_code.co_filename).parts[-len(module.split(".")) :])
    return f"{file.as_posix()}:{line}"


_VALUES = re.compile(r"\[[\[\s]*(?:[-+]?\d*\.|(?:[-+]?\d+[,\s]+){5})")


def without_values(text: str) -> str:
    """A message of others, up to where it lists numbers that are no shape and may be a picture's, and not too long."""
    return printable(_VALUES.split(text, maxsplit=1)[0], longest=300)


def printable(text: str, longest: int = 2000) -> str:
    """Foreign text (names of files, keys, others' messages) as a terminal or a page may show it, on one line.

    Control characters, which can rewrite a terminal's title or what stands above, and marks that turn the direction
    of writing become escapes; bytes that are no text become escapes too; a text that is too long loses its middle.
    """
    safe = "".join(c if unicodedata.category(c) not in _UNSAFE else _escaped(c) for c in " ".join(text.split()))
    if len(safe) > longest:
        safe = f"{safe[: longest // 2]} ... {safe[-longest // 2 :]}"
    return safe


_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
