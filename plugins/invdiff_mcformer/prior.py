"""MCFormer as a prior: one network gives the denoised image and the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from invdiff.degradation import BoxSpace, Degradation
from invdiff.errors import TrainingError, WeightsError, one_line
from invdiff.prior import Output, PriorNet, PriorSpec
from invdiff.schedule import NoiseSchedule, preconditioning

from .authors import convert, is_authors
from .edges import EdgeEstimator
from .estimator import BoxHead, PCAHead
from .network import MCFormer
from .settings import MCFormerSettings


class MCFormerPrior(PriorNet):
    """Image prior and kernel prior of BlindDiff (Li et al., Sec. 3.3), joint in one network.

    With ``preconditioning: none`` this is the authors' released network: it sees ``x_t`` beside the
    lifted measurement, adds ``x_t`` to its output and predicts the noise, and, where
    ``learn_variance`` is set, a variance (a second copy of ``x_t`` is added to that one too).

    With ``residual`` it refines the lifted measurement: the diffusing quantity is taken as
    ``z = x_t / sqrt(abar) - lift(y)``, the residual with noise of ``sigma = sqrt((1 - abar) / abar)``,
    scaled to unit variance and mixed with the output by the coefficients of Karras et al. (EDM, 2022,
    Table 1) for the residual's own spread. At full noise this is plain regression from ``y``; at
    little noise it is denoising. The kernel estimator is shown ``c_skip * z``, the Wiener estimate of
    the residual, and not ``x_t``: where the noise says nothing it reads zeros instead of noise.
    """

    Settings: ClassVar[type[MCFormerSettings]] = MCFormerSettings

    def __init__(self, settings: MCFormerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.network = MCFormer(settings.network)
        self.spec = PriorSpec(
            NoiseSchedule.linear(settings.timesteps, settings.beta_start, settings.beta_end),
            value_range=settings.value_range,
            prediction="x0" if settings.preconditioning == "residual" else "eps",
            multiple=settings.network.multiple,
            parameter_shape=settings.network.parameter_shape,
            scale=settings.scale,
            # Parameters reach the transformer by modulation, or by what is deconvolved with them.
            takes_parameters=settings.network.modulation == "kernel" or settings.network.estimator.kind == "spectral",
        )
        if settings.preconditioning == "residual":
            nn.init.zeros_(self.network.head.weight)  # training starts from the lifted measurement

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor, told: Tensor | None = None) -> Output:
        if self.settings.preconditioning == "residual":
            return self._residual(x_t, t, condition, told)
        pair = torch.cat([x_t, condition], dim=1)
        raw, (*earlier, kernel) = self.network(pair, pair, t, told)
        if not self.settings.network.learn_variance:
            return Output(raw.float() + x_t, kernel, earlier=tuple(earlier))
        noise, variance = (raw.float() + torch.cat([x_t, x_t], dim=1)).chunk(2, dim=1)
        return Output(noise, kernel, (variance + 1) / 2, tuple(earlier))

    def estimate(self, condition: Tensor) -> Tensor | None:
        if not self.network.reads_measurement:
            return super().estimate(condition)
        return self.network.read(torch.cat([condition, condition], dim=1))[-1]

    def _residual(self, x_t: Tensor, t: Tensor, condition: Tensor, told: Tensor | None) -> Output:
        sigma = self.spec.schedule.noise_to_signal(t, x_t)
        c_in, c_skip, c_out = preconditioning(sigma, self.settings.residual_std)
        z = x_t / self.spec.schedule.abar(t, x_t).sqrt() - condition
        image = torch.cat([c_in * z, condition], dim=1)
        hint = torch.cat([c_skip * z / self.settings.residual_std, condition], dim=1)
        # The level is named by its logarithm, which is as fine at little noise as at much.
        raw, (*earlier, kernel) = self.network(image, hint, 100 * sigma.flatten().log(), told)
        return Output(condition + c_skip * z + c_out * raw.float(), kernel, earlier=tuple(earlier))

    def loss_weight(self, t: Tensor) -> Tensor:
        """1 for noise prediction; ``1 / c_out**2``, a unit target at every noise level, for ``residual``."""
        if self.settings.preconditioning == "none":
            return super().loss_weight(t)
        sigma = self.spec.schedule.noise_to_signal(t, torch.empty(len(t)))
        return preconditioning(sigma, self.settings.residual_std)[2].pow(-2)

    @classmethod
    def from_foreign(cls, tensors: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> MCFormerPrior | None:
        """The authors' released network from their checkpoint's tensors; None for any other layout."""
        if not is_authors(tensors):
            return None
        settings, renamed = convert(tensors)
        prior = cls(cls.Settings.model_validate({**settings, **overrides}))
        try:
            prior.load_state_dict(renamed)
        except RuntimeError as error:
            raise WeightsError(f"the authors' layout, but {one_line(error).split(': ', 1)[-1][:300]}") from None
        return prior

    @torch.no_grad()
    def prepare(self, degradation: Degradation, generator: torch.Generator) -> None:
        """Fit the estimator to the operator: a PCA head to its kernels, a box to its bounds, edges to their middle."""
        if isinstance(self.network.estimator, EdgeEstimator):
            self.network.estimator.fit(degradation.sample_parameters(256, generator))
        head = getattr(self.network.estimator, "head", None)
        if isinstance(head, PCAHead) and not bool(head.basis.any()):  # one that came with weights stays theirs
            head.fit(degradation.sample_parameters(4096, generator))
        if isinstance(head, BoxHead):
            if not isinstance(degradation.parameters, BoxSpace):
                raise TrainingError("network.head: 'box' is for operators whose parameters are a box of numbers")
            head.fit(degradation.parameters)
