"""What somebody waits for who has just installed it: the table "The first minutes" of docs/benchmarks.md.

    python benchmarks/first_result.py
    python benchmarks/first_result.py --rounds 9 --command "doctor"

Each command runs in a process of its own, in an empty folder, with the threads that it takes by itself; the first round
also reads everything from the disk. Printed are medians over the rounds, smallest and largest beside them: seconds on
the clock, which other work on the machine makes longer, and processor seconds of the process, user's and system's
together, on which it tells less.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from statistics import median

COMMANDS = ("--help", "recipes", "run blindsr_x4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", action="append", help="what comes after invdiff; repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print("| command | seconds on the clock | processor seconds |\n|---|---|---|", flush=True)
    for command in given.command or COMMANDS:
        clock, processor = zip(*(once(command) for _ in range(given.rounds)), strict=True)
        print(f"| `invdiff {command}` | {said(clock)} | {said(processor)} |", flush=True)


def once(command: str) -> tuple[float, float]:
    """Seconds on the clock, and the processor's, of ``invdiff`` in a new process and an empty folder."""
    called = [sys.executable, "-m", "invdiff", *shlex.split(command)]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.Popen(called, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        errors = process.stderr.read() if process.stderr else b""
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"invdiff {command} ended with {process.returncode}: {errors.decode(errors='replace')}")
    return seconds, used.ru_utime + used.ru_stime


def said(found: Sequence[float]) -> str:
    return f"{median(found):.1f} ({min(found):.1f} to {max(found):.1f})"


if __name__ == "__main__":
    main()
