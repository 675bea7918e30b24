"""invdiff: restore a picture without knowing what degraded it.

A diffusion prior and the unknown degradation are estimated together, in one reverse loop::

    import invdiff

    pipe = invdiff.load("blindsr_x4")
    out = pipe.restore(image)          # out.image, out.parameters

Names are fetched when they are first asked for (PEP 562), so that ``import invdiff`` and ``invdiff --help`` do not
wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assembly import load, load_prior
    from .degradation import BoxSpace, Degradation, DegradationSettings, KernelSpace, ParameterSpace
    from .errors import InvdiffError
    from .guidance import Estimate, Guidance, Known, Problem, Step
    from .hub.sharing import from_pretrained, push_to_hub, save_pretrained
    from .kernel_set import KernelSet, NamedKernel
    from .method import Case, Method, Restoration
    from .pipeline import Pipeline
    from .prior import DenoiserPrior, Output, Prediction, PriorNet, PriorSettings, PriorSpec, from_denoiser
    from .sampler import Sample, SamplerSettings, StepRecord, sample, step
    from .schedule import NoiseSchedule
    from .settings import Settings

__version__ = "0.1.0"

_ROOMS = {
    "assembly": ("load", "load_prior"),
    "degradation": ("BoxSpace", "Degradation", "DegradationSettings", "KernelSpace", "ParameterSpace"),
    "errors": ("InvdiffError",),
    "guidance": ("Estimate", "Guidance", "Known", "Problem", "Step"),
    "hub.sharing": ("from_pretrained", "push_to_hub", "save_pretrained"),
    "kernel_set": ("KernelSet", "NamedKernel"),
    "method": ("Case", "Method", "Restoration"),
    "pipeline": ("Pipeline",),
    "prior": ("DenoiserPrior", "Output", "Prediction", "PriorNet", "PriorSettings", "PriorSpec", "from_denoiser"),
    "sampler": ("Sample", "SamplerSettings", "StepRecord", "sample", "step"),
    "schedule": ("NoiseSchedule",),
    "settings": ("Settings",),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "BoxSpace",
    "Case",
    "Degradation",
    "DegradationSettings",
    "DenoiserPrior",
    "Estimate",
    "Guidance",
    "InvdiffError",
    "KernelSet",
    "KernelSpace",
    "Known",
    "Method",
    "NamedKernel",
    "NoiseSchedule",
    "Output",
    "ParameterSpace",
    "Pipeline",
    "Prediction",
    "PriorNet",
    "PriorSettings",
    "PriorSpec",
    "Problem",
    "Restoration",
    "Sample",
    "SamplerSettings",
    "Settings",
    "Step",
    "StepRecord",
    "from_denoiser",
    "from_pretrained",
    "load",
    "load_prior",
    "push_to_hub",
    "sample",
    "save_pretrained",
    "step",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'invdiff' has no attribute '{name}'")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
