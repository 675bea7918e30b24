"""What an evaluation says beside its numbers, and ``summary.md``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..metrics.catalogue import FID, METRICS, captions
from .results import Row
from .tables import Fid, Table, columns_of, full_table, groups_of, paper_table, plain


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
    left_out: Sequence[str] = ()
    """Lines on what is missing: metrics without weights, pictures that failed."""
    failed: int = 0
    """How many of those are failures."""
    fid: Fid = field(default_factory=dict)
    pictures: int = 8
    """How many of each dataset the page shows."""

    def conventions(self, rows: Sequence[Row], luma_border: int) -> list[str]:
        """A line for each convention that the numbers of these rows follow."""
        return captions(columns_of(rows), luma_border, fid=bool(self.fid))

    def tables(self, rows: Sequence[Row], luma_border: int) -> dict[str, Table]:
        """By heading: the paper's layout, which has none, then every metric of each dataset and set of kernels."""
        whole = {f"{data}, kernels {kernels}": full_table(rows, (data, kernels)) for data, kernels in groups_of(rows)}
        return {"": paper_table(rows, luma_border, self.fid), **whole}

    def words(self, rows: Sequence[Row], luma_border: int) -> dict[str, str]:
        """What the metrics of these rows say, by title."""
        shown = [METRICS[name] for name in columns_of(rows)] + ([FID] if self.fid else [])
        return {metric.title: metric.explained(luma_border) for metric in shown}

    def markdown(self, rows: Sequence[Row], luma_border: int) -> str:
        """Both tables, what they rest on, and what is left out of them."""
        facts = "".join(f"{plain(fact)}\n\n" for fact in self.facts)
        papers, *others = self.tables(rows, luma_border).items()
        parts = [f"# {plain(self.name)}\n\n{facts}{papers[1].markdown()}"]
        parts.append("Conventions: " + "; ".join(self.conventions(rows, luma_border)) + ".\n")
        for heading, table in others:
            parts += [f"## {plain(heading)}\n", table.markdown()]
        if self.left_out:
            parts.append("Left out:\n\n" + "".join(f"- {plain(line)}\n" for line in self.left_out))
        return "\n".join(parts)
