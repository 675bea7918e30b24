"""Figures through matplotlib, which is an extra: ``pip install 'invdiff[plot]'``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvdiffError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMN = 2.4
"""Inches of a picture."""


def figure(rows: Sequence[Mapping[str, np.ndarray]], curve: Sequence[float | None] = (), name: str = "") -> Figure:
    """Rows of pictures with their names, and below them a curve over the steps, if there is one.

    Raises :class:`InvdiffError` where matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot  # noqa: F401 - tells a notebook how figures are shown
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise InvdiffError("a figure needs matplotlib: pip install 'invdiff[plot]'") from None
    values = [(step, value) for step, value in enumerate(curve, 1) if value is not None]
    columns = max(len(row) for row in rows)
    count = len(rows) + bool(values)
    whole = Figure(figsize=(_COLUMN * columns, _COLUMN * count), layout="constrained")
    grid = whole.add_gridspec(count, columns)
    for place, row in enumerate(rows):
        for column, (title, array) in enumerate(row.items()):
            axes = whole.add_subplot(grid[place, column])
            axes.imshow(array, cmap="gray" if array.ndim == 2 else None)
            axes.set_title(title, fontsize="small")
            axes.set_axis_off()
    if values:
        axes = whole.add_subplot(grid[len(rows), :])
        axes.plot(*zip(*values, strict=True), marker="o")
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return whole
