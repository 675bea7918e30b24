"""Networks of the diffusers library as priors: ``pip install 'invdiff[diffusers]'``."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    from .prior import Diffusers

    register(
        "diffusers",
        Diffusers,
        summary="a UNet2DModel of the diffusers library, from a folder or the hub",
        reference="Ho et al. (2020); von Platen et al., diffusers (2022)",
    )
