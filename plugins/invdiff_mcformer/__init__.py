"""MCFormer, BlindDiff's modulated conditional transformer, as an invdiff prior."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    from .prior import MCFormerPrior

    register(
        "mcformer",
        MCFormerPrior,
        summary="kernel estimator and modulated transformer: image and kernel prior in one",
        reference="Li et al., BlindDiff: Empowering Degradation Modelling in Diffusion Models (2024), Sec. 3.3",
    )
