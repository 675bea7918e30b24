"""Guidance for blind deconvolution: the kernel-aware gradient, and the two alternate steps in closed form."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_guidances(register: Register) -> None:
    from .as_measured import AsMeasured
    from .guidance import KernelAware
    from .kernel_network import KernelNetwork
    from .kernel_search import KernelSearch
    from .kernel_update import KernelUpdate
    from .mistaken import Mistaken
    from .proximal import Proximal
    from .still import Still

    register(
        "as_measured",
        AsMeasured,
        summary="coarse colours, white and black of the result are the photo's",
    )
    register(
        "kernel_aware",
        KernelAware,
        summary="gradient of the residual to the measurement, through the whole prior",
        reference="Li et al., BlindDiff (2024), Eqs. 11-12 and Algorithm 2, line 6",
    )
    register(
        "kernel_network",
        KernelNetwork,
        summary="a small network puts the kernel right, from what photo and image say of it",
    )
    register(
        "kernel_search",
        KernelSearch,
        summary="where to begin: the prior's kernel or one from coarse to fine, whichever explains the photo",
        reference="Cho and Lee (2009); Xu, Zheng and Jia (2013); Pan et al. (2014)",
    )
    register(
        "kernel_update",
        KernelUpdate,
        summary="least-squares update of the kernel from the current image",
        reference="Li et al., BlindDiff (2024), Eq. 14a; the MAP-k step of blind deconvolution",
    )
    register(
        "mistaken",
        Mistaken,
        summary="begins with the true kernel made wrong as searches are wrong: for training a prior in the loop",
        reference="Vasu et al., Non-blind deblurring: handling kernel uncertainty with CNNs (2018), the idea",
    )
    register(
        "proximal",
        Proximal,
        summary="data step: the image between the prior's estimate and the measurement",
        reference="Zhu et al., DiffPIR (2023), Eq. 13; Song et al., PiGDM (2023)",
    )
    register(
        "still",
        Still,
        summary="a kernel that is nearly a point is taken for one: the photo was hardly shaken",
    )
