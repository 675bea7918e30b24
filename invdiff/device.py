"""Where it is computed: a GPU if there is one."""

from __future__ import annotations

import torch

from .errors import InvdiffError


def choose_device(device: str | torch.device) -> torch.device:
    """``auto`` is CUDA, then MPS, then the CPU; a clear error for one that is not there."""
    if isinstance(device, torch.device):
        return device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InvdiffError("--device cuda: no CUDA device here; --device auto takes what there is")
    if device == "mps" and not torch.backends.mps.is_available():
        raise InvdiffError("--device mps: no MPS device here; --device auto takes what there is")
    return torch.device(device)
