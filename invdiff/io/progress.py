"""How far a long job is: what it tells whoever watches, a terminal or nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """What happened last, and how far all is.

    ``done`` of ``total`` units (steps of pictures, rows of a table, steps of training); ``label`` says what is being
    done, ``note`` holds numbers worth showing, ``failure`` one line where something failed, ``notice`` one to be read
    now, ``line`` what a log should keep of it: most events are for a progress bar only.
    """

    done: float
    total: int
    label: str
    note: str = ""
    failure: str = ""
    line: str = ""
    notice: str = ""


Tell = Callable[[Event], None]


def nobody(event: Event) -> None:
    """Whom to tell where nobody watches."""
