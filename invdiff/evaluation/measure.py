"""From a result to the numbers of its row, and of each of its steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from torch import Tensor

from .. import metrics
from ..method import Restoration
from ..metrics.result import REACH, Judge, parameter_metrics, picture_metrics, residual_rms
from ..sampler import StepRecord
from .plan import PlannedCase


def measured(found: Restoration, planned: PlannedCase, judges: Sequence[Judge]) -> dict[str, float]:
    """All metrics of a result, by name."""
    case, subject = planned.case, planned.subject
    operator = case.degradation
    values = picture_metrics(found.image, subject.framed, operator, judges)
    if operator.scale == 1:
        values["psnr_rgb_shifted"] = metrics.psnr_rgb_shifted(metrics.round8(found.image), subject.framed, REACH)
    values["residual_true_rms"] = residual_rms(found.image, case.parameters, case.y, operator)
    if found.parameters is not None:
        values |= parameter_metrics(found.parameters, case.parameters, subject.clean, operator)
        values["residual_own_rms"] = residual_rms(found.image, found.parameters, case.y, operator)
    values["noise_rms"] = case.noise
    return values


def written(values: Mapping[str, float]) -> dict[str, str]:
    """Numbers as records and tables keep them."""
    return {name: f"{value:.6g}" for name, value in values.items()}


class Watch:
    """Looks at every step of one restoration, and keeps count of the time that looking takes."""

    def __init__(self, planned: PlannedCase, judges: Sequence[Judge], *, estimates: bool) -> None:
        self.planned, self.judges, self.estimates = planned, judges, estimates
        self.steps: list[dict[str, str]] = []
        self.first: Tensor | None = None
        """The first step's estimate of the parameters, if it is one."""
        self.seconds = 0.0

    def __call__(self, record: StepRecord) -> None:
        since = time.monotonic()
        theta = record.theta[0].cpu() if self.estimates and record.theta is not None else None
        if not self.steps:
            self.first = theta
        self.steps.append({"step": str(record.index + 1), "t": str(record.t), **written(self._values(record, theta))})
        self.seconds += time.monotonic() - since

    def _values(self, record: StepRecord, theta: Tensor | None) -> dict[str, float]:
        case, subject = self.planned.case, self.planned.subject
        image = case.degradation.frame(record.x0)[0].cpu().clamp(0, 1)
        values = picture_metrics(image, subject.framed, case.degradation, self.judges)
        if theta is not None:
            values |= parameter_metrics(theta, case.parameters, subject.clean, case.degradation)
        return values
