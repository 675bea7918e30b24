"""Recipes: YAML to validated settings. Every error names file, line and key, and what would be right."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from .errors import PluginError, RecipeError, suggest
from .plugins import Component, Registry, Role
from .sampler import SamplerSettings
from .settings import Int, Settings
from .training import TrainSettings


class InputSettings(Settings):
    """Where pictures come from when the command line names none."""

    sample: Literal["astronaut", "cat", "coffee", "face"] | None = None
    """A photo that ships with scikit-image."""
    crop: Annotated[Int, Field(ge=16)] | None = 256
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
    where: Callable[[str], str]
    """Where a dotted key stands, for messages: ``recipes/x.yaml:7: sampler.steps``."""

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


class Skeleton(Settings):
    """A recipe's own keys. What is in the blocks is checked by their components' settings classes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[Int, Field(ge=0)] = 0
    degradation: dict[str, Any]
    prior: dict[str, Any]
    guidance: list[dict[str, Any]] = []
    sampler: dict[str, Any] = {}
    input: dict[str, Any] = {}
    train: dict[str, Any] | None = None


Key = tuple[str | int, ...]
_DEEPEST = 20


class _Source:
    """A parsed file that knows the line of each of its keys, and which came from ``--set``."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[Key, int] = {}
        self.overridden: dict[Key, str] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f":{mark.line + 1}" if mark else ""
            raise RecipeError(f"{path}{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
        except ValueError as error:  # a date that is none
            raise RecipeError(f"{path}: not valid YAML: {error}") from None
        if not isinstance(self.data, dict):
            raise RecipeError(f"{path}:1: a recipe is a mapping of keys such as 'name' and 'degradation'")
        self._walk(node, ())

    @classmethod
    def read(cls, path: Path) -> _Source:
        try:
            return cls(path, path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such recipe") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read as a recipe ({error})") from None

    def _walk(self, node: Any, key: Key) -> None:
        self.lines.setdefault(key, node.start_mark.line + 1)
        if len(key) > _DEEPEST:
            raise RecipeError(f"{self.where(key[:1])}: nested too deep; does an alias refer to itself?")
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
        """``recipes/x.yaml:7: a.b`` for the nearest enclosing key that the file has, or the ``--set`` that gave it."""
        for given, assignment in reversed(self.overridden.items()):
            if given[: len(key)] == key[: len(given)] and key:
                return f"--set {assignment}: {dotted(key)}"
        for end in range(len(key), -1, -1):
            if key[:end] in self.lines:
                return f"{self.path}:{self.lines[key[:end]]}: {dotted(key)}" if key else f"{self.path}:1"
        return str(self.path)

    def validate(self, model: type[BaseModel], data: Any, prefix: Key) -> Any:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise RecipeError(self._explain(error, model, prefix)) from None

    def _key(self, prefix: Key, path: tuple[str | int, ...]) -> Key:
        """Pydantic's path without the names of union branches, which are not keys of the file."""
        key = prefix
        for part in path:
            deeper = (*key, part)
            if deeper in self.lines or any(given[: len(deeper)] == deeper for given in self.overridden):
                key = deeper
        return key

    def _explain(self, error: ValidationError, model: type[BaseModel], prefix: Key) -> str:
        # Of the branches of a union, the one that fits the file furthest is what was meant; there, an
        # unknown key explains a missing one more often than the other way round.
        first = max(error.errors(), key=lambda e: (len(self._key(prefix, e["loc"])), e["type"] == "extra_forbidden"))
        key = self._key(prefix, first["loc"])
        last = first["loc"][-1] if first["loc"] else ""
        if first["type"] in ("extra_forbidden", "missing") and (not key or key[-1] != last):
            key = (*key, last)
        if first["type"] == "extra_forbidden":
            return f"{self.where(key)}: unknown key{suggest(str(last), _known_keys(model, first['loc'][:-1]))}"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            message = "missing"
        elif first["type"] not in ("value_error",):
            message = f"{message[:1].lower()}{message[1:]}, got {first['input']!r}"
        return f"{self.where(key)}: {message}"


def _known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> set[str]:
    """The keys that are allowed where pydantic's ``path`` leads: names of fields, list places, union branches."""
    models = [model]
    for part in path:
        inner = [m for outer in models if part in outer.model_fields for m in _models_in(outer.model_fields[part])]
        branch = [m for m in models if any(part in get_args(f.annotation) for f in m.model_fields.values())]
        models = inner or branch or models
    return {name for m in models for name in m.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every settings class that an annotation mentions, however deep in unions and lists."""
    annotation = getattr(annotation, "annotation", annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in get_args(annotation) for m in _models_in(argument)]


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """``a.b=c`` as a name and a YAML value."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"--set {assignment}: write it as key=value, such as sampler.steps=50")
    try:
        return name.strip(), yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # the latter for a date that is none
        raise RecipeError(f"--set {assignment}: the value is not valid YAML") from None


def dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def load_recipe(path: str | os.PathLike[str], registry: Registry, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Raises :class:`RecipeError` for a file, key or value that is wrong, with file and line;
    :class:`PluginError`, likewise placed, for a kind that no working plugin offers.
    """
    source = _Source.read(Path(path))
    for assignment in overrides:
        source.override(assignment)
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
        where=lambda name: source.where(tuple(name.split("."))),
    )


def part_without_recipe(component: Component, overrides: Sequence[str] = ()) -> Part:
    """A component with its default settings and ``key=value`` changes to them, under the same checks."""
    source = _Source(Path(component.kind), "{}")
    for assignment in overrides:
        source.override(assignment)
    return Part(component, source.validate(component.cls.Settings, source.data, ()), component.kind)
