"""Several draws together: moments against NumPy's, and the detail that they agree on where it is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from invdiff.metrics.draws import Draws


def taken(draws):
    found = Draws()
    for draw in draws:
        found.add(draw)
    return found


def test_mean_and_deviation():
    draws = torch.rand(5, 3, 12, 17, generator=torch.Generator().manual_seed(0))
    found, array = taken(draws), draws.double().numpy()
    np.testing.assert_allclose(found.mean.numpy(), array.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.deviation.numpy(), np.sqrt(array.var(0, ddof=1).mean(0)), atol=1e-6)


def noise(seed):
    return torch.fft.fft2(torch.randn(3, 96, 80, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("period", [3.0, 5.0, 8.0])
def test_they_agree_down_to_a_period(period):
    """The same up to a frequency, and drawn afresh beyond it."""
    rows, cols = torch.fft.fftfreq(96), torch.fft.fftfreq(80)
    shared = (rows.square()[:, None] + cols.square()).sqrt() < 1 / period
    draws = [torch.fft.ifft2(torch.where(shared, noise(0), noise(seed))).real for seed in range(1, 6)]
    assert taken(draws).detail == pytest.approx(period, rel=0.12)


def test_equal_draws_agree_on_all_and_others_on_nothing():
    same = torch.fft.ifft2(noise(0)).real
    assert taken([same, same, same]).detail == 2
    assert taken([torch.fft.ifft2(noise(seed)).real for seed in range(4)]).detail is None
