"""What a method makes of the truth: the known parameters in the estimate's place."""

from __future__ import annotations

from invdiff.errors import RecipeError
from invdiff.guidance import Estimate, Guidance, Step


class Known(Guidance):
    """Replaces the estimated parameters by the known ones, for inputs that are degraded here.

    With ``sampler.feedback`` the prior restores with them as well, from the second step on.
    """

    def refine(self, step: Step) -> Estimate:
        if step.given is None:
            raise RecipeError("known: needs known parameters, so inputs that are degraded here")
        return Estimate(step.x0, step.given)
