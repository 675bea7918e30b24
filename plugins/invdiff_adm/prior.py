"""ADM as a prior that knows nothing of the operator, as DPS and BlindDPS use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from invdiff.prior import Output, Prediction, PriorNet, PriorSpec
from invdiff.schedule import NoiseSchedule

from .checkpoint import is_adm, layout, refuse_misfits
from .network import ADM
from .settings import ADMSettings


class ADMPrior(PriorNet):
    """It looks at the noisy image alone, so that guidance brings in the measurement.

    It says the noise and, where it has learned it, how much each step draws; clean images are clipped to its range,
    as every sampler of the field does. Betas lie on a line, for a thousand steps.
    """

    Settings: ClassVar[type[ADMSettings]] = ADMSettings

    def __init__(self, settings: ADMSettings) -> None:
        super().__init__()
        self.settings = settings
        self.network = ADM(settings)
        self.spec = PriorSpec(NoiseSchedule.linear(), prediction="eps", multiple=settings.multiple)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Output:
        raw = self.network(x_t, t)
        if not self.settings.learn_variance:
            return Output(raw)
        raw, place = raw.chunk(2, dim=1)
        return Output(raw, variance_fraction=(place + 1) / 2)

    def predict(self, x_t: Tensor, t: Tensor, condition: Tensor, parameters: Tensor | None = None) -> Prediction:
        found = super().predict(x_t, t, condition, parameters)
        low, high = self.spec.value_range
        found.x0 = found.x0.clamp(low, high)
        found.eps = self.spec.schedule.to_eps(found.x0, x_t, t)
        return found

    @classmethod
    def from_foreign(cls, tensors: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> ADMPrior | None:
        """Guided diffusion's network from a checkpoint's tensors; None for any other layout."""
        if not is_adm(tensors):
            return None
        settings = cls.Settings.model_validate({**layout(tensors, overrides), **overrides})
        with torch.device("meta"):  # shapes first: the network may be large
            refuse_misfits(tensors, ADM(settings).state_dict())
        prior = cls(settings)
        prior.network.load_state_dict(dict(tensors))
        return prior
