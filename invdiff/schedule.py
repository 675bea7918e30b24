"""The noise schedule of a diffusion: tables in float64, respacing, conversions, and the reverse transition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

PredictionKind = Literal["eps", "x0", "v"]
Spacing = Literal["uniform", "quadratic", "karras"]
_KARRAS = 7  # rho of Karras et al. (EDM, 2022), Eq. 5


class NoiseSchedule:
    """A variance-preserving diffusion ``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`` (Ho et al. 2020).

    Times are integers ``0 .. T - 1``; ``t = -1`` is the clean image, ``abar = 1``. (Eq. 5's noise scale
    and Eq. 4's ``alpha_t`` are typos in the paper; this is the standard process that the authors run.)
    """

    def __init__(self, betas: Tensor) -> None:
        betas = betas.double()
        if betas.ndim != 1 or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError("betas must be one line of numbers between 0 and 1")
        self.betas = betas
        self.alphas_cumprod = (1 - betas).cumprod(0)
        self._sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()
        self._padded = torch.cat([self.alphas_cumprod, torch.ones(1, dtype=torch.float64)])  # [-1] is 1

    @classmethod
    def linear(cls, timesteps: int = 1000, start: float = 1e-4, end: float = 2e-2) -> NoiseSchedule:
        """Betas on a line: Ho et al. 2020, and the authors' code; the paper says nothing of them."""
        return cls(torch.linspace(start, end, timesteps, dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.betas)

    def abar(self, t: Tensor, like: Tensor) -> Tensor:
        """``abar_t`` for times ``(B,)``, shaped to multiply ``like (B, ...)`` and of its dtype and device."""
        value = self._padded[t.cpu()].to(like.dtype).to(like.device)
        return value.view(-1, *[1] * (like.ndim - 1))

    def noise_to_signal(self, t: Tensor, like: Tensor) -> Tensor:
        """``sigma_t = sqrt((1 - abar_t) / abar_t)``: noise on ``x_t / sqrt(abar_t)``, in the image's units."""
        abar = self._padded[t.cpu()]
        value = ((1 - abar) / abar).sqrt().to(like.dtype).to(like.device)
        return value.view(-1, *[1] * (like.ndim - 1))

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Sample ``x_t`` given the clean image and standard normal noise of its shape."""
        abar = self.abar(t, x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * eps

    def target(self, kind: PredictionKind, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What a network of that prediction kind should have said (v: Salimans and Ho, 2022)."""
        if kind == "eps":
            return eps
        if kind == "x0":
            return x0
        abar = self.abar(t, x0)
        return abar.sqrt() * eps - (1 - abar).sqrt() * x0

    def to_x0(self, kind: PredictionKind, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean image that a prediction stands for."""
        if kind == "x0":
            return output
        abar = self.abar(t, x_t)
        if kind == "eps":
            return (x_t - (1 - abar).sqrt() * output) / abar.sqrt()
        return abar.sqrt() * x_t - (1 - abar).sqrt() * output

    def to_eps(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise that separates ``x_t`` from a clean image."""
        abar = self.abar(t, x_t)
        return (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()

    def spaced(self, steps: int, spacing: Spacing = "uniform") -> list[int]:
        """``steps`` distinct times from ``T - 1`` down to ``0`` (only ``T - 1`` for one step).

        ``uniform``: evenly in t; ``quadratic``: evenly in the root of t, so that more steps fall where
        there is little noise (as DiffPIR spaces them); ``karras``: evenly in the seventh root of sigma.
        """
        last = len(self) - 1
        if not 1 <= steps <= len(self):
            raise ValueError(f"steps must be between 1 and {len(self)}, got {steps}")
        if steps == 1:
            return [last]
        line = torch.linspace(1, 0, steps, dtype=torch.float64)
        if spacing == "karras":
            largest, least = (float(self._sigmas[t]) ** (1 / _KARRAS) for t in (last, 0))
            times = self.nearest([(least + float(u) * (largest - least)) ** _KARRAS for u in line])
        else:
            times = [round(last * float(u) ** (1 if spacing == "uniform" else 2)) for u in line]
        for i in range(steps - 2, -1, -1):  # where the curve is denser than the integers
            times[i] = max(times[i], times[i + 1] + 1)
        return [min(time, last - i) for i, time in enumerate(times)]  # and near its other end

    def nearest(self, sigmas: Sequence[float]) -> list[int]:
        """The time for each of some noise levels, in the image's units, whose own is nearest by its logarithm."""
        logs = self._sigmas.log()
        return [int((logs - math.log(sigma)).abs().argmin()) for sigma in sigmas]

    def transition_variances(self, t: int, t_next: int) -> tuple[float, float]:
        """Variance of ``x_{t_next}`` given ``x_t`` and ``x_0`` (Eq. 3, "small"), and of the forward step ("large")."""
        abar, abar_next = float(self._padded[t]), float(self._padded[t_next])
        beta = 1 - abar / abar_next
        return (1 - abar_next) / (1 - abar) * beta, beta

    def eta_of(self, share: float, t: int, t_next: int) -> float:
        """The ``eta`` at which ``share`` of the noise's variance at ``t_next`` is fresh; above 1 for short steps."""
        small, _ = self.transition_variances(t, t_next)
        return (share * (1 - float(self._padded[t_next])) / small) ** 0.5 if t_next >= 0 else 0.0

    def lookahead(self, t_before: int, t: int, t_next: int) -> float:
        """How far a step of second order runs ahead of ``x0`` along its change from ``t_before`` to ``t``.

        Half of this step over the one before, in ``log(1 / sigma)``: DPM-Solver++(2M) (Lu et al. 2022,
        Algorithm 2). The last step, to the clean image, is of first order.
        """
        if t_next < 0:
            return 0.0
        before, now, after = (-math.log(float(self._sigmas[i])) for i in (t_before, t, t_next))
        return (after - now) / (now - before) / 2

    def kept_shift(self, t: int, t_next: int) -> float:
        """The part of a shift of ``x_t`` that is left in ``x_{t_next}``, for the same ``x0``, at ``eta = 1``."""
        before, after = float(self._padded[t]), float(self._padded[t_next])
        return (before / after) ** 0.5 * (1 - after) / (1 - before) if t != t_next else 1.0

    def transition(
        self,
        x: Tensor,
        x0: Tensor,
        t: int,
        t_next: int,
        eta: float,
        noise: Tensor,
        variance_fraction: Tensor | None = None,
    ) -> Tensor:
        """One reverse step from time ``t`` to any earlier ``t_next``; ``-1`` returns ``x0``.

        ``eta = 1`` is DDPM's posterior of the respaced chain (Algorithm 2's line 5), ``eta = 0``
        DDIM, anything between interpolates (Song et al. 2021, Eqs. 12 and 16). ``variance_fraction``
        is a learned variance's place between small (0) and large (1) on a log scale (Nichol and
        Dhariwal 2021, Eq. 15); the mean does not depend on it.
        """
        if t_next < 0:
            return x0
        abar, abar_next = float(self._padded[t]), float(self._padded[t_next])
        small, large = self.transition_variances(t, t_next)
        eps = (x - abar**0.5 * x0) / (1 - abar) ** 0.5
        direction = max(1 - abar_next - eta**2 * small, 0.0) ** 0.5
        mean = abar_next**0.5 * x0 + direction * eps
        if variance_fraction is None:
            return mean + eta * small**0.5 * noise
        spread = small**0.5 * (large / small) ** (variance_fraction / 2)
        return mean + eta * spread * noise


def preconditioning(sigma: Tensor, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """EDM's c_in, c_skip and c_out (Karras et al. 2022, Table 1) for noise ``sigma`` on images of that ``spread``."""
    total = sigma.square() + spread**2
    return total.rsqrt(), spread**2 / total, sigma * spread * total.rsqrt()
