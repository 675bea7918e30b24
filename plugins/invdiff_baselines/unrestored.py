"""The measurement itself, on the clean image's grid."""

from __future__ import annotations

from invdiff.degradation import Degradation
from invdiff.method import Case, Method, Restoration
from invdiff.settings import Settings


class Unrestored(Method[Settings]):
    """What the operator calls its baseline: the blurred photo, or a bicubic upsampling of a small one."""

    def restore(self, case: Case) -> Restoration:
        operator = case.degradation
        return Restoration(operator.frame(operator.baseline(case.y[None])[0]).clamp(0, 1))


class Bicubic(Unrestored):
    """The same, by the name that tables of super-resolution have for it."""

    def unfit(self, degradation: Degradation) -> str | None:
        return "is for super-resolution; 'unrestored' is the measurement as it is" if degradation.scale == 1 else None
