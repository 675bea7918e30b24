"""Published solvers as guidances of the one loop: any prior, any operator that they are for."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_guidances(register: Register) -> None:
    from .blind_dps import BlindDPS
    from .daps import DAPS
    from .ddnm import DDNM
    from .diffpir import DiffPIR
    from .dps import DPS
    from .fast_em import FastEM
    from .gdp import GDP, ParameterDescent
    from .pigdm import PiGDM

    register(
        "dps",
        DPS,
        summary="gradient of the residual's norm through the prior, after each step",
        reference="Chung et al., Diffusion Posterior Sampling (2023), Algorithm 1",
    )
    register(
        "diffpir",
        DiffPIR,
        summary="data step between the prior's estimate and the measurement, weighted by the noise level",
        reference="Zhu et al., DiffPIR (2023), Eq. 13",
    )
    register(
        "ddnm",
        DDNM,
        summary="what the operator sees from the measurement, what it does not see from the prior",
        reference="Wang et al., DDNM (2023), Eq. 13",
    )
    register(
        "pigdm",
        PiGDM,
        summary="gradient of a Gaussian likelihood through the prior, into the estimate of the clean image",
        reference="Song et al., PiGDM (2023)",
    )
    register(
        "fast_em",
        FastEM,
        summary="the kernel by half-quadratic splitting, from whatever estimate there is or from none",
        reference="Laroche et al., Fast Diffusion EM (2024): the M step",
    )
    register(
        "blind_dps",
        BlindDPS,
        summary="a diffusion of the kernel beside the picture's, moved by one residual; put dps after it",
        reference="Chung et al., BlindDPS (2023), Algorithm 1: the kernel's half",
    )
    register(
        "gdp",
        GDP,
        summary="gradient of the mean squared residual in the estimate of the clean image, after each step",
        reference="Fei et al., Generative Diffusion Prior (2023)",
    )
    register(
        "parameter_descent",
        ParameterDescent,
        summary="the operator's parameters, whatever they are, by steps down the same residual",
        reference="Fei et al., Generative Diffusion Prior (2023): the blind half",
    )
    register(
        "daps",
        DAPS,
        summary="a draw of the clean image given the noisy one and the measurement, all noise anew at each step",
        reference="Zhang et al., Decoupled Annealing Posterior Sampling (2024), Algorithm 1",
    )
