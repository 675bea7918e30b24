"""Quality over evaluations of the prior: measure it, and draw docs/images/evaluations.*.svg.

    python benchmarks/evaluations.py set5/ -o runs/evaluations --lpips lpips/
    python benchmarks/evaluations.py

The first measures, as ``invdiff eval`` does: the recipes of the rivals (x4, told the kernel, total variation), with
fewer and more evaluations. The length of DPS's steps is divided by their number, so that together they go as far;
GDP's is the recipe's, since longer ones diverge; DAPS has five evaluations a step. The second draws the first one's
``results.csv``, kept as benchmarks/results/evaluations.csv: methods are called ``<solver>-<evaluations>``, a point is
the mean over the rows. The fewest evaluations are left out: some fall so far that the other curves would be one line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from invdiff.evaluation.request import prepare
from invdiff.evaluation.results import mean, read_csv
from invdiff.evaluation.tables import methods_of
from invdiff.io.plot import plot
from invdiff.metrics.catalogue import title

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("psnr_y", "lpips_vgg")
COUNTS = (5, 10, 20, 50)

SOLVERS: dict[str, Callable[[int], str]] = {
    "DPS": lambda n: f"guidance=[{{kind: dps, kernel: given, strength: {1500 / n}}}] sampler.renewal=null",
    "DiffPIR": lambda n: "sampler.renewal=0.3",
    "DDNM": lambda n: "guidance=[{kind: ddnm, kernel: given}] sampler.renewal=0.72",
    "PiGDM": lambda n: "guidance=[{kind: pigdm, kernel: given, spread: 0.05}] sampler.renewal=null",
    "GDP": lambda n: "guidance=[{kind: gdp, kernel: given, strength: 500000}] sampler.renewal=null",
    "DAPS": lambda n: f"guidance=[{{kind: daps, kernel: given}}] sampler.renewal=1 sampler.steps={n // 5}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path, help="folders of clean pictures; none: draw what was measured")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/evaluations"))
    parser.add_argument("--lpips", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--side", type=int, default=128)
    given = parser.parse_args()
    if given.data:
        measure(given.data, given.output, given.lpips, given.limit, given.side)
        return
    for path, drawn in drawings().items():
        path.write_text(drawn, encoding="utf-8")
        print(path.relative_to(ROOT))


def measure(data: list[Path], folder: Path, lpips: Path | None, limit: int | None, side: int) -> None:
    last = f"DiffPIR-{COUNTS[-1]}"  # the recipe itself
    variants = {f"{solver}-{n}": f"sampler.steps={n} {change(n)}" for n in COUNTS for solver, change in SOLVERS.items()}
    work = prepare(
        ROOT / "recipes" / "rivals" / "diffpir.yaml",
        data,
        folder,
        kernels="gaussian8",
        repeat=1,
        limit=limit,
        lpips=lpips,
        overrides=[f"name={last}", f"sampler.steps={COUNTS[-1]}", f"input.crop={side}"],
        variants=[f"{label}: {change}" for label, change in variants.items() if label != last],
    )
    work.run()
    work.publish()
    print(folder / "results.csv")


def drawings() -> dict[Path, str]:
    """Each plot, by the file that it is kept in."""
    rows = read_csv(ROOT / "benchmarks" / "results" / "evaluations.csv")
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {c: {solver: [] for solver in SOLVERS} for c in COLUMNS}
    for method in methods_of(rows):
        solver, _, count = method.rpartition("-")
        for column in COLUMNS if int(count) > COUNTS[0] else ():
            found = mean((row for row in rows if row.place.method == method), column)
            assert found is not None, f"{method}: no {column}"
            curves[column][solver].append((int(count), found))
    return {
        ROOT / "docs" / "images" / f"evaluations.{column}.svg": plot(
            {solver: sorted(points) for solver, points in curves[column].items()}, title(column), "evaluation"
        )
        for column in COLUMNS
    }


if __name__ == "__main__":
    main()
