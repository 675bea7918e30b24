"""A camera that turns while it shakes: how long it stayed at each pose, and the kernels that follow from that.

A pose is a turn and a shift. What a turn does to a place in the picture is a shift too, across the way to the middle
and the longer the further out it lies, so each place has a kernel of its own and all follow from the same poses
(Whyte, Sivic, Zisserman and Ponce 2010; Gupta et al. 2010; Hirsch, Schuler, Harmeling and Schoelkopf 2011).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from invdiff.blur import fast_size

_LEAST = 1e-7

Place = tuple[float, float]
"""Rows below and columns right of the picture's middle, half the longer side being 1."""


def kernels_at(poses: Tensor, places: tuple[Place, ...], reach: float) -> Tensor:
    """Poses ``(B, A, K, K)`` to the kernels of some places, ``(B, P, K, K)``, linear in them.

    The ``A`` turns go from one end to the other; at either, what lies half the longer side from the middle moves by
    ``reach`` pixels. What leaves a kernel's square is lost.
    """
    side = poses.shape[-1]
    moves = _moves(places, poses.shape[1], side, reach).to(_complex(poses)).to(poses.device)
    size = _size(side, reach)
    spectrum = torch.fft.rfft2(poses, s=(size, size))
    found = torch.stack([(spectrum * move).sum(1) for move in moves], dim=1)
    return torch.fft.irfft2(found, s=(size, size))[..., :side, :side]


def poses_of(kernels: Tensor, places: tuple[Place, ...], turns: int, reach: float, rounds: int) -> Tensor:
    """The poses ``(B, turns, K, K)``, of unit sum, under which kernels ``(B, P, K, K)`` are likeliest.

    By expectation maximisation from all poses alike (Richardson 1972; Lucy 1974), under which none falls below nothing.
    """
    side = kernels.shape[-1]
    moves = _moves(places, turns, side, reach).to(_complex(kernels)).to(kernels.device).conj()
    size = _size(side, reach)

    def back(seen: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(seen, s=(size, size))
        found = torch.stack([(spectrum * moves[:, turn]).sum(1) for turn in range(turns)], dim=1)
        return torch.fft.irfft2(found, s=(size, size))[..., :side, :side].clamp_min(0)

    poses = kernels.new_full((len(kernels), turns, side, side), 1 / (turns * side * side))
    light = back(torch.ones_like(kernels)).clamp_min(1)  # a pose that few places see gets no more for it
    for _ in range(rounds):
        poses = poses * back(kernels / (kernels_at(poses, places, reach).clamp_min(0) + _LEAST)) / light
        poses = poses / poses.sum((1, 2, 3), keepdim=True)
    return poses


def _complex(like: Tensor) -> torch.dtype:
    return torch.complex128 if like.dtype == torch.float64 else torch.complex64


def _size(side: int, reach: float) -> int:
    """Of the transforms: what is moved out at one end must not come in at the other."""
    return fast_size(side + math.ceil(math.sqrt(2) * reach) + 1)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what is kept serves calls outside of one, too
def _moves(places: tuple[Place, ...], turns: int, side: int, reach: float) -> Tensor:
    """What moves kernels, in Fourier space, ``(P, turns, *)``: by whole pixels, and by parts of one as two of them are
    mixed, which leaves nothing below 0."""
    size = _size(side, reach)
    rows, cols = (2 * math.pi * f(size, dtype=torch.float64) for f in (torch.fft.fftfreq, torch.fft.rfftfreq))
    turn = torch.linspace(-reach, reach, turns, dtype=torch.float64)
    down, right = torch.tensor(places, dtype=torch.float64).T
    return _moved(turn * right[:, None], rows)[..., :, None] * _moved(-turn * down[:, None], cols)[..., None, :]


def _moved(by: Tensor, frequency: Tensor) -> Tensor:
    whole = by.floor()[..., None]
    part = by[..., None] - whole
    first, second = (torch.polar(torch.ones_like(n * frequency), -n * frequency) for n in (whole, whole + 1))
    return (1 - part) * first + part * second
