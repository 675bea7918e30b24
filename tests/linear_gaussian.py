"""A small linear problem with Gaussian images, whose posterior is known: what the solvers of the field are tried on."""

from __future__ import annotations

import types

import numpy as np
import torch

from invdiff.degradation import BoxSpace, Degradation
from invdiff.guidance import Step
from invdiff.prior import Output, PriorNet, PriorSpec
from invdiff.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.linear()
rng = np.random.default_rng(4)
N, M = 12, 3
A = rng.normal(size=(M, N)) / 4
NOISE = 0.1


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=gen(seed), dtype=torch.float64)


class Dense(Degradation):
    """Images of 2x2 pixels, 12 numbers, to the 3 numbers ``theta A u``: an adjoint that can be written down."""

    parameters = BoxSpace(("gain",), (0.5,), (2.0,))
    matrix = torch.from_numpy(A)

    def sample_parameters(self, batch, generator):
        return torch.ones(batch, 1)

    def apply(self, x, theta):
        return (theta * x.flatten(1) @ self.matrix.T).view(-1, M, 1, 1)

    def adjoint(self, y, theta):
        return (theta * y.flatten(1) @ self.matrix).view(-1, 3, 2, 2)

    def lift(self, y):
        return y.expand(-1, -1, 2, 2)


class White(PriorNet):
    """The exact denoiser of white Gaussian pixels of mean 0.4 and standard deviation 0.5 on [0, 1]."""

    MEAN, SPREAD = 0.4, 0.5

    def __init__(self, value_range=(-1.0, 1.0)):
        super().__init__()
        self.spec = PriorSpec(SCHEDULE, value_range=value_range, prediction="x0")

    def forward(self, x_t, t, condition):
        low, high = self.spec.value_range
        mean, variance = low + (high - low) * self.MEAN, ((high - low) * self.SPREAD) ** 2
        abar = SCHEDULE.abar(t, x_t)
        return Output(mean + abar.sqrt() * variance / (abar * variance + 1 - abar) * (x_t - abar.sqrt() * mean))


def still(x0, y, operator, theta=None, t=300, t_next=200, truth=None, value_range=(-1.0, 1.0)):
    """A step as a guidance without gradients sees it."""
    prior = types.SimpleNamespace(spec=PriorSpec(SCHEDULE, value_range=value_range))
    return Step(0, 1, t, t_next, x0, x0, theta, y, prior, operator, truth)


def one(batch):
    return torch.ones(batch, 1, dtype=torch.float64)


def posterior(y, noise):
    """Mean and covariance of white Gaussian pixels given ``y`` (Kalman)."""
    covariance = White.SPREAD**2 * np.eye(N)
    gain = covariance @ A.T @ np.linalg.inv(A @ covariance @ A.T + noise**2 * np.eye(M))
    mean = np.full(N, White.MEAN)
    return mean + gain @ (y - A @ mean), covariance - gain @ A @ covariance
