"""Recipes: YAML to validated settings. Every error names file, line and key, and what would be right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from .errors import PluginError, RecipeError, suggest
from .plugins import Component, Registry, Role
from .sampler import SamplerSettings
from .settings import Settings
from .training import TrainSettings

SAMPLES = ("astronaut", "cat", "coffee")


class InputSettings(Settings):
    """Where pictures come from when the command line names none."""

    sample: Literal["astronaut", "cat", "coffee"] | None = None
    """A photo that ships with scikit-image."""
    crop: Annotated[int, Field(ge=16)] | None = 256
    """Centre-crop pictures that are to be degraded to squares of this side; null: whole pictures."""
    synthesize: bool = False
    """Inputs are clean: degrade them first, and measure the result against them."""


@dataclass(frozen=True)
class Part:
    """One chosen component with its validated settings."""

    component: Component
    settings: Any
    where: str


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
    input: InputSettings
    train: TrainSettings | None

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
            "input": self.input.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json") if self.train else None,
        }


class _Skeleton(Settings):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    degradation: dict[str, Any]
    prior: dict[str, Any]
    guidance: list[dict[str, Any]] = []
    sampler: dict[str, Any] = {}
    input: dict[str, Any] = {}
    train: dict[str, Any] | None = None


Key = tuple[str | int, ...]


class _Source:
    """A parsed file that knows the line of each of its keys, and which came from ``--set``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Key, int] = {}
        self.overridden: dict[Key, str] = {}
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such recipe") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read as a recipe ({error})") from None
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f":{mark.line + 1}" if mark else ""
            raise RecipeError(f"{path}{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
        if not isinstance(self.data, dict):
            raise RecipeError(f"{path}:1: a recipe is a mapping of keys such as 'name' and 'degradation'")
        self._walk(node, ())

    def _walk(self, node: Any, key: Key) -> None:
        self.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for name, value in node.value:
                inner = (*key, str(name.value))
                if name.value in seen:
                    raise RecipeError(f"{self.path}:{name.start_mark.line + 1}: {dotted(inner)}: given twice")
                seen.add(name.value)
                self.lines[inner] = name.start_mark.line + 1
                self._walk(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self._walk(value, (*key, i))

    def override(self, assignment: str) -> None:
        """Apply one ``a.b=c``; a number steps into a list (``guidance.0.strength=2``)."""
        name, value = parse_assignment(assignment)
        key: Key = tuple(int(part) if part.isdigit() else part for part in name.split("."))
        place = self.data
        for i, part in enumerate(key):
            last = i == len(key) - 1
            if isinstance(place, list) and isinstance(part, int) and part < len(place):
                pass
            elif isinstance(place, dict) and isinstance(part, str):
                if not last and not isinstance(place.get(part), (dict, list)):
                    place[part] = {}
            else:
                raise RecipeError(f"--set {assignment}: the recipe has no '{dotted(key[: i + 1])}'")
            if last:
                place[part] = value
            else:
                place = place[part]
        self.overridden[key] = assignment

    def where(self, key: Key) -> str:
        """``recipes/x.yaml:7: a.b`` for the nearest enclosing key that the file has."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.overridden:
                return f"--set {self.overridden[key[:end]]}: {dotted(key)}"
            if key[:end] in self.lines:
                return f"{self.path}:{self.lines[key[:end]]}: {dotted(key)}" if key else f"{self.path}:1"
        return str(self.path)

    def validate(self, model: type[BaseModel], data: Any, prefix: Key) -> Any:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise RecipeError(self._explain(error, model, prefix)) from None

    def _explain(self, error: ValidationError, model: type[BaseModel], prefix: Key) -> str:
        details = error.errors()
        # An unknown key explains a missing one more often than the other way round.
        first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
        # Drop the names of union branches, which are not keys of the file.
        key: Key = prefix
        for part in first["loc"]:
            if (*key, part) in self.lines or (*key, part) in self.overridden:
                key = (*key, part)
        last = first["loc"][-1] if first["loc"] else ""
        if first["type"] in ("extra_forbidden", "missing") and (not key or key[-1] != last):
            key = (*key, last)
        if first["type"] == "extra_forbidden":
            fields = list(model.model_fields) if len(first["loc"]) == 1 else []
            return f"{self.where(key)}: unknown key{suggest(str(last), fields)}"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            message = "missing"
        elif first["type"] not in ("value_error",):
            message = f"{message[:1].lower()}{message[1:]}, got {first['input']!r}"
        return f"{self.where(key)}: {message}"


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """``a.b=c`` as a name and a YAML value."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"--set {assignment}: write it as key=value, such as sampler.steps=50")
    try:
        return name.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"--set {assignment}: the value is not valid YAML") from None


def dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def load_recipe(path: str | os.PathLike[str], registry: Registry, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Raises :class:`RecipeError` for a file, key or value that is wrong, with file and line;
    :class:`PluginError`, likewise placed, for a kind that no working plugin offers.
    """
    source = _Source(Path(path))
    for assignment in overrides:
        source.override(assignment)
    skeleton = source.validate(_Skeleton, source.data, ())

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

    return Recipe(
        path=source.path,
        name=skeleton.name,
        seed=skeleton.seed,
        degradation=part("degradation", skeleton.degradation, ("degradation",)),
        prior=part("prior", skeleton.prior, ("prior",)),
        guidance=tuple(part("guidance", block, ("guidance", i)) for i, block in enumerate(skeleton.guidance)),
        sampler=source.validate(SamplerSettings, skeleton.sampler, ("sampler",)),
        input=source.validate(InputSettings, skeleton.input, ("input",)),
        train=None if skeleton.train is None else source.validate(TrainSettings, skeleton.train, ("train",)),
    )
