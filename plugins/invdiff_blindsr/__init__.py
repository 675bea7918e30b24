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
