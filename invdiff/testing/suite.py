"""The doors of the conformance suite: one component at a time, or as parameters of a pytest function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..degradation import Degradation
from ..guidance import Guidance
from ..prior import PriorNet
from .checks import Check, Outcome, refuse_unknown, run_checks
from .degradation import degradation_checks
from .guidance import GuidanceCase, guidance_checks
from .prior import prior_checks
from .subjects import ToyBlur

Expected = Mapping[str, str]
SUITES = ("degradation", "prior", "guidance")
"""The roles that there are checks for."""


def checks_of(component: Any) -> list[Check]:
    """The checks of a component's role."""
    if isinstance(component, Degradation):
        return degradation_checks.checks
    if isinstance(component, PriorNet):
        return prior_checks.checks
    if isinstance(component, (Guidance, GuidanceCase)):
        return guidance_checks.checks
    raise TypeError(f"a component is a Degradation, a PriorNet or a Guidance, got {type(component).__name__}")


def subject(component: Any, operator: Degradation | None = None) -> Any:
    """What a check takes: a guidance goes together with the operator that it is tried on, a 5x5 blur by default."""
    if isinstance(component, Guidance):
        return GuidanceCase(component, operator or ToyBlur())
    return component


def check_component(
    component: Any, *, operator: Degradation | None = None, expected_failures: Expected | None = None
) -> list[Outcome]:
    """All checks of a component's role, without raising for those that fail."""
    return run_checks(subject(component, operator), checks_of(component), expected_failures)


def _strictly(outcomes: list[Outcome], component: Any) -> list[Outcome]:
    failed = [o.message for o in outcomes if o.status == "failed"]
    if failed:
        lines = "".join(f"\n- {message}" for message in failed)
        raise AssertionError(f"{type(component).__name__} fails {len(failed)} of {len(outcomes)} checks:{lines}")
    return outcomes


def check_degradation(operator: Degradation, *, expected_failures: Expected | None = None) -> list[Outcome]:
    """Run every check on an operator; an ``AssertionError`` lists all that fail, with what is usually wrong.

    ``expected_failures`` maps names of checks to reasons why this operator must fail them, such as
    ``{"generator_is_used": "there is one measured kernel"}``.
    """
    return _strictly(check_component(operator, expected_failures=expected_failures), operator)


def check_prior(prior: PriorNet, *, expected_failures: Expected | None = None) -> list[Outcome]:
    """Run every check on a prior, trained or not, in evaluation mode; see :func:`check_degradation`."""
    return _strictly(check_component(prior, expected_failures=expected_failures), prior)


def check_guidance(
    guidance: Guidance, *, operator: Degradation | None = None, expected_failures: Expected | None = None
) -> list[Outcome]:
    """Run every check on a guidance, at work on ``operator`` or a 5x5 blur; see :func:`check_degradation`."""
    return _strictly(check_component(guidance, operator=operator, expected_failures=expected_failures), guidance)


def parametrize_with_checks(
    components: Iterable[Any],
    *,
    operator: Degradation | None = None,
    expected_failures: Callable[[Any], Expected] | Expected | None = None,
) -> Any:
    """A pytest decorator: one test for each component and check::

        @parametrize_with_checks([Haze()])
        def test_conformance(component, check):
            check(component)

    ``expected_failures`` is a mapping, or a function from a component to one; those tests are strict xfails.
    """
    import pytest

    parameters = []
    for component in components:
        checks = checks_of(component)
        expected = (expected_failures(component) if callable(expected_failures) else expected_failures) or {}
        refuse_unknown(expected, checks)
        for check in checks:
            marks = [pytest.mark.xfail(reason=expected[check.name], strict=True)] if check.name in expected else []
            name = f"{type(component).__name__}-{check.name}"
            parameters.append(pytest.param(subject(component, operator), check, id=name, marks=marks))
    return pytest.mark.parametrize(("component", "check"), parameters)
