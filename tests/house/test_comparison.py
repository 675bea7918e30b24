"""What docs/comparison.md says of invdiff is so: its commands are run elsewhere, its numbers are the tables'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "comparison.md"
TABLE = r"<!-- comparison -->\n\|[^\n]*\n\|[^\n]*\n(.*?)<!-- end -->"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not in a checkout")


def rows():
    table = re.search(TABLE, PAGE.read_text(encoding="utf-8"), re.S)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def lines_of(page, languages):
    blocks = re.findall(rf"^```(?:{languages})\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    return {re.split(r"\s{2,}|\s#", line)[0] for block in blocks for line in block.splitlines()}


def test_each_point_is_shown_by_a_command_that_the_tests_run():
    """``sh`` blocks are run by test_docs.py as they are printed, the page of ``invdiff app`` by tests/app."""
    run = set().union(*(lines_of(page, "sh") for page in ("docs/cli.md", "docs/benchmarks.md", "README.md")))
    run |= {"invdiff app"} & lines_of("docs/app.md", "console")
    found = rows()
    assert len(found) >= 12
    for you_ask, _, shown, *others in found:
        assert len(others) == 4, you_ask
        commands = re.findall(r"`([^`]+)`", shown)
        assert commands or "](../LICENSE)" in shown, you_ask
        assert set(commands) <= run, you_ask
    beside = re.findall(r"`(invdiff [^`]+)`", re.sub(TABLE, "", PAGE.read_text(encoding="utf-8"), flags=re.S))
    assert set(beside) <= run


def test_what_it_quotes_is_what_the_tables_say():
    text = PAGE.read_text(encoding="utf-8")
    table = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").splitlines()
    ours, theirs = (
        next(line.split("|")[4:] for line in table if line.startswith(f"| Set5, Gaussian8 | {method} "))
        for method in ("recipe (2 steps)", "Real-ESRGAN x4plus")
    )
    for place, words in ((0, "{} dB PSNR-Y for {}"), (1, "SSIM-Y of {} for {}"), (3, "LPIPS-Alex {1} for {0}")):
        said = words.format(ours[place].strip(), theirs[place].strip())
        assert said in " ".join(text.split())
    seconds = [f"{float(row[8]):.1f}" for row in (theirs, ours)]
    assert "took {} s a picture where our recipe took {}".format(*seconds) in " ".join(text.split())
