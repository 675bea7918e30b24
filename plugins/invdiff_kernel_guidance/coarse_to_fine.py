"""A kernel from the photo alone, from coarse to fine: what blind deconvolution did before it learned.

As in Cho and Lee (2009), Xu, Zheng and Jia (2013) and Pan et al. (2014): on a small copy of the photo a shake is
a pixel or two, which is easy; each finer copy starts from the kernel of the one before. On every copy two closed
forms in Fourier space take turns: a picture of few edges, given the kernel, and the kernel, given its edges.
A search ends in one of several places, so there are several, and what the photo costs under each kernel tells them
apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from invdiff.blur import fast_size, pad_border
from invdiff.blur.deconvolution import centre_of_mass, gradient_power, shifted, taper, transfer, with_mass_at
from invdiff.metrics import noise_level
from invdiff.settings import Float, Int, Settings

_SMALLEST = 3  # side of the first kernel
_STEP = math.sqrt(2)  # from one copy to the next
_DECAY, _CHEAPEST = 1 / 1.06, 1e-4  # an edge costs less from round to round: finer ones come in
_STEEPER, _STEEPEST = 4, 1e5  # half-quadratic splitting's weight grows so, to where picture and edges are one
_JUDGED = 0.1  # of ``edge_cost``, when kernels are compared
_FAMILIAR = 0.015  # noise on [0, 1] up to which the settings hold as they are
_BLOCKY = 0.006  # what JPEG does to a shaken photo at a quality of about 85
_FAINT = 1e-3  # a difference on [0, 1] below this is no edge: splitting leaves crumbs
_ISLAND = 0.1  # of the kernel's mass: smaller parts that stand apart are noise
_RINGING = 0.02  # of a kernel's largest value: what moving it by a part of a pixel leaves around it


class CoarseToFine(Settings):
    """The search's settings. The defaults were chosen on training photos under drawn shakes, with 1 % of noise.

    Where a photo is noisier than 1.5 %, ``edge_cost`` and ``ridge`` grow with the variance of its noise.
    """

    rounds: Annotated[Int, Field(ge=1)] = 8
    """Turns of picture and kernel on each copy."""
    edge_cost: Annotated[Float, Field(gt=0)] = 8e-3
    """What an edge costs at first, a squared difference on [0, 1]: fainter ones are left out of the picture."""
    ridge: Annotated[Float, Field(gt=0)] = 4.6e-4
    """Weight of the kernel's squared norm, for each pixel of the photo."""
    floors: list[Annotated[Float, Field(ge=0, lt=1)]] = [0.05, 0.1, 0.15]
    """A search for each: values below this part of a kernel's largest are taken for nothing, so kernels get thinner.
    With none there is no search."""

    def of_compressed(self, compression: float) -> CoarseToFine:
        """These for a photo that compression took so far from what it was, a standard deviation on [0, 1].

        Edges cost up to twice as much, or else those of its blocks come in.
        """
        dearer = 1 + min((compression / _BLOCKY) ** 2, 1)
        return self.model_copy(update={"edge_cost": dearer * self.edge_cost})


Agreed = Callable[[Tensor], Tensor]
"""From the kernels ``(B, k, k)`` of several photos to those nearest to them that can be together."""


def coarse_to_fine(y: Tensor, size: int, settings: CoarseToFine, agreed: Agreed | None = None) -> list[Tensor]:
    """Kernels ``(B, size, size)``, one for each floor, of photos ``(B, 3, H, W)`` in [0, 1] of at least that size.

    Their mass is in the middle. With ``agreed`` the photos are parts of one, whose kernels are made to agree after each
    turn.
    """
    return list(_searched(y, size, settings, agreed)) if settings.floors else []


def photo_cost(y: Tensor, kernel: Tensor, settings: CoarseToFine) -> Tensor:
    """What photos ``(B, 3, H, W)`` cost under kernels ``(..., B, K, K)``: ``(..., B)``, a squared difference on [0, 1]
    a pixel.

    That is ``min ||y - k * x||^2 + cost ||grad x||_0`` within the photo, both terms of the search's own. A kernel that
    is wrong needs more edges to say the same, or leaves more unsaid.
    """
    photo = _Photo(y.float().mean(1), kernel.shape[-1])
    return photo.cost(kernel.float(), _JUDGED * settings.edge_cost * _noisier(y))


def _noisier(y: Tensor) -> Tensor:
    """How much dearer noise makes edges, ``(B, 1, 1)``: in float64 on the CPU, for weights that grow a millionfold."""
    return (noise_level(y) / _FAMILIAR).square().clamp_min(1).view(-1, 1, 1).cpu().double()


