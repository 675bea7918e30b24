"""Camera-shake kernels: a random path of the camera while the shutter is open, drawn as a line of light.

The path follows Borodenko's *motionblur* generator, which DPS, BlindDPS and DiffPIR use: its length, the
number of its steps and how it turns all depend on one ``intensity``. Drawing is ours: the line is
integrated in float instead of painted with 8 bits, its mass is centred, and a path that would leave
the kernel is drawn again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FEWEST = 0.1  # steps stay longer than none at intensity 1: the generator's epsilon
_ATTEMPTS = 100


def path(size: int, intensity: float, generator: torch.Generator) -> Tensor:
    """Vertices ``(N, 2)`` of a path, rows and columns in pixels of the kernel, from the origin on, float64.

    Lengths are those of a canvas of twice the kernel's ``size``, halved at the end. The total is
    ``0.75 D (u1 + u2)`` with ``D`` the canvas' diagonal, ``u1 ~ U(0, 1)`` and ``u2 ~ U(0, intensity^2)``;
    single steps are ``Beta(1, 30) (1.1 - intensity) D``, those longer than the whole are not taken,
    and the last may overshoot. Headings are absolute: each has a magnitude from a triangular law on
    ``[0, bound + 0.1]`` with its mode at ``intensity * bound``, ``bound ~ U(0, intensity * pi)``, and
    the sign of the one before, flipped with a probability drawn from ``Beta(2, 20)``. At intensity 0
    the path is straight. The whole is then turned by ``U(0, pi)``.
    """
    if not 0 <= intensity <= 1:
        raise ValueError(f"intensity must be in [0, 1], got {intensity}")

    def uniform(count: int) -> Tensor:
        return torch.rand(count, generator=generator, dtype=torch.float64)

    diagonal = 2 * math.sqrt(2) * size
    first, second = uniform(2).tolist()
    length = max(0.75 * diagonal * (first + intensity**2 * second), 1e-6)
    # Beta(1, 30) cut off at the whole length, by its inverse: what drawing until it fits would give.
    longest = (1 + _FEWEST - intensity) * diagonal
    below = 1 - (1 - min(length / longest, 1.0)) ** 30
    steps = torch.empty(0, dtype=torch.float64)
    while float(steps.sum()) < length:
        steps = torch.cat([steps, longest * (1 - (1 - below * uniform(64)) ** (1 / 30))])
    steps = steps[: int((steps.cumsum(0) < length).sum()) + 1]

    bound = intensity * math.pi * float(uniform(1))
    flip = float(uniform(21).sort().values[1])  # the second smallest of 21 is Beta(2, 20)
    start = (2 * float(uniform(1)) - 1) * bound
    count = len(steps) - 1
    signs = math.copysign(1.0, start) * torch.where(uniform(count) < flip, -1.0, 1.0).double().cumprod(0)
    headings = signs * _triangular(uniform(count), intensity * bound, bound + _FEWEST) if bound else signs * 0
    angles = torch.cat([torch.tensor([start], dtype=torch.float64), headings]) + math.pi * float(uniform(1))
    moves = 0.5 * steps[:, None] * torch.stack([angles.sin(), angles.cos()], dim=1)
    return torch.cat([torch.zeros(1, 2, dtype=torch.float64), moves.cumsum(0)])


def _triangular(u: Tensor, mode: float, high: float) -> Tensor:
    """The triangular law on ``[0, high]`` by its inverse."""
    rising = (u * high * mode).sqrt()
    falling = high - ((1 - u) * high * (high - mode)).sqrt()
    return torch.where(u < mode / high, rising, falling)


def draw_line(vertices: Tensor, size: int) -> tuple[Tensor, Tensor] | None:
    """The path as a kernel ``(size, size)`` with its mass in the centre, and the shift ``(2,)`` that took it there.

    Light falls evenly along the line. Points twenty to the pixel are shared out among the four pixels
    around each, which blurs by a triangle of one pixel and keeps the centre of mass exactly where it
    is. None where the centred path does not fit.
    """
    lengths = (vertices[1:] - vertices[:-1]).norm(dim=1)
    total = float(lengths.sum())
    count = max(2, math.ceil(20 * total))
    place = total * (torch.arange(count, dtype=torch.float64) + 0.5) / count
    ends = lengths.cumsum(0)
    segment = torch.searchsorted(ends, place).clamp_max(len(lengths) - 1)
    along = 1 - (ends[segment] - place) / lengths[segment].clamp_min(1e-12)
    points = vertices[segment] + along[:, None] * (vertices[segment + 1] - vertices[segment])
    return light(points, torch.full((count,), 1 / count, dtype=torch.float64), size)


def light(points: Tensor, shares: Tensor, size: int, centred: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
    """Points ``(N, 2)`` of light as a kernel ``(size, size)``, and the shift ``(2,)`` that centred its mass, or the
    point ``centred (2,)`` instead.

    ``shares (N,)`` is what each point has of the whole; it is spread over the four pixels around the point. None
    where the centred points do not fit.
    """
    shift = size // 2 - (shares @ points if centred is None else centred)
    points = points + shift
    if float(points.min()) < 0 or float(points.max()) > size - 1:
        return None
    corner = points.floor().long().clamp_max(max(size - 2, 0))
    part = points - corner
    kernel = torch.zeros(size, size, dtype=torch.float64)
    for row in (0, 1):
        for col in (0, 1):
            weight = (part[:, 0] if row else 1 - part[:, 0]) * (part[:, 1] if col else 1 - part[:, 1])
            where = ((corner[:, 0] + row).clamp_max(size - 1), (corner[:, 1] + col).clamp_max(size - 1))
            kernel.index_put_(where, weight * shares, accumulate=True)
    return kernel, shift


def motion_kernel(size: int, intensity: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random kernel ``(size, size)`` of unit sum, float64, centred, and the shift ``(2,)`` that centred it.

    A path that does not fit is drawn again; after many attempts, as for tiny kernels, it is shrunk.
    """
    for _ in range(_ATTEMPTS):
        vertices = path(size, intensity, generator)
        drawn = draw_line(vertices, size)
        if drawn is not None:
            return drawn
    while drawn is None:
        vertices = 0.8 * vertices
        drawn = draw_line(vertices, size)
    return drawn
