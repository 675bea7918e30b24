"""The settings of a training run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator

from ..settings import Float, Int, Settings


class NoiseLevels(Settings):
    """Which times training visits: uniform ones, and a share around a noise level of interest."""

    lognormal_share: Annotated[Float, Field(ge=0, le=1)] = 0.0
    """Part of the samples whose ``sigma = sqrt((1 - abar) / abar)`` is drawn log-normally."""
    median: Annotated[Float, Field(gt=0)] = 0.15
    """The middle of the log-normal share, in the prior's range."""
    spread: Annotated[Float, Field(gt=0)] = 1.2
    """Standard deviation of its logarithm."""


Weight = Annotated[Float, Field(ge=0)]


class ImageLosses(Settings):
    """What the loss of the picture is made of: terms and their weights."""

    squared: Weight = 1.0
    """Of the squared error of what the network says, weighted by noise level as the prior asks (Eq. 13)."""
    charbonnier: Weight = 0.0
    """Of that error by Charbonnier's function, nearly absolute: pixels that are far off count less than squared."""
    softness: Annotated[Float, Field(gt=0)] = 1e-3
    """Of ``charbonnier``: errors below it count squared, in the units of what the network says."""
    fourier: Weight = 0.0
    """Of the absolute difference of Fourier magnitudes of the estimated picture and the true one, in [0, 1]."""
    consistency: Weight = 0.0
    """Of the squared difference, in [0, 1], of what the operator makes of them, without noise, told its parameters."""
    perceptual: Weight = 0.0
    """Of the distance LPIPS-VGG of the estimated picture from the true one, for which ``--lpips`` names weights."""

    @model_validator(mode="after")
    def _something(self) -> ImageLosses:
        if not self.squared and not self.charbonnier:
            raise ValueError("losses: squared or charbonnier must count, the other terms leave the picture open")
        return self


class TeacherSettings(Settings):
    """Another prior, whose picture is learned beside the true one."""

    prior: dict[str, Any]
    """Its ``kind`` and settings. It is told the true parameters if it takes any."""
    share: Annotated[Float, Field(gt=0, le=1)] = 0.5
    """How much of what the squared error asks for is its picture; the rest is the truth."""


class TrainSettings(Settings):
    """One training run. The defaults are the paper's (Sec. 4.1); ``data`` may come from the command line."""

    start: str | None = None
    """Weights to begin from, a file or a bundled name: what fits is taken over, and what does not is said."""
    data: list[str] = []
    """Folders of photos with those below them, and shards: ``.tar`` files; ``--data`` replaces them."""
    steps: Annotated[Int, Field(ge=1)] = 500_000
    """Updates of the weights."""
    batch: Annotated[Int, Field(ge=1)] = 8
    """Photos in each update, of all processes together."""
    accumulate: Annotated[Int, Field(ge=1)] = 1
    """Parts in which each process takes its share of a batch, one after the other, where memory is short."""
    crop: Annotated[Int, Field(ge=8)] = 256
    """Side of the square crops, in pixels of the clean image."""
    rescale: tuple[Float, Float] = (1.0, 1.0)
    """Photos are shrunk by a random factor in this range before cropping."""
    learning_rate: Annotated[Float, Field(gt=0)] = 2e-4
    """Adam's, after the warm-up."""
    decay: Literal["halve", "cosine", "none"] = "halve"
    """``halve`` every ``halve_every`` steps (the paper), ``cosine`` to a hundredth at the last step, or ``none``."""
    halve_every: Annotated[Int, Field(ge=1)] = 100_000
    """Of ``decay: halve``."""
    cooldown: Annotated[Int, Field(ge=0)] = 0
    """Steps at the end over which the rate falls to nothing, on top of ``decay``: with ``decay: none`` a trapezoid."""
    warmup: Annotated[Int, Field(ge=0)] = 0
    """Steps over which the rate rises from nothing."""
    clip: Annotated[Float, Field(gt=0)] = 1.0
    """Largest gradient norm."""
    ema: Annotated[Float, Field(ge=0, lt=1)] = 0.999
    """Share of the past in the averaged weights, which are the ones that are kept."""
    learns: Literal["both", "parameters"] = "both"
    """``parameters``: only how they are read from the measurement, by the weights that this takes; the picture's half
    stays as it is, and costs nothing. For priors that read them without it."""
    losses: ImageLosses = ImageLosses()
    """What the loss of the picture is made of; by default the squared error alone."""
    parameter_weight: Weight = 1.0
    """Weight of the parameters' L1 error, summed over a kernel's pixels (Eq. 13)."""
    teacher: TeacherSettings | None = None
    """Another prior to learn from: one that is told the truth says what can be known of the picture, without the chance
    that is in every single one."""
    told: Annotated[Float, Field(ge=0, le=1)] = 0.0
    """Share of the steps in which the prior restores with the true parameters in place of its own, so that it learns
    to trust good ones, which guidances may find. It estimates its own all the same. For priors that take any."""
    variance_weight: Weight = 1e-3
    """Weight of the variational bound, for priors with a learned variance."""
    noise: NoiseLevels = NoiseLevels()
    """Which noise levels are visited how often."""
    walked: bool = False
    """Learn in the loop as well: each photo is also restored by the recipe's guidances and sampler, with the weights as
    they stand, and what each step shows the prior is a sample. A loop shows what clean pictures with noise never do."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: what a short measurement finds faster where there are units for bfloat16, float32 elsewhere."""
    compile: bool | Literal["auto"] = False
    """``torch.compile`` the network, where that works; ``auto``: if a compiled pass is a tenth faster, which takes a
    minute or two to find out."""
    channels_last: bool = False
    """Keep images with their channels last in memory: faster on most processors."""
    validate_every: Annotated[Int, Field(ge=1)] = 1000
    """Steps between measurements on the pictures of ``--validate``."""
    checkpoint_every: Annotated[Int, Field(ge=1)] = 1000
    """Steps between checkpoints."""
    log_every: Annotated[Int, Field(ge=1)] = 50
    """Steps between lines of ``log.jsonl``."""
    workers: Annotated[Int, Field(ge=1)] = 2
    """Threads that read photos ahead."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        if not 0 < self.rescale[0] <= self.rescale[1] <= 1:
            raise ValueError(f"rescale must be [low, high] with 0 < low <= high <= 1, got {list(self.rescale)}")
        return self


def is_told(settings: TrainSettings, step: int) -> bool:
    """Whether the prior is told the true parameters at a step, counted from 0: the share's steps, evenly spread."""
    return int((step + 1) * settings.told + 1e-9) > int(step * settings.told + 1e-9)


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The rate of a step, counted from 0."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(settings.warmup, 1))
    if settings.decay == "halve":
        rate *= 0.5 ** (step // settings.halve_every)
    if settings.decay == "cosine":
        angle = torch.pi * torch.tensor(step / settings.steps, dtype=torch.float64)
        rate *= 0.01 + 0.99 * 0.5 * (1 + float(angle.cos()))
    if settings.cooldown:
        rate *= min(1.0, (settings.steps - step) / settings.cooldown)
    return rate
