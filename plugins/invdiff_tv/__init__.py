"""Total variation as a prior: a denoiser without weights, and the shortest example of one for recipes."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    from .prior import TV

    register(
        "tv",
        TV,
        summary="total variation: a denoiser without weights that looks at the noisy image alone",
        reference="Rudin, Osher and Fatemi (1992); Chambolle (2004)",
    )
