"""What several draws of one posterior say together: their mean, how far they lie apart, and how fine they agree."""

from __future__ import annotations

import torch
from torch import Tensor

_RING = 1 / 64
_AGREED = 0.5


class Draws:
    """Takes in draws ``(3, H, W)`` in [0, 1] one by one, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._squares = self._spectrum = self._power = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """One more, on the CPU (Welford 1962)."""
        x = x.double()
        self.count += 1
        off = x - self._mean
        self._mean = self._mean + off / self.count
        self._squares = self._squares + off * (x - self._mean)
        grey = x.mean(0)
        rows, cols = (torch.hann_window(n, periodic=False, dtype=x.dtype) for n in grey.shape)
        spectrum = torch.fft.rfft2((grey - grey.mean()) * rows[:, None] * cols)
        self._spectrum = self._spectrum + spectrum
        self._power = self._power + spectrum.abs().square()

    @property
    def mean(self) -> Tensor:
        """``(3, H, W)``."""
        return self._mean.float()

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each pixel ``(H, W)``, over draws and colours; of one draw nobody knows it: nothing."""
        return (self._squares.mean(0) / max(self.count - 1, 1)).sqrt().float()

    @property
    def detail(self) -> float | None:
        """The finest period, in pixels, up to which two draws correlate by a half or more; None where they never do.

        By rings of spatial frequency, as in Fourier ring correlation (van Heel 1987), on grey under a Hann window; 2 is
        the finest that there is.
        """
        height, width = self._mean.shape[-2:]
        rows, cols = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
        frequency = (rows.square()[:, None] + cols.square()).sqrt()
        agreed = None
        for ring in range(round(0.5 / _RING)):
            inside = (frequency > ring * _RING) & (frequency <= (ring + 1) * _RING)
            alone, together = self._power[inside].sum(), self._spectrum[inside].abs().square().sum()
            if not inside.any() or alone == 0:
                continue
            if (together - alone) / ((self.count - 1) * alone) < _AGREED:
                break
            agreed = 1 / ((ring + 1) * _RING)
        return agreed
