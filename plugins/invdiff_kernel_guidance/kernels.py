"""A better kernel for every part of a photo that has one of its own, and where the mass of each lies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.blur.deconvolution import centre_of_mass, shifted, with_mass_at
from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Step

Better = Callable[[Tensor, Tensor, Tensor, Degradation], Tensor]
"""From photos, pictures ``(B, 3, ., .)``, their kernels ``(B, K, K)`` and an operator with one to better kernels."""


_EDGE = 2.5 / 255  # less between neighbours is rounding, or light that falls off


def without_edges(photo: Tensor, gain: float) -> bool:
    """Whether nothing in a photo ``(3, h, w)``, brightened ``gain`` times, says how it was blurred."""
    return all(float(photo.diff(dim=dim).abs().max()) < _EDGE * gain for dim in (-2, -1))


def with_better_kernels(step: Step, better: Better, floor: float | None) -> Estimate:
    """A step's image and parameters with what ``better`` makes of every kernel, as constants to gradients.

    ``floor`` is that of :func:`centred`; None leaves kernels and image where they are. So do kernels that differ
    across the picture: where one of them is off its middle, the image says that it should be. A photo without edges
    keeps what it has.
    """
    assert step.theta is not None  # there is something to be better than
    before, x0 = step.theta.detach(), step.x0.detach()
    found, images = [], []
    for i in range(len(before)):
        y, x, theta, image = (value[i : i + 1] for value in (step.y, x0, before, step.x0))
        if without_edges(y[0], step.gain):
            found.append(theta)
            images.append(image)
            continue
        size = (y.shape[-2], y.shape[-1])
        views = step.degradation.views(size, theta)
        kernels = []
        for view, own in zip(views, step.degradation.kernels_of(theta, size, len(views)).unbind(1), strict=True):
            kernel = better(view.of_photo(y), view.of_picture(x), own, view.degradation)
            if floor is not None and len(views) == 1:
                kernel, image = centred(kernel, image, own, floor, wraps=step.degradation.wraps)
            kernels.append(kernel)
        found.append(step.degradation.from_kernels(torch.stack(kernels, 1), size))
        images.append(image)
    theta = torch.cat(found)
    return Estimate(torch.cat(images), step.theta + (theta - before))


def centred(
    kernel: Tensor, x0: Tensor, anchor: Tensor, floor: float = 0.0, *, wraps: bool = False
) -> tuple[Tensor, Tensor]:
    """Each kernel with its mass moved to where ``anchor`` has it, and its image moved the other way by whole pixels.

    That is the middle, but for operators that mean their kernels to be off it. The part of a pixel that is left moves
    the kernel alone, so that the picture follows when it is next solved for: results were nearer the truth than with
    the image moved as well. At the image's border comes in what lies there or, where the operator ``wraps``, what goes
    out at the opposite one.
    """
    kernels, images = [], []
    for one, x, believed in zip(kernel.split(1), x0, anchor.split(1), strict=True):  # a batch would round otherwise
        middle = centre_of_mass(believed)
        ((rows, cols),) = (middle - centre_of_mass(one)).round().int().tolist()
        moved = shifted(one, rows, cols)
        kernels.append(with_mass_at(moved / moved.sum((-2, -1), keepdim=True), middle, floor))
        images.append(shifted(x, -rows, -cols, replicate=True, wraps=wraps))
    return torch.cat(kernels), torch.stack(images)
