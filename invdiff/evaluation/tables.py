"""Rows to Markdown: the layout of the paper's Table 1, and a table with everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import printable
from ..metrics.catalogue import FID, METRICS, number, title
from .results import Row, mean

Group = tuple[str, str]
"""Dataset and kernels."""
Fid = Mapping[tuple[str, str, str], float]
"""By dataset, kernels and method."""


def groups_of(rows: Sequence[Row]) -> list[Group]:
    return list(dict.fromkeys((r.place.dataset, r.place.kernels) for r in rows))


def methods_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(r.place.method for r in rows))


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The metrics of which some row has a number, in the order of tables."""
    return [name for name in METRICS if any(r.values.get(name) for r in rows)]


_MARKUP = str.maketrans({c: "\\" + c for c in "\\|`*[]<>"})


def plain(text: str) -> str:
    """Foreign text as Markdown shows it and nothing more: no HTML, no links, no cells of its own."""
    return printable(text).translate(_MARKUP)


@dataclass(frozen=True)
class Table:
    """Cells as text: a head, and lines as long as it."""

    head: list[str]
    body: list[list[str]]

    def markdown(self) -> str:
        head, *body = ("| " + " | ".join(map(plain, line)) + " |" for line in (self.head, *self.body))
        return "\n".join([head, "|---" * len(self.head) + "|", *body]) + "\n"


def paper_table(rows: Sequence[Row], luma_border: int, fid: Fid) -> Table:
    """A line a method and, for each dataset, LPIPS, FID and PSNR, as far as there are any."""
    groups = groups_of(rows)
    shown = [n for n in columns_of(rows) if n in ("lpips_vgg", "lpips_alex")][:1]
    # On luma in super-resolution, as is the custom there; the whole picture where the scale is one.
    shown.append("psnr_y" if luma_border else "psnr_rgb")
    head = ["method"]
    for dataset, kernels in groups:
        where = f"{dataset} {kernels}"
        head += [f"{where} {title(n)}" for n in shown[:-1]]
        head += [f"{where} {FID.heading}"] if fid else []
        head += [f"{where} {title(shown[-1])}"]
    body = []
    for method in methods_of(rows):
        line = [method]
        for group in groups:
            mine = _of(rows, group, method)
            line += [number(mean(mine, n), n) for n in shown[:-1]]
            if fid:
                line.append(FID.number(fid.get((*group, method))))
            line.append(number(mean(mine, shown[-1]), shown[-1]))
        body.append(line)
    return Table(head, body)


def full_table(rows: Sequence[Row], group: Group) -> Table:
    """Every metric of one dataset under one set of kernels, a line a metric: there are more of them than methods."""
    here = [r for r in rows if (r.place.dataset, r.place.kernels) == group]
    methods = methods_of(here)
    mine = [_of(here, group, method) for method in methods]
    body = [[title(name), *(number(mean(own, name), name) for own in mine)] for name in columns_of(here)]
    return Table(["metric", *methods], [["rows", *(str(len(own)) for own in mine)], *body])


def means_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What the tables are made of, as plain data: a record for each dataset, set of kernels and method."""
    found = []
    for dataset, kernels in groups_of(rows):
        for method in methods_of(rows):
            mine = _of(rows, (dataset, kernels), method)
            means = {name: mean(mine, name) for name in columns_of(mine)}
            found.append({"dataset": dataset, "kernels": kernels, "method": method, "rows": len(mine), **means})
    return [record for record in found if record["rows"]]


def _of(rows: Sequence[Row], group: Group, method: str) -> list[Row]:
    return [r for r in rows if (r.place.dataset, r.place.kernels) == group and r.place.method == method]


def uneven(rows: Sequence[Row]) -> list[str]:
    """A line for each dataset in which means are over different rows: not to be compared."""
    lines = []
    for group in groups_of(rows):
        here = [r for r in rows if (r.place.dataset, r.place.kernels) == group]
        cases = {m: {(r.place.picture, r.place.kernel) for r in _of(here, group, m)} for m in methods_of(here)}
        every = set().union(*cases.values())
        odd = [f"{m} {len(found)}" for m, found in cases.items() if found != every]
        for name in columns_of(here):
            for method in cases:
                has = sum(bool(r.values.get(name)) for r in _of(here, group, method))
                odd += [f"{method} {has} of {title(name)}"] if 0 < has < len(cases[method]) else []
        if odd:
            where = f"{group[0]}, kernels {group[1]}"
            lines.append(f"Not every row is there in {where} ({len(every)}, but {', '.join(odd)}).")
    return lines
