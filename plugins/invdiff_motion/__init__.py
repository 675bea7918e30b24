"""Motion blur for invdiff: camera shake, drawn or measured."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_degradations(register: Register) -> None:
    from .camera_shake import CameraShake
    from .operator import Motion

    register(
        "motion",
        Motion,
        summary="unknown camera shake: random trajectories, or kernels from files",
        reference="Li et al., BlindDiff (2024), Table 5; trajectories as in Borodenko's motionblur generator",
    )
    register(
        "camera_shake",
        CameraShake,
        summary="unknown camera shake that differs across the picture: the camera turned as well",
        reference="Whyte et al. (2010); Hirsch et al., Fast removal of non-uniform camera shake (2011)",
    )


@hookimpl
def register_kernels(register: Register) -> None:
    from .sets import MotionSet

    register("motion", MotionSet, summary="random trajectories of one intensity", reference="as the operator's")
