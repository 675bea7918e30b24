"""A recipe's text: keys that know their file and line, recipes that extend others, changes from ``--set``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import RecipeError, one_line, reason, suggest
from ..io.plain import is_no_file

Key = tuple[str | int, ...]
_DEEPEST = 20
_LONGEST = 1_000_000
_MOST = 20_000
"""Values that a recipe may hold, those that aliases repeat counted each time."""
_LONGEST_CHAIN = 32
"""Recipes that may extend one another."""
_OWN = ("instead", "draws", "fast", "best")
"""What names a file from the recipe's own folder, or was measured, for its own prior: not taken over."""
_CHOICES = ("kind", "family")  # keys that say what the others beside them mean


class _Loader(yaml.SafeLoader):
    """Safe, and ``1e-3`` is a number (YAML 1.2); PyYAML's own wants ``1.0e-3`` (YAML 1.1)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class Change:
    """One ``a.b=c`` on top of a recipe, and who says so, for messages."""

    text: str
    said_by: str = "--set"

    def __str__(self) -> str:
        return f"{self.said_by} {self.text}"

    @classmethod
    def of(cls, change: str | Change) -> Change:
        """A bare text is what ``--set`` says."""
        return change if isinstance(change, Change) else cls(change)


class Source:
    """A parsed file, over the one it extends, that knows where each key stands, and which came from ``--set``."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.places: dict[Key, str] = {}
        self.overridden: dict[Key, Change] = {}
        if len(text) > _LONGEST:
            raise RecipeError(f"{path}: larger than a recipe ever is (at most {_LONGEST:,} characters)")
        try:
            node = yaml.compose(text, Loader=_Loader)
            bomb = _bomb_in(node)
            if bomb is not None:
                raise RecipeError(
                    f"{path}:{bomb.start_mark.line + 1}: more than {_MOST:,} values, counting what aliases repeat; "
                    "does an alias refer to itself?"
                )
            self.data: Any = _built(node)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f":{mark.line + 1}" if mark else ""
            raise RecipeError(f"{path}{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
        except ValueError as error:  # a date that is none, a number of thousands of digits
            raise RecipeError(f"{path}: not valid YAML: {one_line(error)}") from None
        except RecursionError:
            raise RecipeError(f"{path}: nested too deep") from None
        if not isinstance(self.data, dict):
            raise RecipeError(f"{path}:1: a recipe is a mapping of keys such as 'name' and 'degradation'")
        self._walk(node, ())

    @classmethod
    def read(cls, path: Path, _above: tuple[Path, ...] = ()) -> Source:
        """A recipe's file, and beneath it the one that its ``extends`` names, from its own folder."""
        if is_no_file(path):
            raise RecipeError(f"{path}: cannot be read as a recipe (not a file)")
        try:
            with path.open(encoding="utf-8") as file:
                source = cls(path, file.read(_LONGEST + 1))
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such recipe") from None
        except (OSError, ValueError) as error:
            raise RecipeError(f"{path}: cannot be read as a recipe ({reason(error)})") from None
        if "extends" in source.data:
            source._extend((*_above, path.resolve()))
        return source

    def _extend(self, chain: tuple[Path, ...]) -> None:
        place, name = self.where(("extends",)), self.data.pop("extends")
        if not isinstance(name, str) or not name:
            raise RecipeError(f"{place}: is the path of another recipe, got {name!r}")
        try:
            below = self.path.parent / Path(name).expanduser()
            circle, there = below.resolve() in chain, below.is_file()
        except (OSError, ValueError, RuntimeError) as error:  # a name too long, a link to itself
            raise RecipeError(f"{place}: no such recipe ({reason(error)})") from None
        if len(chain) >= _LONGEST_CHAIN:
            raise RecipeError(f"{place}: more than {_LONGEST_CHAIN} recipes extend one another")
        if circle:
            raise RecipeError(f"{place}: {below} extends itself in a circle")
        if not there:
            raise RecipeError(f"{place}: no such recipe: {below}")
        base = Source.read(below, chain)
        for own in _OWN:
            base.data.pop(own, None)
        replaced: list[Key] = [(own,) for own in _OWN]
        self.data = _merged(base.data, self.data, (), replaced)
        kept = {k: v for k, v in base.places.items() if k and not any(k[: len(r)] == r for r in replaced)}
        self.places = {**kept, **self.places}

    def _walk(self, node: Any, key: Key) -> None:
        self.places.setdefault(key, f"{self.path}:{node.start_mark.line + 1}")
        if len(key) > _DEEPEST:
            raise RecipeError(f"{self.where(key[:1])}: nested too deep; does an alias refer to itself?")
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for name, value in node.value:
                inner = (*key, str(name.value))
                if name.value in seen:
                    raise RecipeError(f"{self.path}:{name.start_mark.line + 1}: {dotted(inner)}: given twice")
                seen.add(name.value)
                self.places[inner] = f"{self.path}:{name.start_mark.line + 1}"
                self._walk(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self._walk(value, (*key, i))

    def take(self, name: str) -> None:
        """Put one of the recipe's blocks over the whole of it, but for nulls; keys keep their places."""
        block = {key: value for key, value in self.data[name].items() if value is not None}
        self.data = _merged(self.data, block, (), [])
        self.places.update({key[1:]: place for key, place in self.places.items() if key[:1] == (name,) and key[1:]})

    def override(self, change: str | Change) -> None:
        """Apply one ``a.b=c``; a number steps into a list (``guidance.0.strength=2``)."""
        change = Change.of(change)
        name, value = parse_assignment(change)
        key = key_of(name)
        place = self.data
        for i, part in enumerate(key):
            last = i == len(key) - 1
            if isinstance(place, list) and isinstance(part, int) and part < len(place):
                pass
            elif isinstance(place, dict) and isinstance(part, str):
                if not last and not isinstance(place.get(part), (dict, list)):
                    place[part] = {}
            else:
                raise RecipeError(f"{change}: the recipe has no '{dotted(key[: i + 1])}'")
            if last:
                place[part] = value
            else:
                place = place[part]
        self.overridden[key] = change

    def where(self, key: Key) -> str:
        """``recipes/x.yaml:7: a.b`` for the nearest enclosing key that the file has, or the change that gave it."""
        for given, change in reversed(self.overridden.items()):
            if given[: len(key)] == key[: len(given)] and key:
                return f"{change}: {dotted(key)}"
        for end in range(len(key), -1, -1):
            if key[:end] in self.places:
                return f"{self.places[key[:end]]}: {dotted(key)}" if key else f"{self.path}:1"
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
            if deeper in self.places or any(given[: len(deeper)] == deeper for given in self.overridden):
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
            message = f"{message[:1].lower()}{message[1:]}, got {_short(first['input'])}"
        return f"{self.where(key)}: {message}"


def _short(value: Any) -> str:
    """A refused value as messages show it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]} ... ({len(text):,} characters)"


def _merged(below: Any, above: Any, key: Key, replaced: list[Key]) -> Any:
    """Mappings key by key; anything else, and a component of another kind, as a whole, noted in ``replaced``."""
    same = isinstance(below, dict) and isinstance(above, dict)
    if same and all(name not in below or above.get(name) in (None, below[name]) for name in _CHOICES):
        merged = dict(below)
        for name, value in above.items():
            known = name in below
            merged[name] = _merged(below[name], value, (*key, str(name)), replaced) if known else value
        return merged
    replaced.append(key)
    return above


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


def parse_assignment(change: str | Change) -> tuple[str, Any]:
    """``a.b=c`` as a name and a YAML value."""
    change = Change.of(change)
    name, equals, text = change.text.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"{change}: write it as key=value, such as sampler.steps=50")
    try:
        node = yaml.compose(text, Loader=_Loader)
        if _bomb_in(node) is not None:
            raise ValueError
        return name.strip(), _built(node)
    except (yaml.YAMLError, ValueError):  # the latter for a date that is none
        raise RecipeError(f"{change}: the value is not valid YAML") from None
    except RecursionError:
        raise RecipeError(f"{change}: the value is nested too deep") from None


def key_of(name: str) -> Key:
    """``guidance.0.strength`` in its parts; a number steps into a list."""
    return tuple(int(part) if re.fullmatch("[0-9]{1,9}", part) else part for part in name.split("."))


def _built(node: yaml.Node | None) -> Any:
    """The plain values of a tree."""
    return None if node is None else _Loader("").construct_document(node)


def _bomb_in(node: yaml.Node | None) -> yaml.Node | None:
    """A value at the top of a tree whose aliases unfold to more than a recipe holds ("billion laughs"), or None."""
    tops = [pair[1] for pair in node.value] if isinstance(node, yaml.MappingNode) else [node] if node else []
    for top in tops:
        left, waiting = _MOST, [top]
        while waiting and left:
            left -= 1
            found = waiting.pop()
            if isinstance(found, yaml.MappingNode):
                waiting += [inner for pair in found.value for inner in pair]
            elif isinstance(found, yaml.SequenceNode):
                waiting += found.value
        if waiting:
            return top
    return None


def dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)
