"""Another prior as a teacher: what it makes of a lesson, told the true parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..prior import PriorNet
from .lesson import Lesson


@dataclass(frozen=True)
class Teacher:
    """A frozen prior for the same operator, and how much its picture counts in what is to be learned."""

    prior: PriorNet
    share: float

    @torch.no_grad()
    def mixed(self, pupil: PriorNet, given: Lesson, *, bfloat16: bool = False) -> Tensor:
        """Its pictures and the true ones, mixed: ``(B, 3, H, W)`` in the pupil's range.

        It sees the pupil's noisy images at the times of its own schedule where there is as much noise.
        """
        own, theirs = pupil.spec, self.prior.spec
        noisy = pupil.to_unit(given.x_t / own.schedule.abar(given.t, given.x_t).sqrt())
        unit = _width(theirs.value_range) / _width(own.value_range)
        sigmas = unit * own.schedule.noise_to_signal(given.t, torch.empty(len(given.t)))
        t = torch.tensor(theirs.schedule.nearest(sigmas.tolist()), device=given.t.device)
        x_t = theirs.schedule.abar(t, noisy).sqrt() * self.prior.from_unit(noisy)
        condition = self.prior.from_unit(pupil.to_unit(given.condition))
        told = (given.theta,) if theirs.takes_parameters else ()
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=bfloat16):
            seen = self.prior.predict(x_t, t, condition, *told).x0.float()
        return torch.lerp(given.clean, pupil.from_unit(self.prior.to_unit(seen)), self.share)


def _width(value_range: tuple[float, float]) -> float:
    return value_range[1] - value_range[0]
