"""A small U-Net that looks at the noisy image alone: a prior for any operator."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    from .prior import UNetPrior

    register(
        "unet",
        UNetPrior,
        summary="a U-Net that looks at the noisy image alone: for any operator, its weights natural_s come along",
        reference="Ho et al. (2020); Karras et al. (2022), preconditioning; Zhang et al., DRUNet (2021), layout",
    )
