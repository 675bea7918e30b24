"""Who takes part in an evaluation: recipes, variants of them, the oracle, and registered methods."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..assembly import assemble, read
from ..components.build import build
from ..components.registry import Part, Registry, Role
from ..errors import InvdiffError, PluginError, RecipeError
from ..method import Case, Method, Restoration
from ..pipeline import OnStep, Pipeline
from ..recipe.bundled import bundled, find_recipe
from ..recipe.recipe import Recipe, part_without_recipe
from ..recipe.source import Change

ORACLE = "oracle"


class Contender(ABC):
    """A row of the table: a label, the settings that say what it is, and a way to restore."""

    label: str
    traced: bool = False
    """Whether it walks in steps that can be looked at."""
    estimates: bool = True
    """Whether the parameters that it restores with are its own, and no truth that it was told."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What its results follow from, besides the inputs."""

    @abstractmethod
    def restore(self, case: Case, on_step: OnStep | None) -> Restoration:
        """The case, restored; ``on_step`` is called after each step of one that is traced."""


@dataclass
class RecipeContender(Contender):
    """A recipe, blind. The true parameters are at hand for guidances that are made for them."""

    label: str
    recipe: Recipe
    pipeline: Pipeline
    traced = True

    def identity(self) -> dict[str, Any]:
        return _identity_of(self.pipeline)

    def restore(self, case: Case, on_step: OnStep | None) -> Restoration:
        return self.pipeline.restore(case.y, truth=case.parameters, callback=on_step)


@dataclass
class OracleContender(Contender):
    """A recipe that is told the truth. Its parameters are no estimate, and are not measured as one."""

    label: str
    pipeline: Pipeline
    traced = True
    estimates = False

    def identity(self) -> dict[str, Any]:
        return {**_identity_of(self.pipeline), "oracle": True}

    def restore(self, case: Case, on_step: OnStep | None) -> Restoration:
        return Restoration(self.pipeline.restore(case.y, parameters=case.parameters, callback=on_step).image)


@dataclass
class MethodContender(Contender):
    """A method that a plugin registered; ``pipeline`` is the main recipe's, for one that wants its estimate."""

    label: str
    part: Part
    method: Method
    pipeline: Pipeline

    def identity(self) -> dict[str, Any]:
        own = {"method": self.part.component.kind, **self.part.settings.model_dump(mode="json")}
        return own | ({"estimated_by": _identity_of(self.pipeline)} if self.method.wants_estimate else {})

    def restore(self, case: Case, on_step: OnStep | None) -> Restoration:
        if self.method.wants_estimate:
            estimated = self.pipeline.restore(case.y, truth=case.parameters).parameters
            if estimated is None:
                raise InvdiffError(f"--method {self.label}: the recipe estimates no parameters")
            case = replace(case, parameters=estimated)
        return self.method.restore(case)


def _identity_of(pipeline: Pipeline) -> dict[str, Any]:
    # Weights count by content, wherever their file lies.
    prior = {name: value for name, value in pipeline.identity["prior"].items() if name != "weights"}
    return {**{name: pipeline.identity[name] for name in ("seed", "guidance", "sampler")}, "prior": prior}


@dataclass(frozen=True)
class LineUp:
    """All contenders in the order of their rows; ``main`` is the recipe that the inputs are made with."""

    main: RecipeContender
    contenders: list[Contender]


def gather(
    recipe: Path,
    registry: Registry,
    methods: Sequence[str] = (),
    variants: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str = "auto",
) -> LineUp:
    """Everyone, methods before recipes, the oracle last.

    ``recipe`` is a file, or a folder whose recipes all take part. ``methods`` are ``oracle``, more recipes
    (``*.yaml``), or kinds of methods with settings, as in ``"wiener: balance=1"``; ``variants`` are
    ``"label: key=value key=value"``, on top of ``overrides``. Raises :class:`InvdiffError` for what does not
    exist, for labels that clash, and for a recipe whose operator differs from the first one's.
    """

    def contender(file: Path, changes: Sequence[str | Change], label: str = "") -> RecipeContender:
        found = read(file, changes, seed)
        return RecipeContender(label or found.name, found, assemble(found, device))

    files = list(dict.fromkeys(recipes_of(recipe) + [Path(m) for m in methods if _is_recipe(m)]))
    recipes = [contender(file, overrides) for file in files]
    main = recipes[0]
    for text in variants:
        label, changes = label_and_changes(text)
        if ":" not in text or not label:
            raise InvdiffError(f"--variant {text}: write it as 'label: key=value key=value'")
        said = [Change(change, f"--variant {label}:") for change in changes]
        recipes.append(contender(files[0], [*overrides, *said], label))
    for other in recipes:
        if other.pipeline.identity["degradation"] != main.pipeline.identity["degradation"]:
            raise RecipeError(
                f"{other.recipe.path}: '{other.label}' has another degradation than {main.recipe.path}: "
                "not the same inputs; evaluate it into a folder of its own"
            )
    others = [_method(text, registry, main.pipeline) for text in methods if text != ORACLE and not _is_recipe(text)]
    oracle = [OracleContender(ORACLE, main.pipeline)] if ORACLE in methods else []
    everyone = [*others, *recipes, *oracle]
    labels = [one.label for one in everyone]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise InvdiffError(f"two rows would be called '{twice[0]}': give each recipe and variant its own name")
    return LineUp(main, everyone)


def recipes_of(place: Path) -> list[Path]:
    """The recipe itself, a path or a bundled one's name, or the recipes in a folder, by name."""
    if not place.is_dir() or os.fspath(place) in bundled():
        return [find_recipe(place)]
    found = sorted(place.glob("*.yaml"))
    if not found:
        raise RecipeError(f"{place}: no recipes (*.yaml) in this folder; name one, or a folder with some")
    return found


def build_kind(role: Role, text: str, registry: Registry, option: str) -> tuple[Part, Any]:
    """A registered component from ``"kind"`` or ``"kind: key=value key=value"``, and its settings."""
    kind, changes = label_and_changes(text)
    try:
        component = registry.get(role, kind)
    except PluginError as error:
        raise PluginError(f"{option} {text}: {error}") from None
    part = part_without_recipe(component, [Change(c, f"{option} {kind}:") for c in changes], f"{option} {text}")
    return part, build(part)


def _method(text: str, registry: Registry, main: Pipeline) -> MethodContender:
    part, method = build_kind("method", text, registry, "--method")
    reason = method.unfit(main.degradation)
    if reason:
        raise InvdiffError(f"--method {text}: {reason}")
    return MethodContender(label_of(text), part, method, main)


def _is_recipe(text: str) -> bool:
    return not label_and_changes(text)[1] and text.endswith((".yaml", ".yml"))


def label_and_changes(text: str) -> tuple[str, list[str]]:
    """``"label: a.b=c d=[1, 2]"`` in its parts; a value goes on to the next ``key=``, so it may hold spaces."""
    label, _, changes = text.partition(":")
    return label.strip(), [c for c in re.split(r"\s+(?=[A-Za-z_][\w.]*=)", changes.strip()) if c]


def label_of(text: str) -> str:
    """The same, put together again: one way to write each."""
    label, changes = label_and_changes(text)
    return f"{label}: {' '.join(changes)}" if changes else label
