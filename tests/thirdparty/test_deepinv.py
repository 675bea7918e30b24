"""deepinv's parts as ours and ours as theirs: the example of docs/concepts.md, where deepinv is installed."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from invdiff_motion.operator import Motion

PAGE = Path(__file__).resolve().parents[2] / "docs" / "concepts.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not in a checkout")


def test_the_example(tmp_path, monkeypatch):
    """With a network of theirs that is small and knows nothing, so that none is fetched."""
    deepinv = pytest.importorskip("deepinv", reason="deepinv is not installed")
    small = partial(deepinv.models.DRUNet, nc=[4, 4, 4, 4], nb=1, pretrained=None)
    monkeypatch.setattr(deepinv.models, "DRUNet", small)
    monkeypatch.chdir(tmp_path)
    operator, drawn = Motion(), torch.Generator().manual_seed(0)
    kernel = operator.sample_parameters(1, drawn)
    np.save("kernel.npy", kernel[0].numpy())
    Image.fromarray(np.full((48, 40, 3), 100, np.uint8)).save("shaken.png")
    names: dict = {}
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S) if "deepinv" in b]
    exec(block, names)
    assert names["out"].image.size == (40, 48)
    x, physics = torch.rand(1, 3, 48, 40, generator=drawn), names["physics"]
    torch.testing.assert_close(physics(x), operator.apply(x, kernel))
    assert abs(float(physics.adjointness_test(x))) < 1e-3
    solved = physics.A_dagger(physics(x), max_iter=100, tol=1e-6)  # by their own solver
    assert float((physics(solved) - physics(x)).norm() / physics(x).norm()) < 0.02
