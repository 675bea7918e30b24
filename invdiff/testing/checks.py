"""What a check is, how its failure is worded, and how a suite of them runs."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor

from ..errors import one_line, suggest

Status = Literal["passed", "failed", "skipped", "expected"]


class ConformanceError(AssertionError):
    """A component that is not what the loop takes it for: what was expected, and what came."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}; got {got}")


class UnknownCheckError(ValueError):
    """A name that is no check's."""


class Skipped(unittest.SkipTest):
    """A check that says nothing about this component, and why; pytest takes it for a skip."""


def fail(expected: str, got: str) -> NoReturn:
    raise ConformanceError(expected, got)


def skip(reason: str) -> NoReturn:
    raise Skipped(reason)


@dataclass(frozen=True)
class Check:
    """One property of a component. ``check(component)`` returns, raises what it found, or skips."""

    name: str
    about: str
    """The property in one sentence."""
    cause: str
    """What is usually wrong where it fails."""
    run: Callable[[Any], None]

    def __call__(self, component: Any) -> None:
        try:
            self.run(component)
        except Skipped:
            raise
        except ConformanceError as error:
            raise AssertionError(f"{self.name}: {error}; usual cause: {self.cause}") from None
        except Exception as error:
            kind = type(error).__name__
            raise AssertionError(
                f"{self.name}: expected no error; got {kind}: {one_line(error)}; usual cause: {self.cause}"
            ) from error

    def __str__(self) -> str:
        return self.name


class Suite:
    """The checks of one role, in order. As a decorator it takes in a function under its own name."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def __call__(self, cause: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
        def add(run: Callable[[Any], None]) -> Callable[[Any], None]:
            self.checks.append(Check(run.__name__, " ".join((run.__doc__ or "").split()), cause, run))
            return run

        return add


def refuse_unknown(expected_failures: Iterable[str], checks: Iterable[Check]) -> None:
    """Raise :class:`UnknownCheckError` for a name that is no check."""
    names = [c.name for c in checks]
    for name in expected_failures:
        if name not in names:
            raise UnknownCheckError(f"no check is called '{name}'{suggest(name, names)}")


@dataclass(frozen=True)
class Outcome:
    """How one check ended, and the words for it: a failure's, or the reason of a skip or an expected failure."""

    check: str
    status: Status
    message: str = ""

    def __str__(self) -> str:
        if self.status == "failed":  # its message begins with the check's name
            return self.message
        return f"{self.check}: {self.message}" if self.message else self.check


def run_checks(
    component: Any, checks: Iterable[Check], expected_failures: Mapping[str, str] | None = None
) -> list[Outcome]:
    """Run all checks, whatever fails. ``expected_failures`` maps names of checks to the reason why they must fail.

    An expected failure that does not come is a failure: the reason has gone, and the entry should go too.
    Raises :class:`UnknownCheckError` for a name that is no check.
    """
    checks, expected = list(checks), dict(expected_failures or {})
    refuse_unknown(expected, checks)
    outcomes = []
    for check in checks:
        reason = expected.get(check.name)
        try:
            check(component)
        except Skipped as skipped:
            outcomes.append(Outcome(check.name, "skipped", str(skipped)))
        except AssertionError as error:
            failed = Outcome(check.name, "failed", str(error)) if reason is None else None
            outcomes.append(failed or Outcome(check.name, "expected", str(reason)))
        else:
            passed = Outcome(check.name, "passed")
            late = f"{check.name}: expected to fail ({reason}); got a pass: take it off the expected failures"
            outcomes.append(passed if reason is None else Outcome(check.name, "failed", late))
    return outcomes


def same(a: Tensor, b: Tensor, tolerance: float, expected: str) -> None:
    """Fail unless two tensors agree to ``tolerance``, relative to the larger of them and 1."""
    if a.shape != b.shape:
        fail(f"{expected}, shape {tuple(b.shape)}", f"shape {tuple(a.shape)}")
    if not a.numel():
        return
    gap = float((a.detach().double() - b.detach().double()).abs().max())
    if not gap <= tolerance * max(1.0, float(b.detach().abs().max())):  # NaN is no agreement
        fail(f"{expected}, to {tolerance:g}", f"a difference of {gap:.3g}")


def unchanged(before: Mapping[str, Tensor], after: Mapping[str, Tensor], what: str) -> None:
    """Fail if any of the named tensors was written to."""
    for name, value in before.items():
        if not torch.equal(value, after[name]):
            fail(f"{what} left as they were", f"a change of {name}")


def survives_json(settings: Any) -> None:
    """Fail unless settings written to JSON and read again are the same."""
    again = type(settings).model_validate(settings.model_dump(mode="json"))
    if again != settings:
        fail(f"{settings!r}", f"{again!r}")
