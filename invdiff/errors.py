"""One base error for everything that a user can put right, and helpers that word it."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class InvdiffError(Exception):
    """Something the user can change: one line that says where, what, and what would be right."""


class RecipeError(InvdiffError):
    """A recipe that is missing, broken, or asks for what does not exist."""


class PluginError(InvdiffError):
    """A component that is unknown, taken twice, or whose package failed to load."""


class WeightsError(InvdiffError):
    """A weights file that is missing, damaged, or made for something else."""


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


def with_kind(error: BaseException) -> str:
    """The same with the exception's class in front: for what others raise."""
    text = one_line(error)
    kind = type(error).__name__
    return text if text == kind else f"{kind}: {text}"


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
