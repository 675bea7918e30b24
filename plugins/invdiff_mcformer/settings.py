"""Settings of MCFormer: the network's shape and how a prior uses it, with the two that ship."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from invdiff.prior import PriorSettings
from invdiff.settings import Float, Int, Settings, odd

Positive = Annotated[Int, Field(gt=0, le=4096)]
"""Limits far beyond any network in use: a weights file that claims more must not keep the machine busy."""
Few = Annotated[Int, Field(gt=0, le=256)]
Four = tuple[Positive, Positive, Positive, Positive]


class Estimator(Settings):
    """What reads the kernel. ``pooled`` is the paper's: 5x5 convolutions, averaged over space."""

    kind: Literal["pooled", "spectral", "edges"] = "pooled"
    """``spectral``: pairs of sharp and blurred features and their quotient in Fourier space, for motion. ``edges``: a
    Gaussian of any width and direction, from how wide edges are."""
    channels: Positive = 48
    """Width of its convolutions."""
    strides: Annotated[tuple[Few, ...], Field(max_length=64)] = (1, 1, 1, 2, 1, 1)
    """Of ``pooled``: one for each convolution."""
    pooling: Literal["mean", "weighted"] = "mean"
    """Of ``pooled``: the plain mean over space (the paper), or one that the features themselves weigh."""
    reads: Literal["both", "measurement"] = "both"
    """Of ``pooled``: the noisy image and the lifted measurement (the paper), or the measurement alone, so that the
    estimate is the same at every step. The others read the measurement alone."""
    unshuffle: Literal[1, 2, 4, 8] | None = None
    """Of ``pooled`` and ``edges``: the grid that it works on is so many times coarser than the image; null: the
    network's."""
    maps: Positive = 8
    """Of ``spectral``: pairs of features."""
    deconvolve: Annotated[tuple[Annotated[Float, Field(gt=0)], ...], Field(min_length=1)] = (0.03, 0.2)
    """Of ``spectral``: weights at which the measurement is deconvolved for the transformer to see."""


class Network(Settings):
    """The shape of the network. The defaults are those of the authors' released network: 26,509,267 parameters."""

    kernel_size: Few = 21
    """Side of the kernel that it estimates, odd."""
    channels: Four = (48, 96, 192, 384)
    """Width of the four levels."""
    blocks: tuple[Few, Few, Few, Few] = (2, 3, 6, 8)
    """Transformer blocks of the four levels, on the way down as on the way up."""
    heads: Four = (1, 2, 4, 8)
    """Attention heads of the four levels."""
    refinement: Annotated[Int, Field(ge=0, le=256)] = 2
    """Blocks after the last level."""
    expansion: Annotated[Float, Field(gt=0, le=64)] = 2.66
    """Width of the feed-forward layers, in widths of their level."""
    unshuffle: Literal[1, 2, 4] = 1
    """Work on a grid this many times coarser: much cheaper, as pixels become channels."""
    learn_variance: bool = True
    """Predict the variance of the reverse step too (Nichol and Dhariwal 2021)."""
    head: Literal["softmax", "pca", "box"] = "softmax"
    """``box``: for operators whose parameters are bounded numbers and no kernel; the bounds are theirs."""
    pca_components: Positive = 10
    """Of ``head: pca``."""
    numbers: Positive = 1
    """Of ``box``: how many numbers the operator has."""
    estimator: Estimator = Estimator()
    """What reads the kernel."""
    modulation: Literal["kernel", "level"] = "kernel"
    """What scales and shifts the features: noise level and kernel (the paper), or the noise level alone (Table 3)."""

    @model_validator(mode="after")
    def _consistent(self) -> Network:
        odd(self.kernel_size, "kernel_size")
        if self.estimator.kind != "pooled" and self.head != "softmax":
            raise ValueError(
                f"an estimator of kind '{self.estimator.kind}' has its own head: leave network.head at softmax"
            )
        if self.head == "pca" and self.pca_components > self.kernel_size**2:
            raise ValueError(f"pca_components must be at most the kernel's {self.kernel_size**2} pixels")
        for dim, heads in zip(self.channels, self.heads, strict=True):
            if dim % heads or dim % 4:
                raise ValueError(f"channels {dim} must divide by its {heads} heads and by 4")
        return self

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the operator's parameters, without the batch."""
        return (self.numbers,) if self.head == "box" else (self.kernel_size,) * 2

    @property
    def multiple(self) -> int:
        """Image sides must divide by this: three halvings of the unshuffled grid."""
        return 8 * self.unshuffle


NETWORKS: dict[str, Network] = {
    "paper": Network(),
    "small": Network(
        channels=(32, 64, 96, 128),
        blocks=(1, 2, 2, 2),
        heads=(1, 2, 3, 4),
        refinement=1,
        unshuffle=2,
        learn_variance=False,
        estimator=Estimator(channels=32),
    ),
}


class PresetNetwork(Network):
    """A network as recipes write it: a preset, and the keys that differ from it."""

    preset: Literal["paper", "small"] = "paper"
    """The network whose keys are taken where none is given here."""


class MCFormerSettings(PriorSettings):
    """How the network is used as a prior."""

    network: Network = NETWORKS["paper"]
    """``paper``, ``small``, or a shape of your own; ``preset: small`` inside it changes just some keys."""
    scale: Annotated[Int, Field(ge=1)] = 4
    """The scale it is trained for (1: deblurring)."""
    preconditioning: Literal["none", "residual"] = "none"
    """``none``: noise prediction as in the paper. ``residual``: refine the lifted measurement (EDM)."""
    residual_std: Annotated[Float, Field(gt=0)] = 0.15
    """Spread of clean minus lifted images in ``value_range``, for ``residual``."""
    value_range: tuple[Float, Float] = (0.0, 1.0)
    """Range of images in the diffusion, low and high."""
    timesteps: Annotated[Int, Field(ge=1, le=1_000_000)] = 1000
    """Length of the noise schedule."""
    beta_start: Annotated[Float, Field(gt=0, lt=1)] = 1e-4
    """Its first beta."""
    beta_end: Annotated[Float, Field(gt=0, lt=1)] = 2e-2
    """Its last beta; they lie on a line."""

    @field_validator("network", mode="before", json_schema_input_type=Literal["paper", "small"] | PresetNetwork)
    @classmethod
    def _preset(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"preset": value}
        if isinstance(value, dict) and "preset" in value:
            name = value["preset"]
            if not isinstance(name, str) or name not in NETWORKS:
                raise ValueError(f"unknown network '{name}' (known: {', '.join(NETWORKS)})")
            return {**NETWORKS[name].model_dump(), **{k: v for k, v in value.items() if k != "preset"}}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> MCFormerSettings:
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range must be low, high; got {list(self.value_range)}")
        given = self.weights is not None  # the network then comes with them, and its own settings are checked
        if not given and self.preconditioning == "residual" and self.network.learn_variance:
            raise ValueError("residual preconditioning has no learned variance: set network.learn_variance to false")
        return self
