"""ADM, the network of guided diffusion, as an invdiff prior: its published checkpoints, through ``weights import``."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    from .prior import ADMPrior

    register(
        "adm",
        ADMPrior,
        summary="guided diffusion's unconditional network, from its published checkpoints",
        reference="Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis (2021)",
    )
