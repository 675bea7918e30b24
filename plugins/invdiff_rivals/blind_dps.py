"""BlindDPS: H. Chung et al., *Parallel Diffusion Models of Operator and Image for Blind Inverse Problems*, 2023."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from invdiff.degradation import Degradation
from invdiff.guidance import Estimate, Guidance, Step
from invdiff.schedule import NoiseSchedule
from invdiff.settings import Float, Settings

from .linear import without_kernel

_SCHEDULE = NoiseSchedule.linear()  # the kernel's own: a picture's may begin at little noise
_STATE = "blind_dps"


class BlindDPSSettings(Settings):
    strength: Annotated[Float, Field(ge=0)] = 0.3
    """The step's length, the paper's at 1000 steps; fewer steps want more."""
    sparsity: Annotated[Float, Field(gt=0, le=1)] = 0.1
    """Share of a kernel's pixels that are not zero, as its prior has it."""


class BlindDPS(Guidance[BlindDPSSettings]):
    """A diffusion of the kernel beside that of the picture: each step denoises it, renoises it, and moves it by
    ``-strength grad ||y - k0(k_t) * x0||`` in ``k_t`` (Algorithm 1, lines 9 and 12).

    The picture's half is the guidance that follows it: ``dps`` makes the paper's method of the two, whose gradients
    are those of one residual. The paper's kernels are known to a network; here each pixel is, by itself, zero, or with
    probability ``sparsity`` an exponential number, a prior of sparse kernels for which ``E[k0 | k_t]`` is in closed
    form. (The L1 norm in the authors' code has no gradient: a kernel that is not negative and of unit sum has norm 1.)
    The chain draws its noise from the loop, is ancestral, and runs through levels of its own, evenly in time from
    pure noise. Lengths are measured on [-1, 1]. For any operator with a kernel.
    """

    Settings = BlindDPSSettings
    estimates_parameters = True

    def unfit(self, degradation: Degradation) -> str | None:
        return without_kernel(degradation)

    def refine(self, step: Step) -> Estimate:
        shape = step.degradation.parameters.shape
        if _STATE not in step.memory:
            step.memory[_STATE] = step.draw(step.y.new_empty(len(step.y), *shape))
        kernel = as_kernel(denoised(step.memory[_STATE], _times(step)[0], self.settings.sparsity))
        return Estimate(step.x0, kernel if step.theta is None else step.theta + (kernel - step.theta).detach())

    def correct(self, step: Step, x_next: Tensor) -> Tensor:
        t, t_next = _times(step)
        if t_next < 0:
            return x_next
        with torch.enable_grad():
            state = step.memory[_STATE].detach().requires_grad_()
            clean = denoised(state, t, self.settings.sparsity)
            residual = (step.y - step.degradation.apply(step.x0.detach(), as_kernel(clean))).flatten(1)
            distances = 2 * residual.square().sum(1).clamp_min(1e-24).sqrt().sum()
        (gradient,) = torch.autograd.grad(distances, state)
        state, clean = state.detach(), clean.detach()
        after = _SCHEDULE.transition(state, clean, t, t_next, 1.0, step.draw(state))
        step.memory[_STATE] = after - self.settings.strength * gradient
        return x_next


def _times(step: Step) -> tuple[int, int]:
    """The kernel's time at a step of the loop, and at the next: -1 after the last."""
    times = _walk(min(step.steps, len(_SCHEDULE)))
    place = min(step.index, len(times) - 2)
    return times[place], times[place + 1]


@lru_cache(maxsize=4)
def _walk(steps: int) -> list[int]:
    return [*_SCHEDULE.spaced(steps), -1]


def as_kernel(clean: Tensor) -> Tensor:
    """Kernels ``(B, K, K)``, none negative and of unit sum."""
    kept = clean.clamp_min(0) + 1e-12
    return kept / kept.sum((-2, -1), keepdim=True)


def denoised(state: Tensor, t: int, sparsity: float) -> Tensor:
    """``E[k0 | k_t]`` pixel by pixel, where k0 is 0, or with probability ``sparsity`` exponential; of unit variance.

    Given the noise, the exponential's part is a normal number cut off at 0. In float64, since its tails are divided,
    and so on the CPU.
    """
    abar = float(_SCHEDULE.alphas_cumprod[t])
    noisy, sigma = state.cpu().double() / abar**0.5, ((1 - abar) / abar) ** 0.5
    rate = (2 * sparsity - sparsity**2) ** 0.5  # the mixture has variance (2 p - p^2) / rate^2
    mean = noisy - rate * sigma**2
    inside = torch.special.log_ndtr(mean / sigma)
    density = -0.5 * math.log(2 * math.pi)
    exponential = mean + sigma * (density - 0.5 * (mean / sigma).square() - inside).exp()
    evidence = math.log(sparsity * rate) + 0.5 * (rate * sigma) ** 2 - rate * noisy + inside
    if sparsity < 1:
        zero = math.log((1 - sparsity) / sigma) + density - 0.5 * (noisy / sigma).square()
        exponential = exponential * torch.sigmoid(evidence - zero)
    return exponential.clamp_min(0).to(state)
