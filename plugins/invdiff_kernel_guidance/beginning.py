"""Guidances that say where the loop begins, and leave it at that."""

from __future__ import annotations

from invdiff.guidance import Estimate, Guidance, Step
from invdiff.settings import S


class Beginning(Guidance[S]):
    """Begins the loop with parameters, and stays with what the step before arrived at. A subclass writes ``begin``."""

    estimates_parameters = True

    def refine(self, step: Step) -> Estimate:
        return Estimate(step.x0, step.theta if step.before is None else step.before)
