"""Memory that glibc hands back to the kernel between two layers of a network, and gets again page by page."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_MOST = 2**31 - 1
_LARGEST = 96 * 2**20  # what a network has of a tile is smaller; whole pictures of 8.4 megapixels and more are not kept
_LARGEST_OF_OLD = 32 * 2**20  # older ones refuse a larger threshold for mmap


def keep_memory() -> bool:
    """Let glibc keep freed blocks for the next request; says whether it does.

    As it comes, every block of over 128 kB is mapped anew and unmapped again: of a large network's time a fifth to
    a third goes into zeroed pages. Between pictures the process holds on to them, so this is for programs of our own
    and no business of an import. Whole large pictures are handed back: few and far between, they would leave holes, and
    the peak would be half as much again. ``INVDIFF_KEEP_MEMORY=0`` leaves glibc alone.
    """
    if sys.platform != "linux" or os.environ.get("INVDIFF_KEEP_MEMORY", "").strip() == "0":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):  # musl has no such thing
        return False
    mapped = any(libc.mallopt(_M_MMAP_THRESHOLD, size) for size in (_LARGEST, _LARGEST_OF_OLD))
    return mapped and bool(libc.mallopt(_M_TRIM_THRESHOLD, _MOST))
