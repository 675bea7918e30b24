"""Who takes part in an evaluation: recipes, variants of them, the oracle, and registered methods."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..assembly import load
from ..components.registry import Part, Registry, Role
from ..errors import InvdiffError, PluginError, RecipeError, one_line
from ..method import Case, Method, Restored
from ..pipeline import Pipeline
from ..recipe.recipe import part_without_recipe
from ..sampler import StepRecord

ORACLE = "oracle"
OnStep = Callable[[StepRecord], None]


class Contender(ABC):
    """A row of the table: a label, the settings that say what it is, and a way to restore."""

    label: str
    traced: bool = False
    """Whether it walks in steps that can be looked at."""
    estimates: bool = True
    """Whether the parameters in its steps are its own, and no truth that it was told."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What its results follow from, besides the inputs."""

    @abstractmethod
    def restore(self, case: Case, on_step: OnStep | None) -> Restored: ...


@dataclass
class Solver(Contender):
    """A recipe. It is handed the true parameters, which only guidances that ask for them use."""

    label: str
    pipeline: Pipeline
    traced = True

    def identity(self) -> dict[str, Any]:
        resolved = self.pipeline.resolved()
        # Weights count by content, wherever their file lies.
        prior = {name: value for name, value in resolved["prior"].items() if name != "weights"}
        return {**{name: resolved[name] for name in ("seed", "guidance", "sampler")}, "prior": prior}

    def restore(self, case: Case, on_step: OnStep | None) -> Restored:
        found = self.pipeline.restore(case.y, callback=on_step, given=case.parameters)
        return Restored(found.image, found.parameters)


@dataclass
class Oracle(Solver):
    """The recipe told the truth. Its parameters are no estimate, and are not measured as one."""

    estimates = False

    def __post_init__(self) -> None:
        self.pipeline = self.pipeline.oracle()

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "oracle": True}

    def restore(self, case: Case, on_step: OnStep | None) -> Restored:
        return Restored(super().restore(case, on_step).image)


@dataclass
class Other(Contender):
    """A method that a plugin registered."""

    label: str
    part: Part
    method: Method

    def identity(self) -> dict[str, Any]:
        return {"method": self.part.component.kind, **self.part.settings.model_dump(mode="json")}

    def restore(self, case: Case, on_step: OnStep | None) -> Restored:
        return self.method.restore(case)


def gather(
    recipe: Path,
    registry: Registry,
    methods: Sequence[str] = (),
    variants: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str = "auto",
) -> list[Contender]:
    """Everyone, methods before recipes, the oracle last.

    ``recipe`` is a file, or a folder whose recipes all take part. ``methods`` are ``oracle``, more recipes
    (``*.yaml``), or kinds of methods with settings, as in ``"wiener: balance=1"``; ``variants`` are
    ``"label: key=value key=value"``, on top of ``overrides``. Raises :class:`InvdiffError` for what does not
    exist, for labels that clash, and for a recipe whose operator differs from the first one's.
    """
    files = recipes_of(recipe) + [Path(m) for m in methods if _is_recipe(m)]
    solvers: list[Solver] = []
    for file in dict.fromkeys(files):
        pipeline = load(file, overrides=overrides, seed=seed, device=device)
        solvers.append(Solver(pipeline.recipe.name, pipeline))
    main = solvers[0].pipeline
    for text in variants:
        label, changes = label_and_changes(text)
        if ":" not in text or not label:
            raise InvdiffError(f"--variant {text}: write it as 'label: key=value key=value'")
        try:
            pipeline = load(files[0], overrides=[*overrides, *changes], seed=seed, device=device)
        except InvdiffError as error:
            raise InvdiffError(str(error).replace("--set ", f"--variant {label}: ", 1)) from None
        solvers.append(Solver(label, pipeline))
    operator = main.recipe.resolved()["degradation"]
    for solver in solvers:
        if solver.pipeline.recipe.resolved()["degradation"] != operator:
            path = solver.pipeline.recipe.path
            raise RecipeError(
                f"{path}: '{solver.label}' has another degradation than {main.recipe.path}: not the same inputs"
            )
    found: list[Contender] = []
    for text in methods:
        if text != ORACLE and not _is_recipe(text):
            found.append(_other(text, registry, main))
    found += solvers
    if ORACLE in methods:
        found.append(Oracle(ORACLE, main))
    labels = [c.label for c in found]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise InvdiffError(f"two rows would be called '{twice[0]}': give each recipe and variant its own name")
    return found


def recipes_of(place: Path) -> list[Path]:
    """The recipe itself, or the recipes in a folder, by name."""
    if not place.is_dir():
        return [place]
    found = sorted(place.glob("*.yaml"))
    if not found:
        raise RecipeError(f"{place}: no recipes (*.yaml) in this folder")
    return found


def build_kind(role: Role, text: str, registry: Registry, option: str) -> tuple[Part, Any]:
    """A registered component from ``"kind"`` or ``"kind: key=value key=value"``, and its settings."""
    kind, changes = label_and_changes(text)
    try:
        part = part_without_recipe(registry.get(role, kind), changes)
        return part, part.component.cls(part.settings)
    except PluginError as error:
        raise PluginError(f"{option} {text}: {error}") from None
    except InvdiffError as error:
        raise InvdiffError(str(error).replace("--set ", f"{option} {kind}: ", 1)) from None
    except Exception as error:  # a foreign component may raise anything
        raise PluginError(f"{option} {text}: cannot be built: {type(error).__name__}: {one_line(error)}") from error


def _other(text: str, registry: Registry, main: Pipeline) -> Other:
    part, method = build_kind("method", text, registry, "--method")
    reason = method.unfit(main.degradation)
    if reason:
        raise InvdiffError(f"--method {text}: {reason}")
    return Other(label_of(text), part, method)


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
