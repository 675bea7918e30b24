"""invdiff: restore a picture without knowing what degraded it.

A diffusion prior and the unknown degradation are estimated together, in one reverse loop::

    import invdiff

    pipe = invdiff.load("recipes/blindsr_x4.yaml")
    out = pipe.restore(image)          # out.image, out.parameters
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .assembly import load
from .degradation import BoxSpace, Degradation, DegradationSettings, KernelSpace, ParameterSpace
from .errors import InvdiffError
from .guidance import Estimate, Guidance, Step
from .kernel_set import KernelSet, TestKernel
from .method import Case, Method, Restored
from .pipeline import Pipeline, Restoration
from .prior import Output, Prediction, PriorNet, PriorSettings
from .schedule import NoiseSchedule
from .settings import Settings

if TYPE_CHECKING:
    from pathlib import Path
__version__ = "0.1.0"
__all__ = [
    "BoxSpace",
    "Case",
    "Degradation",
    "DegradationSettings",
    "Estimate",
    "Guidance",
    "InvdiffError",
    "KernelSet",
    "KernelSpace",
    "Method",
    "NoiseSchedule",
    "Output",
    "ParameterSpace",
    "Pipeline",
    "Prediction",
    "PriorNet",
    "PriorSettings",
    "Restoration",
    "Restored",
    "Settings",
    "Step",
    "TestKernel",
    "load",
    "load_prior",
]


def load_prior(weights: str | os.PathLike[str] | Path) -> PriorNet:
    """A prior from a weights file or a bundled name: on the CPU, in evaluation mode, frozen."""
    from .components.discovery import registry
    from .components.weights import load_prior as read

    return read(weights, registry())
