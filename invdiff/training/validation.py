"""How good a prior is while it learns: its one-step estimate on pictures that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..degradation import Degradation
from ..errors import ImageError
from ..io.decoding import list_pictures, load
from ..metrics.result import parameter_metrics, picture_metrics
from ..prior import PriorNet
from ..seeds import Stream, stream

LEVELS = (0.1, 0.5)
"""Noise levels, on images in the prior's range, at which the estimate is measured beside that at full noise."""
_MOST = 24


class Validation:
    """Centre crops of a folder's pictures, degraded once: the same measurements all through a run.

    ``side`` is that of the crops, as in training; at most 24 pictures are taken, the first by name.
    """

    def __init__(self, folder: Path, degradation: Degradation, prior: PriorNet, side: int, seed: int) -> None:
        self.degradation = degradation
        self.clean: list[Tensor] = []
        for path in list_pictures(folder, recursive=True):
            if len(self.clean) == _MOST:
                break
            pixels = load(path).pixels
            if min(pixels.shape[-2:]) >= side:
                top, left = ((n - side) // 2 for n in pixels.shape[-2:])
                self.clean.append(pixels[:, top : top + side, left : left + side])
        if not self.clean:
            raise ImageError(f"{folder}: no picture there has {side} pixels a side, as the crops have")
        whole = torch.stack(self.clean)
        generator = stream(seed, Stream.VALIDATION)
        self.y, self.theta = degradation.degrade(whole, generator)
        self.eps = torch.randn(whole.shape, generator=generator)
        self.baseline = self._measured(list(degradation.baseline(self.y)), None)

    @torch.no_grad()
    def __call__(self, prior: PriorNet, device: torch.device) -> dict[str, float]:
        """Means over the pictures: metrics at full noise by name, ``psnr_y_at_<level>`` at others, ``gain`` in dB."""
        schedule = prior.spec.schedule
        last = len(schedule) - 1
        table = schedule.noise_to_signal(torch.arange(len(schedule)), torch.empty(len(schedule)))
        found = self._at(prior, device, last)
        for level in LEVELS:
            t = min(int(torch.searchsorted(table, torch.tensor(level))), last)
            found[f"psnr_y_at_{level:g}"] = self._at(prior, device, t)["psnr_y"]
        return {**found, "gain": found["psnr_y"] - self.baseline["psnr_y"]}

    def _at(self, prior: PriorNet, device: torch.device, t: int) -> dict[str, float]:
        images: list[Tensor] = []
        estimates: list[Tensor] = []
        for clean, y, eps in zip(self.clean, self.y, self.eps, strict=True):
            condition = prior.from_unit(self.degradation.lift(y[None].to(device)))
            time = torch.tensor([t], device=device)
            x_t = prior.spec.schedule.add_noise(prior.from_unit(clean[None].to(device)), eps[None].to(device), time)
            prediction = prior.predict(x_t, time, condition)
            images.append(prior.to_unit(prediction.x0)[0].cpu().float().clamp(0, 1))
            if prediction.parameters is not None:
                estimates.append(prediction.parameters[0].cpu().float())
        return self._measured(images, estimates or None)

    def _measured(self, images: Sequence[Tensor], estimates: Sequence[Tensor] | None) -> dict[str, float]:
        rows: list[dict[str, float]] = []
        for i, (image, clean) in enumerate(zip(images, self.clean, strict=True)):
            values = picture_metrics(self._shown(image), self._shown(clean), self.degradation)
            if estimates is not None:
                values |= parameter_metrics(estimates[i], self.theta[i], clean, self.degradation)
            rows.append(values)
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    def _shown(self, image: Tensor) -> Tensor:
        return self.degradation.frame(image)
