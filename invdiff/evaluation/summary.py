"""What an evaluation says beside its numbers, and ``summary.md``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..metrics.catalogue import captions
from .results import Row
from .tables import Fid, columns_of, full_table, groups_of, paper_table, plain


@dataclass(frozen=True)
class Summary:
    """What the tables and the page say beside the numbers."""

    name: str
    labels: Sequence[str]
    """The methods, in the order of their rows."""
    first: str
    """The method that the page shows first."""
    facts: Sequence[str] = ()
    """Lines under the title."""
    failures: Sequence[str] = ()
    fid: Fid = field(default_factory=dict)
    pictures: int = 8
    """How many of each dataset the page shows."""

    def conventions(self, rows: Sequence[Row], luma_border: int) -> list[str]:
        """A line for each convention that the numbers of these rows follow."""
        return captions(columns_of(rows), luma_border, fid=bool(self.fid))

    def markdown(self, rows: Sequence[Row], luma_border: int) -> str:
        """Both tables, what they rest on, and what is left out of them."""
        facts = "".join(f"{plain(fact)}\n\n" for fact in self.facts)
        parts = [f"# {plain(self.name)}\n\n{facts}{paper_table(rows, luma_border, self.fid).markdown()}"]
        parts.append("Conventions: " + "; ".join(self.conventions(rows, luma_border)) + ".\n")
        for group in groups_of(rows):
            parts += [f"## {plain(f'{group[0]}, kernels {group[1]}')}\n", full_table(rows, group).markdown()]
        if self.failures:
            parts.append("Left out:\n\n" + "".join(f"- {plain(failure)}\n" for failure in self.failures))
        return "\n".join(parts)
