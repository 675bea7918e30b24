"""The eight ways round that a picture can be shown: turned by quarters, and mirrored."""

from __future__ import annotations

from torch import Tensor

ORIENTATIONS = 8


def shown(x: Tensor, orientation: int) -> Tensor:
    """``(..., H, W)`` in one of its orientations: 0 is as it is, 1 to 3 are turned left, from 4 on then mirrored."""
    turned = x.rot90(orientation % 4, (-2, -1))
    return turned.flip(-1) if orientation >= 4 else turned


def upright(x: Tensor, orientation: int) -> Tensor:
    """What was :func:`shown` so, as it was."""
    return (x.flip(-1) if orientation >= 4 else x).rot90(-(orientation % 4), (-2, -1))
