"""The size that a result is also wanted in, smaller than it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvdiffError

_LARGEST = 100_000
_SIZE = re.compile(r"(?P<width>\d+)?(?:x(?P<height>\d+))?")


@dataclass(frozen=True)
class Smaller:
    """So many ``times`` the photo's size; or at most ``width`` and ``height`` pixels, as many as its shape allows."""

    times: float | None = None
    width: int | None = None
    height: int | None = None

    @classmethod
    def of_size(cls, text: str) -> Smaller:
        """``1920``, ``x1080`` or ``1920x1080``, as on the command line; raises :class:`InvdiffError`."""
        found = _SIZE.fullmatch(text)
        sides = [int(n) for n in found.groups() if n is not None] if found else []
        if found is None or not sides or not all(0 < n <= _LARGEST for n in sides):
            raise InvdiffError(f"--size {text}: is a width, a height, or both to fit into: 1920, x1080, 1920x1080")
        width, height = (None if n is None else int(n) for n in found.groups())
        return cls(width=width, height=height)

    def __str__(self) -> str:
        if self.times is not None:
            return f"x{self.times:g}"
        return f"{self.width or ''}x{self.height}" if self.height else str(self.width)

    @property
    def _option(self) -> str:
        return f"--size {self}" if self.times is None else f"--scale {self.times:g}"

    def of(self, photo: tuple[int, int], result: tuple[int, int]) -> tuple[int, int]:
        """The sides ``(height, width)`` of a photo's ``result`` in that size; raises :class:`InvdiffError` where it is
        larger than that."""
        rows, cols = result
        if self.times is not None:
            height, width = (max(1, round(self.times * side)) for side in photo)
        else:
            factor = min(wanted / side for wanted, side in ((self.height, rows), (self.width, cols)) if wanted)
            height, width = (max(1, round(factor * side)) for side in result)
        if height > rows or width > cols:
            raise InvdiffError(f"{self._option}: would be {width}x{height}, and the result has {cols}x{rows} pixels")
        return height, width
