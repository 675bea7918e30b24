"""What docs/benchmarks.md and the model cards say in tables is what the results beside them say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

from invdiff.evaluation.results import mean, read_csv

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / "benchmarks.md", *sorted((ROOT / "plugins").glob("*/weights/*.md"))]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="not in a checkout")


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables_script", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_tables_are_made_from_the_results(tables, page):
    text = page.read_text(encoding="utf-8")
    assert tables.filled(text) == text, f"python benchmarks/tables.py {page}"
    if page.name == "benchmarks.md":
        assert len(tables.BLOCK.findall(text)) >= 6


def test_every_result_is_shown(tables):
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"[\w]+", " ".join(m[1] for m in tables.BLOCK.findall(text))))
    assert {p.stem for p in tables.RESULTS.glob("*.csv")} <= named | {"figure7"}


def test_a_cell_is_the_mean_of_its_rows(tables):
    """By hand, from the first table: the recipe on Set5."""
    rows = read_csv(tables.RESULTS / "set5.csv")
    ours = [r for r in rows if r.place.method == "blindsr_x4"]
    assert len(ours) == 5 * 8
    psnr = f"{mean(ours, 'psnr_y'):.2f}"
    line = next(
        x for x in PAGES[0].read_text(encoding="utf-8").splitlines() if x.startswith("| Set5, Gaussian8 | recipe")
    )
    assert line.split("|")[4].strip() == psnr


def test_curves_are_drawn_from_the_results():
    spec = importlib.util.spec_from_file_location("evaluations", ROOT / "benchmarks" / "evaluations.py")
    evaluations = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(evaluations)
    for path, drawn in evaluations.drawings().items():
        assert path.read_text(encoding="utf-8") == drawn, "python benchmarks/evaluations.py"
        assert f"(images/{path.name})" in PAGES[0].read_text(encoding="utf-8")


def test_what_is_not_there_is_said(tables):
    for wanted in ({"from": "set5", "columns": ["fid"]}, {"from": "set5", "columns": ["psnr_rgb"], "datasets": ["no"]}):
        with pytest.raises(SystemExit, match="no such rows, or not all of these columns"):
            tables.table(wanted)


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("speed_script", ROOT / "benchmarks" / "speed.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_speed_table_has_every_row(speed):
    text = PAGES[0].read_text(encoding="utf-8")
    for row in speed.ROWS.values():
        assert f"| {row.what} |" in text


def test_a_row_of_the_speed_table_is_measured(speed, monkeypatch, capsys):
    """A step is at least its network: nothing of what is compared is left out of it."""
    monkeypatch.setattr(speed, "keep_memory", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # it sets it: back to what it was
    monkeypatch.setattr(sys, "argv", ["speed.py", "--row", "loop_toy", "--rounds", "3"])
    threads = torch.get_num_threads()
    try:
        speed.main()
    finally:
        torch.set_num_threads(threads)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "toy" in line]
    assert 0.9 < float(line.split("|")[2].split()[0]) < 3


def test_first_results_are_timed_and_shown(monkeypatch, capsys):
    """Each command is a row of the page; a command that fails has no time, and says why."""
    spec = importlib.util.spec_from_file_location("first_result", ROOT / "benchmarks" / "first_result.py")
    first = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(first)
    text = PAGES[0].read_text(encoding="utf-8")
    for command in first.COMMANDS:
        assert re.search(rf"^\| `invdiff {command}` \| [\d.]+ \([\d.]+ to [\d.]+\) \|", text, re.M)
    monkeypatch.setattr(sys, "argv", ["first_result.py", "--command=--help", "--rounds", "2"])
    first.main()
    clock, processor = (float(cell.split()[0]) for cell in capsys.readouterr().out.splitlines()[-1].split("|")[2:4])
    assert 0 < processor < 20
    assert clock > 0
    with pytest.raises(SystemExit, match="invdiff recipes show nope ended with 2: error: nope: no such recipe"):
        first.once("recipes show nope")


def test_what_is_not_installed_is_said(speed):
    assert speed.importable("torch")
    assert not speed.importable("no_such_package")
