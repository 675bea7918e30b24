"""Recipes: YAML to validated settings. Every error names file, line and key, and what would be right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ..components.registry import Component, Part, Registry, Role
from ..errors import PluginError, RecipeError, suggest
from ..sampler import DrawsSettings, SamplerSettings
from ..settings import Float, Int, Settings
from ..training.settings import TrainSettings
from .source import Change, Key, Source, key_of, parse_assignment


class InputSettings(Settings):
    """Where pictures come from when the command line names none."""

    sample: Literal["astronaut", "cat", "coffee", "face"] | None = None
    """A photo that ships with scikit-image."""
    crop: Annotated[Int, Field(ge=16)] | None = 256
    """Centre-crop pictures that are to be degraded to squares of this side; null: whole pictures."""
    synthesize: bool = False
    """Inputs are clean: degrade them first, and measure the result against them."""


class InsteadSettings(Settings):
    """Another recipe, for photos that are too noisy or too compressed for this one's prior."""

    recipe: str
    """The other recipe: a path relative to this one's."""
    noise: Annotated[Float, Field(ge=0)]
    """From which noise in the photo's colours on, its standard deviation on [0, 1]."""
    quality: Annotated[Int, Field(ge=0, le=100)]
    """From which quality of its JPEG down, by the file's own tables."""
    grain: Annotated[Float, Field(ge=0, le=1)] = 1.0
    """From which standard deviation of all its finest detail on: noise of no colour, or texture finer than most."""


Pace = Literal["fast", "best"]


class PaceSettings(Settings):
    """What a recipe changes of itself for whoever has less patience, or more."""

    sampler: dict[str, Any] = {}
    """Settings of the sampler, over the recipe's own."""
    guidance: list[dict[str, Any]] | None = None
    """Guidances in place of the recipe's own; null: those."""


@dataclass(frozen=True)
class Recipe:
    """A whole recipe, validated; nothing is built yet."""

    path: Path
    name: str
    seed: int
    degradation: Part
    prior: Part
    guidance: tuple[Part, ...]
    sampler: SamplerSettings
    draws: DrawsSettings
    input: InputSettings
    train: TrainSettings | None
    teacher: Part | None
    """The prior that ``train.teacher`` names."""
    instead: InsteadSettings | None
    fast: PaceSettings | None
    best: PaceSettings | None
    pace: Pace | None
    """Which of the two it was read with."""
    source: Source

    def where(self, name: str) -> str:
        """Where a dotted key stands, for messages: ``recipes/x.yaml:7: sampler.steps``."""
        return self.source.where(key_of(name))

    def resolved(self) -> dict[str, Any]:
        """Every setting with its defaults filled in, for reports."""

        def part(p: Part) -> dict[str, Any]:
            return {"kind": p.component.kind, **p.settings.model_dump(mode="json")}

        return {
            "name": self.name,
            "seed": self.seed,
            "degradation": part(self.degradation),
            "prior": part(self.prior),
            "guidance": [part(g) for g in self.guidance],
            "sampler": self.sampler.model_dump(mode="json"),
            "draws": self.draws.model_dump(mode="json"),
            "input": self.input.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json") if self.train else None,
            "instead": self.instead.model_dump(mode="json") if self.instead else None,
            "fast": self.fast.model_dump(mode="json") if self.fast else None,
            "best": self.best.model_dump(mode="json") if self.best else None,
        }


