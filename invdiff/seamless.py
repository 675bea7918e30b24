"""Any prior on a picture whose opposite borders meet: it looks round them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from .blur.resize import wrapped
from .prior import Output, PriorNet

_MARGIN = 64  # pixels: what lies further off hardly changes what a prior says


class SeamlessPrior(PriorNet):
    """A prior that sees more than the picture: beyond each border what lies at the opposite one.

    What it says of that is left out. Noise, measurement and guidance are those of the picture alone, so that with an
    operator that wraps (``padding: circular``) the whole loop does, and copies of the result meet without a seam.
    """

    def __init__(self, prior: PriorNet) -> None:
        super().__init__()
        self.inner = prior
        self.settings = prior.settings
        self.spec = replace(prior.spec, multiple=1)  # what is wanted up to that is seen round the border as well
        self.margin = _MARGIN + -_MARGIN % prior.spec.multiple

    def estimate(self, condition: Tensor) -> Tensor | None:
        return self.inner.estimate(self._wider(condition))

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor, told: Tensor | None = None) -> Output:
        others = (t, self._wider(condition)) if told is None else (t, self._wider(condition), told)
        out: Output = self.inner(self._wider(x_t), *others)
        rows, cols = (slice(self.margin, self.margin + n) for n in x_t.shape[-2:])
        fraction = None if out.variance_fraction is None else out.variance_fraction[..., rows, cols]
        return Output(out.raw[..., rows, cols], out.parameters, fraction)

    def _wider(self, x: Tensor) -> Tensor:
        """The picture and what is seen beyond it, cut at the lower right to what the prior's multiple allows."""
        multiple = self.inner.spec.multiple
        wider = wrapped(x, self.margin, self.margin + multiple - 1)
        height, width = (n - n % multiple for n in wider.shape[-2:])
        return wider[..., :height, :width]
