"""The kernel's half of alternate minimisation (Eq. 14a): given the current image, solve for the kernel."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation
from invdiff.errors import RecipeError
from invdiff.guidance import Estimate, Guidance, Step
from invdiff.metrics import inside
from invdiff.settings import Float, Int, Settings

from .kernels import with_better_kernels

_POWER_ITERATIONS = 12
_FLATTEST = 1e-3  # gradients below this, on [0, 1], say nothing about a kernel


class KernelUpdateSettings(Settings):
    anchor: Annotated[Float, Field(ge=0)] = 0.1
    """Pull towards the prior's own estimate, as a part of the data term's largest curvature."""
    iterations: Annotated[Int, Field(ge=1)] = 20
    """Steps of accelerated projected gradient descent."""
    edges: Annotated[Float, Field(gt=0, le=1)] = 1.0
    """Share of the image's differences that is believed, the strongest; the others are taken for nothing. Below 1 they
    are the grey image's."""
    trust: Annotated[Float, Field(ge=0)] = 0.2
    """Begin at this noise level, ``sqrt((1 - abar) / abar)`` on [0, 1]: before it the image is all guesswork."""
    floor: Annotated[Float, Field(ge=0, lt=1)] = 0.0
    """Values below this part of a kernel's largest are taken for nothing, where it is centred: shakes are thin."""
    centre: bool = True
    """Keep the kernel's mass where the prior's estimate has it, and move the image the other way, by whole pixels."""


class KernelUpdate(Guidance[KernelUpdateSettings]):
    """Replaces the kernel by ``argmin ||grad(y - A_k(x0))||^2 / L + anchor ||k - k_prior||^2`` on the simplex.

    The classical MAP-k step of blind deconvolution, on image gradients, where natural images are closest
    to white. ``L`` is the data term's largest curvature, so that ``anchor`` means the same for every
    picture. Solved by accelerated projected gradients (Beck and Teboulle 2009), for any operator that is linear
    in a kernel. The step is a constant to other guidances' gradients.

    A denoiser's image is too smooth, and explains the rest of the blur by a kernel that is too sharp. It is
    least so at strong edges, so ``edges`` can leave just those (Cho and Lee 2009; Xu and Jia 2010); the
    border of the photo, where the operator has to guess what the scene was, is then left out as well.
    """

    Settings = KernelUpdateSettings
    estimates_parameters = True

    def unfit(self, degradation: Degradation) -> str | None:
        return None if degradation.parameters.of_blur else "this operator's parameters are no kernel"

    def refine(self, step: Step) -> Estimate:
        if step.theta is None:
            raise RecipeError("kernel_update: this prior estimates no kernel")
        if step.sigma > self.settings.trust and step.t_next >= 0:
            return Estimate(step.x0, step.theta)
        floor = self.settings.floor if self.settings.centre else None
        return with_better_kernels(step, self.solve, floor)

    def solve(self, y: Tensor, x0: Tensor, anchor: Tensor, degradation: Degradation) -> Tensor:
        """The minimiser ``(B, K, K)`` after the settings' iterations, from ``anchor`` on."""
        edges = None
        if self.settings.edges < 1:  # colours have the same edges: a third of the work, and the same kernels
            x0, y = (image.mean(1, keepdim=True) for image in (x0, y))
            edges = strong_edges(x0, self.settings.edges, degradation.scale)
        term = DataTerm(y, x0, degradation, edges)
        curvature = term.curvature(anchor)
        weight, momentum = self.settings.anchor, 1.0
        kernel = ahead = anchor
        for _ in range(self.settings.iterations):
            slope = term.slope(ahead) / curvature + weight * (ahead - anchor)
            after = degradation.parameters.project(ahead - slope / (1 + weight))
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = after + (momentum - 1) / following * (after - kernel)
            kernel, momentum = after, following
        return kernel


Edges = tuple[Tensor, Tensor]


def strong_edges(x0: Tensor, share: float, scale: int) -> Edges:
    """Differences of an image along rows and columns, ``(B, C, H, W)`` each, but for the strongest ``share`` zero.

    They span ``scale`` pixels, so that the operator makes of them the measurement's differences. Strength is
    the length of the grey image's gradient, its threshold each image's own.
    """
    rows, cols = (difference(x0, dim, scale) for dim in (-2, -1))
    strength = rows.mean(1, keepdim=True).square() + cols.mean(1, keepdim=True).square()
    count = max(1, round(share * strength[0].numel()))
    threshold = strength.flatten(1).topk(count, dim=1).values[:, -1].view(-1, 1, 1, 1)
    kept = strength >= threshold
    return rows * kept, cols * kept


def difference(x: Tensor, dim: int, span: int = 1) -> Tensor:
    """``x`` a ``span`` further on minus ``x``, zero where that is beyond the image."""
    size = x.shape[dim] - span
    moved = x.narrow(dim, span, size) - x.narrow(dim, 0, size)
    return torch.nn.functional.pad(moved, (0, span) if dim == -1 else (0, 0, 0, span))


class DataTerm:
    """``||grad(y - A_k(x0))||^2 / 2`` as a function of the kernel, on all of an image or on some of its edges."""

    def __init__(self, y: Tensor, x0: Tensor, degradation: Degradation, edges: Edges | None = None) -> None:
        self.flattest, self.whole = _FLATTEST**2 * x0[0].numel(), edges is None
        if edges is None:
            self.views, self.wanted = [degradation.of(x0)], [y]
        else:
            margin = _guessed(y, x0, degradation)
            self.views = [degradation.of(edge, margin) for edge in edges]
            self.wanted = [inside(difference(y, dim), margin) for dim in (-2, -1)]

    def slope(self, kernel: Tensor) -> Tensor:
        """The gradient ``(B, K, K)``."""
        return self._back([view.apply(kernel) - y for view, y in zip(self.views, self.wanted, strict=True)])

    def curved(self, kernel: Tensor) -> Tensor:
        """The Hessian times ``kernel``."""
        return self._back([view.apply(kernel) for view in self.views])

    def _back(self, residuals: list[Tensor]) -> Tensor:
        if self.whole:
            residuals = [negative_laplacian(r) for r in residuals]
        return torch.stack([view.adjoint(r) for view, r in zip(self.views, residuals, strict=True)]).sum(0)

    def curvature(self, like: Tensor) -> Tensor:
        """The largest one for each image, ``(B, 1, 1)``, give or take a tenth, by power iteration."""
        start = torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(0))  # part of every direction
        vector = start.to(like).expand_as(like)
        norm = _norm(vector)
        for _ in range(_POWER_ITERATIONS):
            vector = self.curved(vector / norm.clamp_min(1e-12))
            norm = _norm(vector)
        return (1.2 * norm).clamp_min(self.flattest)


def negative_laplacian(x: Tensor) -> Tensor:
    """Half the derivative of the sum of squared differences along both axes."""
    falls = [torch.nn.functional.pad(x.diff(dim=dim), (1, 1) if dim == -1 else (0, 0, 1, 1)) for dim in (-2, -1)]
    return -(falls[0].diff(dim=-2) + falls[1].diff(dim=-1))


def _guessed(y: Tensor, x0: Tensor, degradation: Degradation) -> int:
    """How far into the measurement its unseen surroundings reach, in pixels; at least the last difference."""
    beyond = x0.shape[-1] > y.shape[-1] * degradation.scale  # the image has them: nothing is guessed
    reach = 1 if beyond else 1 + degradation.parameters.shape[-1] // 2 // degradation.scale
    return min(reach, min(y.shape[-2:]) // 4)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).view(-1, 1, 1)
