"""The house, room by room: what each is for, and what it may import. docs/architecture.md prints this table.

A room is a file that lies flat in the package, or a folder. What is not here may not be imported, the package's own
face among it.
"""

CONTRACT = {"degradation", "errors", "guidance", "kernel_set", "method", "prior", "schedule", "settings"}

ROOMS = {
    "errors": ("one base error, and how messages are worded", set()),
    "settings": ("the base of settings classes, and of what is built from them", set()),
    "seeds": ("streams of random numbers, each with a purpose", set()),
    "device": ("where it is computed", {"errors"}),
    "hookspecs": ("the hooks by which plugins announce themselves", set()),
    "schedule": ("the noise schedule", set()),
    "orientation": ("the eight ways round that a picture can be shown", set()),
    "light": ("the light behind a photo's numbers", set()),
    "camera": ("what a camera does to a photo after the optics: noise and JPEG", {"settings"}),
    "degradation": ("`Degradation` and where its parameters live", {"camera", "light", "settings"}),
    "prior": ("`PriorNet`, and any denoiser as one", {"degradation", "schedule", "settings"}),
    "guidance": (
        "`Guidance`, and the `Problem` it is asked about",
        {"blur", "degradation", "errors", "orientation", "prior", "settings"},
    ),
    "sampler": (
        "`step` and `sample`: the one loop",
        {"degradation", "guidance", "orientation", "prior", "schedule", "settings"},
    ),
    "tiling": ("any prior on any size", {"prior"}),
    "seamless": ("any prior on pictures whose borders meet", {"blur", "prior"}),
    "method": (
        "`Restoration`, and `Method`: other ways to restore",
        {"degradation", "errors", "io", "metrics", "settings"},
    ),
    "kernel_set": ("`KernelSet`: kernels to test with", {"degradation", "settings"}),
    "fit": (
        "which parts go together",
        {"blur", "degradation", "errors", "guidance", "orientation", "prior", "sampler"},
    ),
    "pipeline": (
        "`Pipeline`: parts, and pictures through them",
        CONTRACT | {"device", "fit", "io", "metrics", "sampler", "seamless", "seeds", "tiling"},
    ),
    "io": ("files in and out: pictures, tensors, sheets, atomic writes, progress", {"errors"}),
    "blur": ("a toolbox for operators: convolution, resizing, kernel files", {"errors", "io"}),
    "metrics": (
        "what a result is measured by, and what a recipe costs",
        {"degradation", "errors", "guidance", "io", "prior", "tiling"},
    ),
    "components": ("plugins found, listed, built; weights", CONTRACT | {"hookspecs", "io", "seeds"}),
    "training": (
        "Algorithm 1",
        {
            "blur",
            "components",
            "degradation",
            "errors",
            "guidance",
            "io",
            "metrics",
            "prior",
            "sampler",
            "seeds",
            "settings",
        },
    ),
    "recipe": ("YAML to validated settings", {"components", "errors", "io", "sampler", "settings", "training"}),
    "assembly": (
        "from a recipe to a pipeline, a trainer, a cost",
        {
            "components",
            "degradation",
            "device",
            "errors",
            "fit",
            "guidance",
            "metrics",
            "pipeline",
            "prior",
            "recipe",
            "training",
            "sampler",
        },
    ),
    "hub": (
        "priors and recipes on a model hub",
        {"assembly", "components", "errors", "io", "pipeline", "recipe"},
    ),
    "restoring": (
        "`invdiff run`",
        {"blur", "degradation", "errors", "io", "metrics", "pipeline", "prior", "sampler", "seeds", "tiling"},
    ),
    "app": (
        "`invdiff app`: a page for a photo",
        {"assembly", "degradation", "errors", "io", "metrics", "pipeline", "prior", "restoring", "sampler", "tiling"},
    ),
    "evaluation": (
        "`invdiff eval`",
        CONTRACT | {"assembly", "blur", "components", "io", "metrics", "pipeline", "recipe", "sampler", "seeds"},
    ),
    "testing": (
        "the conformance suite",
        {"blur", "degradation", "errors", "guidance", "prior", "sampler", "schedule", "settings"},
    ),
}
EVERYTHING = set(ROOMS)
ROOMS["cli"] = ("the command line", EVERYTHING)
ROOMS["__init__"] = ("the public names, each fetched when it is first asked for", EVERYTHING)
ROOMS["__main__"] = ("`python -m invdiff`", {"cli"})
