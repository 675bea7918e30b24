"""The seeds of independent random streams: every random number of ours comes from a key that says what it is for."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """What a stream of random numbers is for. The numbers are part of every result's identity: never change one."""

    TRAINING_STEP = 1
    TRAINING_PREPARATION = 2
    VALIDATION = 3
    CROP_ORDER = 10
    CROP_PLACE = 11
    SAMPLING = 20
    SYNTHESIS = 21
    INITIAL_WEIGHTS = 22
    KERNEL_ORDER = 30
    KERNEL = 31
    MEASUREMENT_NOISE = 32


def stream(*key: int) -> torch.Generator:
    """A CPU generator for one purpose, independent of those of all other keys."""
    state = np.random.SeedSequence(list(key)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


def content_of(*tensors: Tensor) -> list[int]:
    """What tensors hold, as integers for :func:`stream`: neither a picture's name nor its place in a list matters."""
    hashed = hashlib.sha256()
    for tensor in tensors:
        data = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
        hashed.update(str(data.shape).encode() + data.tobytes())
    return np.frombuffer(hashed.digest(), np.uint32).tolist()
