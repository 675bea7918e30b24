"""Freed memory is kept for the next request: by the command line, and by nothing that is merely imported."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from invdiff.cli.memory import keep_memory

PAGES = 40 * 2**20 // os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 0

COUNT_FAULTS = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.prctl(41, 1, 0, 0, 0)  # no huge pages, which would make few faults of many
libc.malloc.restype = ctypes.c_void_p
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    block = libc.malloc(40 * 2**20)
    ctypes.memset(block, 1, 40 * 2**20)
    libc.free(ctypes.c_void_p(block))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

A_COMMAND = """
import sys
from invdiff.cli.main import main
sys.stdout = open("/dev/null", "w")
try:
    main(["--version"])
except SystemExit as end:
    assert not end.code
sys.stdout = sys.__stdout__
"""

ALL_IMPORTED = """
import invdiff, invdiff.cli, invdiff.cli.memory
for name in invdiff.__all__:
    getattr(invdiff, name)
"""


def glibc():
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def faults(first, **environment):
    """Page faults of five blocks of 40 MiB, one after the other, in a process that did ``first``."""
    others = {k: v for k, v in os.environ.items() if k != "INVDIFF_KEEP_MEMORY" and not k.startswith("MALLOC_")}
    called = [sys.executable, "-c", first + COUNT_FAULTS]
    done = subprocess.run(called, env=others | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not glibc(), reason="glibc's habit alone")
def test_a_command_gets_its_pages_once():
    assert faults(A_COMMAND) < 1.2 * PAGES
    assert faults(A_COMMAND, INVDIFF_KEEP_MEMORY="0") > 4.8 * PAGES


@pytest.mark.skipif(not glibc(), reason="glibc's habit alone")
def test_an_import_changes_nothing():
    assert faults(ALL_IMPORTED) > 4.8 * PAGES


def test_elsewhere_nothing_is_done(monkeypatch):
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert not keep_memory()


def test_libraries_without_it_are_left_alone(monkeypatch):
    """musl's has no mallopt."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_memory()
