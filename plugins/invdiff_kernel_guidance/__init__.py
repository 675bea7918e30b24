"""The kernel-aware gradient of BlindDiff as an invdiff guidance."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_guidances(register: Register) -> None:
    from .guidance import KernelAware

    register(
        "kernel_aware",
        KernelAware,
        summary="gradient of the residual to the measurement, through the whole prior",
        reference="Li et al., BlindDiff (2024), Eqs. 11-12 and Algorithm 2, line 6",
    )
