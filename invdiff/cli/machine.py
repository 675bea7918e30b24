"""What this machine lets a process have."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def allowed_cpus() -> int:
    """Processors that this process may use: those it is bound to, and no more than its container's share.

    Libraries count a machine's processors, and a container of two on a machine of sixty-four then has sixty-four
    threads that wait for one another.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = _QUOTA.read_text().split()
        return max(1, min(bound, math.ceil(int(quota) / int(period))))  # "max" is no number: no limit
    return bound


def use_allowed_cpus() -> None:
    """No more threads than there are processors for, unless the environment says how many."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    if torch.get_num_threads() > allowed_cpus():
        torch.set_num_threads(allowed_cpus())
