"""Pictures of edges, for tests that need no photo."""

import numpy as np
import torch


def shapes(side, seed=0, count=40):
    """A picture of flat rectangles and discs, ``(3, side, side)`` in [0, 1]."""
    drawn = np.random.default_rng(seed)
    picture = np.full((side, side), 0.5)
    rows, cols = np.mgrid[:side, :side]
    for i in range(count):
        top, left, reach = [*drawn.uniform(0, side, 2).tolist(), drawn.uniform(side / 20, side / 5)]
        height, width, ratio = np.abs(rows - top), np.abs(cols - left), drawn.uniform(0.3, 1)
        inside = height**2 + width**2 < reach**2 if i % 2 else (height < reach) & (width < ratio * reach)
        picture[inside] = drawn.uniform(0.1, 0.9)
    return torch.from_numpy(picture).float().expand(3, -1, -1)
