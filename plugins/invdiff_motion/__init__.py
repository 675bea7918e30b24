"""Motion blur for invdiff: camera shake, drawn or measured."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_degradations(register: Register) -> None:
    from .operator import Motion

    register(
        "motion",
        Motion,
        summary="unknown camera shake: random trajectories, or kernels from files",
        reference="Li et al., BlindDiff (2024), Table 5; trajectories as in Borodenko's motionblur generator",
    )


@hookimpl
def register_kernels(register: Register) -> None:
    from .sets import MotionSet

    register("motion", MotionSet, summary="random trajectories of one intensity", reference="as the operator's")
