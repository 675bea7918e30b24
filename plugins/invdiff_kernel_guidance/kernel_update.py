"""The kernel's half of alternate minimisation (Eq. 14a): given the current image, solve for the kernel."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from invdiff.deconvolution import centre_of_mass, shifted
from invdiff.degradation import Degradation, KernelSpace
from invdiff.errors import RecipeError
from invdiff.guidance import Estimate, Guidance, Step
from invdiff.settings import Float, Int, Settings

_POWER_ITERATIONS = 12
_FLATTEST = 1e-3  # gradients below this, on [0, 1], say nothing about a kernel


class KernelUpdateSettings(Settings):
    anchor: Annotated[Float, Field(ge=0)] = 0.1
    """Pull towards the prior's own estimate, as a part of the data term's largest curvature."""
    iterations: Annotated[Int, Field(ge=1)] = 20
    trust: Annotated[Float, Field(ge=0)] = 0.2
    """Begin at this noise level, ``sqrt((1 - abar) / abar)`` on [0, 1]: before it the image is all guesswork."""
    centre: bool = True
    """Keep the kernel's mass where the prior's estimate has it, by whole pixels, moving the image the other way."""


class KernelUpdate(Guidance):
    """Replaces the kernel by ``argmin ||grad(y - A_k(x0))||^2 / L + anchor ||k - k_prior||^2`` on the simplex.

    The classical MAP-k step of blind deconvolution, on image gradients, where natural images are closest
    to white. ``L`` is the data term's largest curvature, so that ``anchor`` means the same for every
    picture. Solved by accelerated projected gradients (Beck and Teboulle 2009), with derivatives through
    ``apply``: any operator that is linear in a kernel is served. The step is a constant to other
    guidances' gradients.
    """

    Settings: ClassVar[type[KernelUpdateSettings]] = KernelUpdateSettings
    settings: KernelUpdateSettings

    def refine(self, step: Step) -> Estimate:
        space = step.degradation.parameters
        if not isinstance(space, KernelSpace):
            raise RecipeError("kernel_update: this operator's parameters are no kernel")
        if step.theta is None:
            raise RecipeError("kernel_update: this prior estimates no kernel")
        low, high = step.prior.value_range
        sigma = float(step.prior.schedule.noise_to_signal(torch.tensor([step.t]), torch.empty(1)))
        if sigma / (high - low) > self.settings.trust and step.t_next >= 0:
            return Estimate(step.x0, step.theta)
        kernel = self.solve(step.y, step.x0.detach(), step.theta.detach(), step.degradation, space)
        x0 = step.x0
        if self.settings.centre:
            kernel, x0 = centred(kernel, x0, step.theta.detach())
        return Estimate(x0, step.theta + (kernel - step.theta).detach())

    def solve(self, y: Tensor, x0: Tensor, anchor: Tensor, degradation: Degradation, space: KernelSpace) -> Tensor:
        """The minimiser ``(B, K, K)`` after the settings' iterations, from ``anchor`` on."""
        curvature = data_curvature(x0, anchor, degradation)
        weight, momentum = self.settings.anchor, 1.0
        kernel = ahead = anchor
        for _ in range(self.settings.iterations):
            slope = data_slope(y, x0, ahead, degradation) / curvature + weight * (ahead - anchor)
            after = space.project(ahead - slope / (1 + weight))
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = after + (momentum - 1) / following * (after - kernel)
            kernel, momentum = after, following
        return kernel


def data_slope(y: Tensor | None, x0: Tensor, kernel: Tensor, degradation: Degradation) -> Tensor:
    """Gradient in the kernel of half the squared gradient residual; without ``y`` its Hessian times ``kernel``."""
    with torch.enable_grad():
        kernel = kernel.detach().requires_grad_()
        residual = degradation.apply(x0, kernel)
        residual = residual if y is None else residual - y
        rows, cols = residual.diff(dim=-2), residual.diff(dim=-1)
        return torch.autograd.grad(0.5 * (rows.square().sum() + cols.square().sum()), kernel)[0]


def data_curvature(x0: Tensor, like: Tensor, degradation: Degradation) -> Tensor:
    """The data term's largest curvature for each image, ``(B, 1, 1)``, give or take a tenth, by power iteration."""
    start = torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(0))  # part of every direction
    vector = start.to(like).expand_as(like)
    norm = _norm(vector)
    for _ in range(_POWER_ITERATIONS):
        vector = data_slope(None, x0, vector / norm.clamp_min(1e-12), degradation)
        norm = _norm(vector)
    return (1.2 * norm).clamp_min(_FLATTEST**2 * x0[0].numel())


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).view(-1, 1, 1)


def centred(kernel: Tensor, x0: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
    """Each kernel with its mass moved to where ``anchor`` has it, by whole pixels, and its image moved the other way.

    That is the middle, but for operators that mean their kernels to be off it.
    """
    moves = (centre_of_mass(anchor) - centre_of_mass(kernel)).round().int().tolist()
    kernels = torch.stack([shifted(k, *m) for k, m in zip(kernel, moves, strict=True)])
    images = [shifted(x, -m[0], -m[1], replicate=True) for x, m in zip(x0, moves, strict=True)]
    return kernels / kernels.sum((-2, -1), keepdim=True), torch.stack(images)
