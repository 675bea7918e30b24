"""Conformance checks, for whoever ships an operator, a prior or a guidance.

::

    from invdiff.testing import parametrize_with_checks

    @parametrize_with_checks([Haze()])
    def test_conformance(component, check):
        check(component)

``invdiff check haze`` does the same from the shell. ``check_degradation``, ``check_prior`` and
``check_guidance`` run all checks on one component and raise with everything that fails.
"""

from .checks import Check, Outcome
from .suite import (
    check_component,
    check_degradation,
    check_guidance,
    check_prior,
    checks_of,
    parametrize_with_checks,
)

__all__ = [
    "Check",
    "Outcome",
    "check_component",
    "check_degradation",
    "check_guidance",
    "check_prior",
    "checks_of",
    "parametrize_with_checks",
]