def _searched(y: Tensor, size: int, settings: CoarseToFine, agreed: Agreed | None) -> Tensor:
    """All searches side by side, ``(floors, B, size, size)``: on small copies most time goes into calls, not pixels."""
    grey, noisier = y.float().mean(1), _noisier(y)
    height, width = grey.shape[-2:]
    ridge, cost = settings.ridge * height * width * noisier, settings.edge_cost * noisier
    count = len(settings.floors)
    floors = grey.new_tensor(settings.floors).repeat_interleave(len(y)).view(-1, 1, 1)
    kernels = _line(_SMALLEST, grey).repeat(count, 1, 1)  # floors and photos in one dimension
    for side in _sides(size):
        small = _resized(grey, (max(side, round(height * side / size)), max(side, round(width * side / size))))
        photo = _Photo(small, side)
        kernels = _normal(_resized(kernels, (side, side)))
        for _ in range(settings.rounds):
            picture = photo.few_edges(kernels.unflatten(0, (count, -1)), cost)
            found = photo.kernel(picture, ridge).flatten(0, 1)
            kernels = _centred(_without_islands(_normal(found, floors)))
            if agreed is not None:
                together = [agreed(each) for each in kernels.unflatten(0, (count, -1))]
                kernels = _normal(torch.cat(together), floors)
            cost = (cost * _DECAY).clamp_min(_CHEAPEST)
    # Where a picture lies follows from where its kernel's mass lies, to a part of a pixel.
    return torch.cat([with_mass_at(one[None], floor=_RINGING) for one in kernels]).unflatten(0, (count, -1))


def _sides(size: int) -> list[int]:
    """Odd sides of the kernel, from a few pixels to ``size``."""
    sides = [size]
    while sides[-1] > _SMALLEST:
        side = int(sides[-1] / _STEP)
        sides.append(max(side - 1 + side % 2, _SMALLEST))
    return sides[::-1]


def _line(side: int, like: Tensor) -> Tensor:
    """Two pixels side by side: a blur that is no blur would never leave the photo as it is."""
    kernel = like.new_zeros(len(like), side, side)
    kernel[:, side // 2, side // 2 - 1 : side // 2 + 1] = 0.5
    return kernel


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x[:, None], size, mode="bicubic", antialias=size[0] < x.shape[-2], align_corners=False)[:, 0]


class _Photo:
    """One copy of a photo, made periodic: what both closed forms need of it, once."""

    def __init__(self, grey: Tensor, side: int) -> None:
        self.side = side
        height, width = grey.shape[-2:]
        self.size = fast_size(height + 2 * side), fast_size(width + 2 * side)
        mean = grey.mean((-2, -1), keepdim=True)
        # Continued by its border and faded out, so that opposite sides meet.
        padded = pad_border(grey - mean, side, "replicate")
        fade = taper(height + 2 * side, side, grey)[:, None] * taper(width + 2 * side, side, grey)
        self.values = self._placed(padded * fade)
        self.spectrum = _spectrum(self.values)
        inside = taper(height, side // 2, grey)[:, None] * taper(width, side // 2, grey)
        self.window = self._placed(F.pad(inside, (side, side, side, side)))
        self.power = gradient_power(self.size, grey)
        self.edges = [_spectrum(_difference(self.values, dim) * self.window) for dim in (-2, -1)]

    def _placed(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.size[1] - x.shape[-1], 0, self.size[0] - x.shape[-2]))

    def _response(self, kernel: Tensor) -> Tensor:
        return _each(lambda kernel: transfer(kernel, self.size), kernel)

    def _picture(self, spectrum: Tensor) -> Tensor:
        return _each(lambda one: torch.fft.irfft2(one, s=self.size), spectrum)

    def few_edges(self, kernel: Tensor, cost: Tensor) -> Tensor:
        """``argmin ||y - k * x||^2 + cost ||grad x||_0``, by half-quadratic splitting from ``2 cost`` on."""
        response = self._response(kernel)
        fitted, energy = _correlated(response, self.spectrum), _power(response)
        picture, weight = self.values, 2 * cost
        while bool((going := weight < _STEEPEST).any()):
            pull, least = weight.to(picture), (cost / weight).to(picture)
            rows, cols = (_difference(picture, dim) for dim in (-2, -1))
            kept = (rows.square().add_(cols.square()) >= least).to(picture)
            edges = _difference_adjoint(rows.mul_(kept), -2).add_(_difference_adjoint(cols.mul_(kept), -1))
            spectrum = (fitted + _spectrum(edges).mul_(pull)).div_((energy + pull * self.power).add_(1e-12))
            found = self._picture(spectrum)
            picture = found if bool(going.all()) else torch.where(going.to(picture.device), found, picture)
            weight = _STEEPER * weight
        return picture

    def cost(self, kernel: Tensor, cost: Tensor) -> Tensor:
        """``||y - k * x||^2 + cost ||grad x||_0`` at that picture, a pixel of the photo: ``(..., B)``."""
        picture = self.few_edges(kernel, cost)
        said = self._picture(_each(torch.mul, self._response(kernel), _spectrum(picture)))
        rows, cols = (_difference(picture, dim) for dim in (-2, -1))
        edges = rows.square() + cols.square() > _FAINT**2
        each = (self.values - said).square() + cost.to(picture) * edges
        return (each * self.window).sum((-2, -1)) / self.window.sum()

    def kernel(self, picture: Tensor, ridge: Tensor) -> Tensor:
        """``argmin ||grad y - k * grad x||^2 + ridge ||k||^2`` within the photo, cut to ``(..., B, side, side)``."""
        above, below = torch.zeros_like(self.spectrum), ridge.to(picture)
        for dim, edges in zip((-2, -1), self.edges, strict=True):
            found = _spectrum(_difference(picture, dim) * self.window)
            above, below = above + _correlated(found, edges), below + _power(found)
        half = self.side // 2
        around = self._picture(above / below).roll((half, half), (-2, -1))
        return around[..., : self.side, : self.side]


