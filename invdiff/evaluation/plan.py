"""What an evaluation has to do: which pictures, under which kernels, and the measurement of each such case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..degradation import Degradation, KernelSpace
from ..errors import ImageError, InvdiffError
from ..io.decoding import load
from ..kernel_set import KernelSet
from ..method import Case
from ..metrics import rms
from ..pipeline import Pipeline
from ..seeds import Stream, content_of, stream
from .kernels import draw
from .results import Place


@dataclass(frozen=True)
class Dataset:
    """A folder of clean pictures, or some of them: what each is called, and its file."""

    name: str
    folder: Path
    files: list[tuple[str, Path]]


@dataclass(frozen=True)
class Subject:
    """One clean picture ``(3, H, W)``, and the part of it that a photo shows."""

    dataset: str
    picture: str
    clean: Tensor
    framed: Tensor
    digest: str


@dataclass(frozen=True)
class PlannedCase:
    """One clean picture under one kernel: ``place`` lacks only who restores it."""

    subject: Subject
    place: Place
    case: Case


class Plan:
    """Every picture of some datasets under its kernels, as the main recipe degrades it. All follows from seeds."""

    def __init__(
        self,
        pipeline: Pipeline,
        crop: int | None,
        datasets: list[Dataset],
        kernels: KernelSet,
        kernels_label: str,
        repeat: int | None,
    ) -> None:
        self.operator: Degradation = pipeline.degradation
        self.seed, self.crop, self.datasets = pipeline.seed, crop, datasets
        self.kernels, self.kernels_label = kernels, kernels_label
        self.repeat = repeat or kernels.count or 1
        if kernels.count is not None and self.repeat > kernels.count:
            raise InvdiffError(
                f"--repeat {self.repeat}: there are {kernels.count} kernels in this set; ask for no more"
            )

    @property
    def total(self) -> int:
        """How many cases there are."""
        return sum(len(dataset.files) for dataset in self.datasets) * self.repeat

    def subject(self, dataset: Dataset, picture: str, path: Path) -> Subject:
        """A clean picture: the recipe's centre crop, or else cut at the lower right to the scale."""
        clean = load(path).to_degrade(self.operator.scale, self.crop).pixels
        height, width = clean.shape[-2:]
        space = self.operator.parameters
        if isinstance(space, KernelSpace) and min(height, width) < space.size:
            raise ImageError(f"{path}: {width}x{height} pixels are smaller than the kernel, {space.size}x{space.size}")
        framed = self.operator.frame(clean)
        for shown in (clean, framed):  # what is restored is blurred once more, to be measured
            self.operator.output_shape((shown.shape[-2], shown.shape[-1]))  # refuses a picture that is too small
        digest = "".join(f"{word:08x}" for word in content_of(clean)[:2])
        return Subject(dataset.name, picture, clean, framed, digest)

    def cases(self, subject: Subject) -> Iterator[PlannedCase]:
        """The subject under each of its kernels."""
        place = Place(subject.dataset, subject.picture, self.kernels_label, "", "")
        for kernel in draw(self.kernels, self.repeat, self.operator, self.seed, content_of(subject.clean)):
            yield PlannedCase(
                subject, replace(place, kernel=kernel.name), self.measurement(subject.clean, kernel.parameters)
            )

    def measurement(self, clean: Tensor, parameters: Tensor) -> Case:
        """The measurement, as the operator makes it; its noise follows from seed, picture and kernel."""
        generator = stream(self.seed, Stream.MEASUREMENT_NOISE, *content_of(clean, parameters))
        plain = self.operator.apply(clean[None], parameters[None])
        y = self.operator.corrupt(plain, generator)
        level = self.operator.noise_level
        return Case(y[0], parameters, self.operator, rms(y - plain) if level is None else level)
