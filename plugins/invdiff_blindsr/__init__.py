"""Blind super-resolution for invdiff: unknown Gaussian blur, then downsampling."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_degradations(register: Register) -> None:
    from .operator import BlindSR

    register(
        "blindsr",
        BlindSR,
        summary="unknown Gaussian blur, then downsampling by 2, 3 or 4",
        reference="Li et al., BlindDiff (2024), Eq. 1; kernels as in IKC (Gu et al. 2019) and DAN (Luo et al. 2020)",
    )


@hookimpl
def register_kernels(register: Register) -> None:
    from .sets import AnisotropicSet, Gaussian8Set

    register("gaussian8", Gaussian8Set, summary="eight round Gaussians, 1.8 to 3.2", reference="IKC (Gu et al. 2019)")
    register("aniso", AnisotropicSet, summary="random oblique Gaussians", reference="BlindDiff (2024), Table 2")
