"""How far one picture is: what a run tells of its steps, and of the tiles of a large one within them."""

from __future__ import annotations

from dataclasses import dataclass

from ..io.progress import Event, Tell


@dataclass
class JobProgress:
    """Of the picture ``label``, read from ``input``, whose steps come after ``before`` others, of ``total`` in all."""

    tell: Tell
    label: str
    input: str
    before: int
    total: int
    done: int = 0

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        self.tell(Event(self.before + self.done, self.total, self.label))

    def tile(self, number: int, count: int) -> None:
        """The network is at one of so many tiles, the first being 0."""
        note = f"tile {number + 1} of {count}"
        self.tell(Event(self.before + self.done + number / count, self.total, self.label, note=note))

    def notice(self, text: str) -> None:
        """Something to be read before it begins."""
        self.tell(Event(self.before, self.total, self.label, notice=f"{self.input}: {text}"))