def _difference(x: Tensor, dim: int) -> Tensor:
    """Each pixel's difference to the next, around the border."""
    return x.roll(-1, dim).sub_(x)


def _difference_adjoint(x: Tensor, dim: int) -> Tensor:
    return x.roll(1, dim).sub_(x)


# One picture, a search's or a photo's, must not depend on its neighbours, not by the last bit, of which a search makes
# another kernel. A complex product rounds otherwise at the end of an array, and a transform in a batch.


def _each(made: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """``made`` of pictures ``(..., H, W)``, each by itself."""
    whole = torch.broadcast_tensors(*images)
    singles = zip(*(one.flatten(0, -3) for one in whole), strict=True)
    return torch.stack([made(*single) for single in singles]).unflatten(0, whole[0].shape[:-2])


def _spectrum(x: Tensor) -> Tensor:
    return _each(torch.fft.rfft2, x)


def _correlated(a: Tensor, b: Tensor) -> Tensor:
    return _each(lambda a, b: a.conj() * b, a, b)


def _power(x: Tensor) -> Tensor:
    return _each(lambda x: x.abs().square(), x)


def _normal(kernel: Tensor, floor: float | Tensor = 0.0) -> Tensor:
    """Of unit sum, and nothing below ``floor`` of its largest value; a kernel of nothing is a point."""
    kernel = kernel.clamp_min(0)
    kernel = kernel * (kernel >= floor * kernel.amax((-2, -1), keepdim=True))
    middle = kernel.shape[-1] // 2
    empty = kernel.sum((-2, -1)) <= 1e-12
    kernel[empty, middle, middle] = 1.0
    return kernel / kernel.sum((-2, -1), keepdim=True)


def _without_islands(kernel: Tensor) -> Tensor:
    """A kernel without the parts that touch no other and have less than a tenth of the mass."""
    count = kernel[0].numel()
    filled = kernel > 0
    label = torch.arange(1.0, count + 1, device=kernel.device).view(1, *kernel.shape[1:]) * filled
    while True:  # the largest number of each part spreads through it
        spread = F.max_pool2d(label[:, None], 3, stride=1, padding=1)[:, 0] * filled
        if torch.equal(spread, label):
            break
        label = spread
    places = label.long().flatten(1)
    mass = kernel.new_zeros(len(kernel), count + 1).scatter_add(1, places, kernel.flatten(1))
    kept = mass.gather(1, places).view_as(kernel) >= _ISLAND
    kept |= ~kept.any(-1, keepdim=True).any(-2, keepdim=True)  # a kernel of crumbs stays
    return _normal(kernel * kept)


def _centred(kernel: Tensor) -> Tensor:
    """With its mass in the middle, to the nearest pixel."""
    moves = (-centre_of_mass(kernel)).round().int().tolist()
    return _normal(torch.stack([shifted(one, *move) for one, move in zip(kernel, moves, strict=True)]))