class Skeleton(Settings):
    """A recipe's own keys. What is in the blocks is checked by their components' settings classes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """What the recipe is called: the default folder of its results, and its row in an evaluation."""
    seed: Annotated[Int, Field(ge=0)] = 0
    """Seed of all random numbers."""
    degradation: dict[str, Any]
    """The operator: its ``kind``, and that kind's settings."""
    prior: dict[str, Any]
    """The prior: its ``kind``, and that kind's settings; ``weights`` bring their own."""
    guidance: list[dict[str, Any]] = []
    """Guidances, which act in this order at every step: a ``kind`` and its settings each."""
    sampler: dict[str, Any] = {}
    """How the reverse diffusion is walked."""
    draws: dict[str, Any] = {}
    """How several pictures are drawn, and how far off they are; a recipe that ``extends`` this one does not take it
    over."""
    input: dict[str, Any] = {}
    """Where pictures come from when the command line names none."""
    train: dict[str, Any] | None = None
    """How the prior is trained: for ``invdiff train``."""
    instead: dict[str, Any] | None = None
    """Another recipe for some photos; a recipe that ``extends`` this one does not take it over."""
    fast: PaceSettings | None = None
    """What ``--fast`` changes, for the least time; a recipe that ``extends`` this one does not take it over."""
    best: PaceSettings | None = None
    """What ``--best`` changes, for what comes nearest to the truth, however long it takes; likewise."""


def load_recipe(
    path: str | os.PathLike[str],
    registry: Registry,
    overrides: Sequence[str | Change] = (),
    pace: Pace | None = None,
) -> Recipe:
    """Read, override and validate a recipe; with a ``pace``, over what it says there.

    Raises :class:`RecipeError` for a file, key or value that is wrong, with file and line;
    :class:`PluginError`, likewise placed, for a kind that no working plugin offers.
    """
    source = Source.read(Path(path))
    of_pace = [change for change in overrides if key_of(parse_assignment(change)[0])[0] == pace]
    for change in of_pace:  # before it is taken; every other change has the last word
        source.override(change)
    if pace is not None:
        if source.data.get(pace) is None:
            raise RecipeError(f"{source.path}: the recipe says nothing of '{pace}': leave --{pace} out")
        source.validate(PaceSettings, source.data[pace], (pace,))
        source.take(pace)
    for change in overrides:
        if change not in of_pace:
            source.override(change)
    skeleton = source.validate(Skeleton, source.data, ())

    def part(role: Role, block: dict[str, Any], key: Key) -> Part:
        kind = block.get("kind")
        if not isinstance(kind, str):
            raise RecipeError(f"{source.where((*key, 'kind'))}: missing{suggest('', registry.kinds(role))}")
        try:
            component = registry.get(role, kind)
        except PluginError as error:
            raise PluginError(f"{source.where((*key, 'kind'))}: {error}") from None
        rest = {name: value for name, value in block.items() if name != "kind"}
        return Part(component, source.validate(component.cls.Settings, rest, key), source.where(key))

    train = None if skeleton.train is None else source.validate(TrainSettings, skeleton.train, ("train",))
    teaching = ("train", "teacher", "prior")
    return Recipe(
        path=source.path,
        name=skeleton.name,
        seed=skeleton.seed,
        degradation=part("degradation", skeleton.degradation, ("degradation",)),
        prior=part("prior", skeleton.prior, ("prior",)),
        guidance=tuple(part("guidance", block, ("guidance", i)) for i, block in enumerate(skeleton.guidance)),
        sampler=source.validate(SamplerSettings, skeleton.sampler, ("sampler",)),
        draws=source.validate(DrawsSettings, skeleton.draws, ("draws",)),
        input=source.validate(InputSettings, skeleton.input, ("input",)),
        train=train,
        teacher=part("prior", train.teacher.prior, teaching) if train and train.teacher else None,
        instead=None if skeleton.instead is None else source.validate(InsteadSettings, skeleton.instead, ("instead",)),
        fast=skeleton.fast,
        best=skeleton.best,
        pace=pace,
        source=source,
    )


def part_without_recipe(component: Component, overrides: Sequence[str | Change] = (), where: str = "") -> Part:
    """A component with its default settings and ``key=value`` changes to them, under the same checks."""
    source = Source(Path(component.kind), "{}")
    for change in overrides:
        source.override(change)
    settings = source.validate(component.cls.Settings, source.data, ())
    return Part(component, settings, where or component.kind)
