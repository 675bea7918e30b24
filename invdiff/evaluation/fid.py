"""FID of an evaluation's pictures, method by method."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..metrics.fid import features, frechet
from ..metrics.inception import Inception
from .results import Results

Key = tuple[str, str, str]


def distances(network: Inception, results: Results) -> tuple[dict[Key, float], list[str]]:
    """FID by dataset, kernels and method, against the clean pictures; and a line for each method that has none."""
    files: dict[Key, list[Path]] = {}
    truths: dict[tuple[str, str], set[Path]] = {}
    for place in results.rows:
        files.setdefault((place.dataset, place.kernels, place.method), []).append(results.path(place, ".png"))
        truths.setdefault((place.dataset, place.kernels), set()).add(results.truth(place))
    clean: dict[tuple[str, str], np.ndarray] = {}
    found: dict[Key, float] = {}
    lines: list[str] = []
    for key, pictures in files.items():
        group = key[:2]
        try:
            if group not in clean:
                clean[group] = features(network, sorted(truths[group]))
            found[key] = frechet(features(network, sorted(pictures)), clean[group])
        except ImageError as error:
            lines.append(f"FID of {key[2]} is left out: {error}")
    return found, lines
