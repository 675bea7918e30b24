"""``precision: auto`` and ``compile: auto``: what pays here is measured, and not believed.

On a processor with instructions for bfloat16 but no matrix units (AMX) it costs about a fifth, and compiling plain
convolutions brings a twentieth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import one_line
from ..prior import PriorNet
from .settings import TrainSettings

_WORTH = 0.9  # of the time of a pass: what saves less is not worth a change


def choose_bfloat16(prior: PriorNet, settings: TrainSettings, device: torch.device, images: int) -> tuple[bool, str]:
    """Whether to train in bfloat16, and a line that says why; ``images`` are what the device is given at once."""
    if not _has_units(device):
        return False, "precision: float32 (no units for bfloat16 here)"
    x = torch.zeros(images, 3, settings.crop, settings.crop, device=device)
    ratio = _seconds_of_a_pass(prior, prior, x, True) / _seconds_of_a_pass(prior, prior, x, False)
    chosen = ratio < _WORTH
    words = "bfloat16" if chosen else "float32"
    return chosen, f"precision: {words} (a pass in bfloat16 takes {ratio:.2f} of one in float32)"


def choose_compiled(
    prior: PriorNet, settings: TrainSettings, device: torch.device, images: int, bfloat16: bool
) -> tuple[bool, str]:
    """Whether to compile the network, and a line that says why; none where there was nothing to choose.

    It is tried in any case: where it fails, for want of a compiler perhaps, training goes on without.
    """
    if not settings.compile:
        return False, ""
    x = torch.zeros(images, 3, settings.crop, settings.crop, device=device)
    started = time.monotonic()
    try:
        compiled = _seconds_of_a_pass(prior, torch.compile(prior), x, bfloat16)
    except Exception as error:  # of any kind: backends raise what they like
        return False, f"compile: no, it fails here ({one_line(error)[:200]})"
    spent = time.monotonic() - started
    if settings.compile is True:
        return True, f"compile: yes ({spent:.0f} s)"
    ratio = compiled / _seconds_of_a_pass(prior, prior, x, bfloat16)
    chosen = ratio < _WORTH
    word = "yes" if chosen else "no"
    return chosen, f"compile: {word} (a compiled pass takes {ratio:.2f} of one that is not, after {spent:.0f} s)"


def _has_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def _seconds_of_a_pass(prior: PriorNet, model: Callable[..., Any], x: Tensor, bfloat16: bool) -> float:
    """The fastest of three passes there and back, after one to warm up; ``model`` is the prior, compiled or not."""
    t = torch.zeros(len(x), dtype=torch.long, device=x.device)
    found: list[float] = []
    for _ in range(4):
        started = time.monotonic()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
            out = model(x, t, x)
        out.raw.float().square().mean().backward()
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
        found.append(time.monotonic() - started)
        prior.zero_grad(set_to_none=True)
    return min(found[1:])
