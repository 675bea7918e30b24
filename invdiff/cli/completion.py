"""What a shell completes: recipes, components, and keys of settings. Click asks; nothing is loaded before it does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from ..errors import InvdiffError

if TYPE_CHECKING:
    from pydantic import BaseModel


class _Bash(BashComplete):
    """Click's, but that ``key=value`` is one word, and that no space comes behind ``key=`` and folders.

    Bash takes ``key=value`` for three words, and wants to be told the third alone.
    """

    cut = False

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value)\n            [[ $value == *[=/] ]] && compopt -o nospace"
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        args, begun = super().get_completion_args()
        words: list[str] = []
        for word in (*args, begun):
            self.cut = bool(words) and (word == "=" or (self.cut and words[-1].endswith("=")))
            if self.cut:
                words[-1] += word
            else:
                words.append(word)
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        if self.cut:
            item.value = item.value.partition("=")[2]
        return super().format_completion(item)


add_completion_class(_Bash)


def _items(found: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(text) for text in found if text.startswith(begun)]


def recipe_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Bundled recipes by name, and files and folders that lie here."""
    from ..recipe.bundled import about, bundled

    names = [CompletionItem(name, help=about(path)) for name, path in bundled().items() if name.startswith(begun)]
    return names + _items(_places(begun, (".yaml", ".yml")), begun)


def _places(begun: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Files of a kind, and folders with a slash behind, in the folder that is being written."""
    folder = os.path.dirname(begun)
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield f"{os.path.join(folder, entry.name)}/"
        elif entry.name.endswith(suffixes):
            yield os.path.join(folder, entry.name)


def kinds(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Every component that can be checked, with its summary."""
    from ..components.discovery import registry
    from ..testing.suite import SUITES

    found = {c.kind: c.summary for c in registry().rows() if c.role in SUITES and c.kind.startswith(begun)}
    return [CompletionItem(kind, help=summary) for kind, summary in found.items()]


def methods(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What ``invdiff eval`` can measure beside a recipe: registered methods, the oracle, recipes."""
    from ..components.discovery import registry
    from ..evaluation.contenders import ORACLE

    return _items([*registry().kinds("method"), ORACLE, *_places(begun, (".yaml", ".yml"))], begun)


def kernel_sets(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Registered sets of kernels, and files of measured ones."""
    from ..blur.kernel_files import SUFFIXES
    from ..components.discovery import registry

    return _items([*registry().kinds("kernels"), *_places(begun, tuple(SUFFIXES))], begun)


def changes(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """``key=`` for every key of the recipe that stands before, and its values where there are few."""
    # Click gives up on "--set" without its value before it has named the arguments.
    recipe = context.params.get("recipe") or next(iter(context.args), "")
    try:
        models = dict(_models(str(recipe)))
    except InvdiffError:  # a recipe that is not there, or broken: nothing to complete
        return []
    fields = {prefix + name: field for prefix, model in models.items() for name, field in model.model_fields.items()}
    key, equals, _ = begun.partition("=")
    if equals and key in fields:
        return _items([f"{key}={value}" for value in _values(fields[key].annotation)], begun)
    about = {name: field.description for name, field in fields.items() if name.startswith(begun)}
    return [CompletionItem(f"{name}=", help=text) for name, text in about.items()]


def _models(recipe: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The settings classes of a recipe's blocks by the beginning of their keys, those within them too."""
    from ..assembly import read
    from ..recipe.recipe import InputSettings
    from ..sampler import DrawsSettings, SamplerSettings
    from ..training.settings import TrainSettings

    found = read(recipe)
    for name, part in (("degradation", found.degradation), ("prior", found.prior)):
        yield from _nested(f"{name}.", part.component.cls.Settings)
    for place, part in enumerate(found.guidance):
        yield from _nested(f"guidance.{place}.", part.component.cls.Settings)
    yield from _nested("sampler.", SamplerSettings)
    yield from _nested("draws.", DrawsSettings)
    yield from _nested("input.", InputSettings)
    if found.train is not None:
        yield from _nested("train.", TrainSettings)


def _nested(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    from pydantic import BaseModel

    yield prefix, model
    for name, field in model.model_fields.items():
        inner = [one for one in _alternatives(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
        if len(inner) == 1:  # of several, another key says which is meant
            yield from _nested(f"{prefix}{name}.", inner[0])


def _alternatives(annotation: Any) -> list[Any]:
    """The types that an annotation allows, out of unions and annotations."""
    if hasattr(annotation, "__metadata__"):
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (None, Literal, list, tuple, dict):
        return [annotation]
    return [one for part in get_args(annotation) for one in _alternatives(part)]


def _values(annotation: Any) -> list[str]:
    found: list[str] = []
    for one in _alternatives(annotation):
        if get_origin(one) is Literal:
            found += map(str, get_args(one))
        elif one is bool:
            found += ["true", "false"]
        elif one is type(None):
            found.append("null")
    return found
