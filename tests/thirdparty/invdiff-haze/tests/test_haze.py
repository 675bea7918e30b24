"""Haze conforms."""

from invdiff.testing import parametrize_with_checks
from invdiff_haze.operator import Haze


@parametrize_with_checks([Haze()])
def test_conformance(component, check):
    check(component)
