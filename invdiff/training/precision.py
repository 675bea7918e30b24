"""``precision: auto``: whether bfloat16 pays here is measured, where the device has units for it, and not believed.

On a processor with instructions for bfloat16 but no matrix units (AMX) it costs about a fifth.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..prior import PriorNet
from .settings import TrainSettings


def choose_bfloat16(prior: PriorNet, settings: TrainSettings, device: torch.device, images: int) -> tuple[bool, str]:
    """Whether to train in bfloat16, and a line that says why; ``images`` are what the device is given at once."""
    if not _has_units(device):
        return False, "precision: float32 (no units for bfloat16 here)"
    x = torch.zeros(images, 3, settings.crop, settings.crop, device=device)
    ratio = _seconds_of_a_pass(prior, x, True) / _seconds_of_a_pass(prior, x, False)
    chosen = ratio < 0.9
    words = "bfloat16" if chosen else "float32"
    return chosen, f"precision: {words} (a pass in bfloat16 takes {ratio:.2f} of one in float32)"


def _has_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def _seconds_of_a_pass(prior: PriorNet, x: Tensor, bfloat16: bool) -> float:
    """The fastest of three passes there and back, after one to warm up."""
    t = torch.zeros(len(x), dtype=torch.long, device=x.device)
    found: list[float] = []
    for _ in range(4):
        started = time.monotonic()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
            out = prior(x, t, x)
        out.raw.float().square().mean().backward()
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
        found.append(time.monotonic() - started)
        prior.zero_grad(set_to_none=True)
    return min(found[1:])
