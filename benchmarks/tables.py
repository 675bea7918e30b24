"""Fill the tables of docs/benchmarks.md and of the model cards from results.csv files.

    python benchmarks/tables.py docs/benchmarks.md plugins/*/weights/*.md

Results lie in ``benchmarks/results/<name>.csv``, as ``invdiff eval`` wrote them. A page says where a table
goes, and what it holds, in a comment; what stands between it and the next ``<!-- end -->`` is written anew::

    <!-- table {from: set5, columns: [psnr_y, lpips_vgg], methods: {bicubic: bicubic, blindsr_x4: ours}} -->
    <!-- end -->

``from`` is one name or a list. ``methods`` maps the rows to show to what the page calls them, in its order (all, under
their own names, where it is left out); ``datasets`` and ``kernels`` keep some and rename them likewise.
``against: bicubic`` adds what each method gains over that one in the first column, row by row: median, worst, and how
many rows lose.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from invdiff.evaluation.results import Row, mean, read_csv
from invdiff.evaluation.tables import Table, columns_of, groups_of, methods_of
from invdiff.metrics.catalogue import number, title

RESULTS = Path(__file__).resolve().parent / "results"
BLOCK = re.compile(r"(<!-- table (.*?) -->\n).*?(<!-- end -->)", re.S)


def main() -> None:
    for page in map(Path, sys.argv[1:]):
        text = page.read_text(encoding="utf-8")
        new = filled(text)
        if new != text:
            page.write_text(new, encoding="utf-8")
        print(f"{page}: {'changed' if new != text else 'as it was'}")


def filled(text: str) -> str:
    """The page with every table made from its results."""
    return BLOCK.sub(lambda m: f"{m[1]}{table(yaml.safe_load(m[2])).markdown()}{m[3]}", text)


def table(wanted: dict[str, Any]) -> Table:
    rows: list[Row] = []
    for name in [wanted["from"]] if isinstance(wanted["from"], str) else wanted["from"]:
        rows += read_csv(RESULTS / f"{name}.csv")
    sets, kernels = _labels(wanted.get("datasets")), _labels(wanted.get("kernels"))
    rows = [r for r in rows if (not sets or r.place.dataset in sets) and (not kernels or r.place.kernels in kernels)]
    methods = _labels(wanted.get("methods")) or {m: m for m in methods_of(rows)}
    there, shown = columns_of(rows), wanted["columns"]
    groups = groups_of(rows)
    if not rows or not set(shown) <= set(there):
        raise SystemExit(f"{wanted}: there are no such rows, or not all of these columns")
    body = []
    for dataset, family in groups:
        for method, label in methods.items():
            mine = [
                r for r in rows if r.place.dataset == dataset and r.place.kernels == family and r.place.method == method
            ]
            if mine:
                where = f"{sets.get(dataset, dataset)}, {kernels.get(family, family)}"
                cells = [number(mean(mine, c), c) for c in shown]
                if "against" in wanted:
                    cells += gains(mine, [r for r in rows if r.place.method == wanted["against"]], shown[0])
                body.append([where, label, str(len(mine)), *cells])
    head = ["data, kernels", "method", "rows", *map(title, shown)]
    if "against" in wanted:
        head += ["median gain", "worst", "losses"]
    if len(groups) == 1:  # said in the text
        return Table(head[1:], [line[1:] for line in body])
    return Table(head, body)


def gains(mine: list[Row], base: list[Row], column: str) -> list[str]:
    """Median and smallest difference of a column to the same rows of another method, and how many are negative."""
    known = {replace(r.place, method=""): r.number(column) for r in base}
    found = [(r.number(column) or 0) - (known[replace(r.place, method="")] or 0) for r in mine]
    if not any(found):
        return ["", "", ""]  # that method itself
    return [number(median(found), column), number(min(found), column), str(sum(gain < 0 for gain in found))]


def _labels(given: Any) -> dict[str, str]:
    """A mapping, a list of names that keep themselves, or nothing."""
    return given if isinstance(given, dict) else {name: name for name in given or []}


if __name__ == "__main__":
    main()
