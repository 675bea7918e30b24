"""GDP: B. Fei et al., *Generative Diffusion Prior for Unified Image Restoration and Enhancement*, 2023."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Guidance, Step
from invdiff.settings import Float, Int, Settings

from .linear import SolverSettings

_SIDE = 256  # of the authors' pictures


class GDPSettings(SolverSettings):
    strength: Annotated[Float, Field(ge=0)] = 2000.0
    """The step's length; the authors' at 1000 steps is 2000 for x4, 6000 for blur. Fewer steps want more."""


class GDP(Guidance[GDPSettings]):
    """Moves each sample by ``-strength grad mean (A(x0) - y)^2``, the gradient taken in x0 (Algorithm 2).

    No gradient runs through the prior. The residual is on [0, 1], gradient and move are on [-1, 1] whatever the
    prior's range, and the mean is over a picture of 256x256, as the authors' are, so that a strength means the same
    for every size. The authors' loss of the picture's quality is left out. For any differentiable operator.
    """

    Settings = GDPSettings

    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        theta = step.parameters(self.settings.kernel, "gdp").detach()
        with torch.enable_grad():
            x0 = step.x0.detach().requires_grad_()
            total = (step.y - step.degradation.apply(x0, theta)).square().sum()
        (gradient,) = torch.autograd.grad(total, x0)
        count = step.y.shape[1] * (_SIDE / step.degradation.scale) ** 2
        low, high = step.prior.spec.value_range
        # Of the gradient on [0, 1], a half is that on [-1, 1]; of the move there, (high - low) / 2 is the prior's.
        move = self.settings.strength / count * gradient / 2 * (high - low) / 2
        below, right = (x_next.shape[axis] - move.shape[axis] for axis in (-2, -1))
        return x_next - F.pad(move, (0, right, 0, below))


class ParameterDescentSettings(Settings):
    reach: Annotated[Float, Field(gt=0)] = 1.0
    """The longest step down the gradient, in lengths of the parameters themselves."""
    rounds: Annotated[Int, Field(ge=1)] = 5
    """Steps down the gradient, in each step of the loop."""


class ParameterDescent(Guidance[ParameterDescentSettings]):
    """Lowers ``||A_theta(x0) - y||^2`` in theta: the gradient's step, projected, as far along as serves best.

    What GDP does to an unknown light's factor and mask, for any operator: the authors' rate of learning, one for each
    task, is here the best length along the step as the operator's linearisation has it, 1 at most, which leaves
    no convex space. It goes on from the estimate that there is, and from no blur at all where there is none.
    """

    Settings = ParameterDescentSettings
    estimates_parameters = True

    def refine(self, step: Step) -> Estimate:
        x0 = step.x0.detach()
        theta = step.degradation.parameters.neutral(step.y) if step.theta is None else step.theta.detach()
        for _ in range(self.settings.rounds):
            theta = self._lower(theta, x0, step.y, step.degradation)
        return Estimate(step.x0, theta if step.theta is None else step.theta + (theta - step.theta).detach())

    def _lower(self, theta: Tensor, x0: Tensor, y: Tensor, operator: Degradation) -> Tensor:
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_()
            residual = operator.apply(x0, leaf) - y
            half_squares = residual.square().sum() / 2
        (gradient,) = torch.autograd.grad(half_squares, leaf)
        with torch.no_grad():
            longest = self.settings.reach * _norm(theta) / _norm(gradient).clamp_min(1e-20)
            way = operator.parameters.project(theta - longest * gradient) - theta
            change = operator.apply(x0, theta + way) - y - residual
            wanted = -(gradient * way).flatten(1).sum(1) / change.flatten(1).square().sum(1).clamp_min(1e-20)
            return theta + wanted.clamp(0, 1).view(-1, *[1] * (theta.ndim - 1)) * way


def _norm(theta: Tensor) -> Tensor:
    return theta.flatten(1).norm(dim=1).view(-1, *[1] * (theta.ndim - 1))
