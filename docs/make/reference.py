"""Write docs/reference.md from the code: commands, recipe keys, components and their settings, hooks.

    python docs/make/reference.py

``tests/house`` holds the page to what this makes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from invdiff import hookspecs
from invdiff.cli import main
from invdiff.components.discovery import registry
from invdiff.components.registry import ROLES
from invdiff.metrics.catalogue import FID, METRICS, RESIDUAL
from invdiff.metrics.glossary import WORDS as DICTIONARY
from invdiff.recipe.recipe import InputSettings, InsteadSettings, Skeleton
from invdiff.sampler import DrawsSettings, SamplerSettings
from invdiff.training.settings import TrainSettings

PAGE = Path(__file__).resolve().parents[1] / "reference.md"
GLOSSARY = PAGE.with_name("glossary.md")
OURS = (
    "invdiff",
    *(
        "blindsr",
        "motion",
        "mcformer",
        "kernel_guidance",
        "baselines",
        "rivals",
        "tv",
        "unet",
        "diffusers",
        "srmd",
        "adm",
    ),
)
NESTED_ELSEWHERE = {"degradation", "prior", "guidance", "sampler", "draws", "input", "train", "instead"}


def page() -> str:
    """The whole page."""
    parts = [
        "# Reference\n\nMade from the code by `docs/make/reference.py`, and held to it by a test. How things go\n"
        "together is told in [recipes](recipes.md) and [command line](cli.md).\n",
        "## Commands\n",
        *commands(main, "invdiff"),
        "## Recipes\n",
        settings(Skeleton, leave_out=()),
        "### `sampler`\n\n" + settings(SamplerSettings),
        "### `draws`\n\n" + settings(DrawsSettings),
        "### `input`\n\n" + settings(InputSettings),
        "### `train`\n\n" + settings(TrainSettings),
        "### `instead`\n\n" + settings(InsteadSettings),
        "## Components\n",
    ]
    found = registry()
    for role in ROLES:
        for kind in found.kinds(role):
            for component in found.components[role, kind]:
                if component.plugin in OURS:
                    parts.append(component_text(component))
    parts.append("## Metrics\n\n" + metrics())
    parts.append("## Hooks\n\n" + hooks())
    return "\n".join(parts)


def commands(group: click.Group, name: str) -> Iterator[str]:
    for sub, command in sorted(group.commands.items()):
        full = f"{name} {sub}"
        if isinstance(command, click.Group) and not command.invoke_without_command:
            yield from commands(command, full)
            continue
        arguments = " ".join(argument(p) for p in command.params if isinstance(p, click.Argument))
        call = f"{full} {arguments}".strip()
        yield f"### `{call}`\n\n{sentence(command.help)}\n"
        rows = [option(p) for p in command.params if isinstance(p, click.Option)]
        if rows:
            yield "| option | what |\n|---|---|\n" + "\n".join(rows) + "\n"
        if isinstance(command, click.Group):
            yield from commands(command, full)


def argument(parameter: click.Argument) -> str:
    name = (parameter.name or "").upper()
    many = "..." if parameter.nargs == -1 else ""
    return f"{name}{many}" if parameter.required else f"[{name}{many}]"


def option(parameter: click.Option) -> str:
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.type.name.upper()}"
    if isinstance(parameter.type, click.Choice):
        value = " " + "\\|".join(map(str, parameter.type.choices))
    default = f" [{parameter.default}]" if parameter.show_default else ""
    return f"| `{', '.join(parameter.opts)}{value}` | {cell(parameter.help or '')}{default} |"


def component_text(component: Any) -> str:
    about = f"{component.summary[:1].upper()}{component.summary[1:]}."
    cited = f" {component.reference[:1].upper()}{component.reference[1:]}." if component.reference else ""
    return f"### {component.role} `{component.kind}`\n\n{about}{cited}\n\n{settings(component.cls.Settings)}"


def settings(model: type[BaseModel], prefix: str = "", leave_out: tuple[str, ...] = ()) -> str:
    rows = list(setting_rows(model, prefix, leave_out))
    return (
        "| key | values | default | what |\n|---|---|---|---|\n" + "\n".join(rows) + "\n" if rows else "No settings.\n"
    )


def setting_rows(model: type[BaseModel], prefix: str, leave_out: tuple[str, ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in leave_out:
            continue
        inner = [m for m in models_in(field.annotation) if m is not model]
        default = "required" if field.is_required() else shown_default(field)
        yield f"| `{prefix}{name}` | {cell(values(field, inner))} | {cell(default)} | {cell(field.description or '')} |"
        if name in NESTED_ELSEWHERE and model is Skeleton:
            continue
        for one in inner:
            label = next((f"{k}={get_args(f.annotation)[0]}" for k, f in one.model_fields.items() if k == "family"), "")
            yield from setting_rows(one, f"{prefix}{name}{f' ({label})' if label else ''}.", ("family",))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for one in get_args(annotation):
        found += [m for m in models_in(one) if m not in found]
    return found


def shown_default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def values(field: FieldInfo, inner: list[type[BaseModel]]) -> str:
    bounds = [text for m in field.metadata for text in bounds_of(m)]
    return ", ".join([kind_of(field.annotation), *bounds])


def bounds_of(metadata: Any) -> Iterator[str]:
    for name, sign in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        if getattr(metadata, name, None) is not None:
            yield f"{sign} {getattr(metadata, name):g}"


def kind_of(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a mapping"
    if annotation in WORDS:
        return WORDS[annotation]
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is not None and str(origin).endswith("Literal"):
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (list, tuple):
        kinds = list(dict.fromkeys(kind_of(one) for one in inside if one is not Ellipsis))
        return f"a list of {' or '.join(MANY.get(kind, kind) for kind in kinds)}"
    if origin is dict:
        return "a mapping"
    if hasattr(annotation, "__metadata__"):
        return ", ".join([kind_of(inside[0]), *(t for m in annotation.__metadata__ for t in bounds_of(m))])
    if inside:
        return " or ".join(dict.fromkeys(kind_of(one) for one in inside))
    return str(annotation)


MANY = {"a whole number": "whole numbers", "a number": "numbers", "a mapping": "mappings", "text": "texts"}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Any: "anything"}


def metrics() -> str:
    rows = [
        f"| `{m.name}` | {m.title} | {m.better} | {cell(m.convention.format(border='scale'))} |"
        for m in (*METRICS.values(), FID)
    ]
    return "| name | title | better | convention |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def hooks() -> str:
    rows = []
    for name, function in vars(hookspecs).items():
        if name.startswith("register_"):
            rows.append(f"| `{name}(register)` | {sentence(inspect.getdoc(function))} |")
    return "| hook | what |\n|---|---|\n" + "\n".join(rows) + "\n"


def sentence(text: str | None) -> str:
    """A docstring as Markdown, on one line."""
    return cell(" ".join((text or "").split()))


def cell(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").replace("|", "\\|").replace("\\\\|", "\\|").split())


def glossary(text: str) -> str:
    """The glossary's page with the words and the metrics of the code."""
    more = {word: f"; see [{word.page.partition('.')[0]}]({word.page})" for word in DICTIONARY if word.page}
    words = [f"| {cell(w.title)} | {cell(w.meaning)}{more.get(w, '')} |" for w in DICTIONARY]
    rows = [
        f"| {cell(m.title)} | {m.better} | {cell(m.meaning)} | {cell(m.convention.format(border='`scale`'))} |"
        for m in (*METRICS.values(), FID, RESIDUAL)
    ]
    text = between("words", "| word | what it says |\n|---|---|\n", words, text)
    head = "| word | better | what it says | how it is computed |\n|---|---|---|---|\n"
    return between("metrics", head, rows, text)


def between(mark: str, head: str, rows: list[str], text: str) -> str:
    """``text`` with a table between a mark and the next end."""
    before, _, rest = text.partition(f"<!-- {mark} -->\n")
    return f"{before}<!-- {mark} -->\n{head}{chr(10).join(rows)}\n{rest[rest.index('<!-- end -->') :]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    GLOSSARY.write_text(glossary(GLOSSARY.read_text(encoding="utf-8")), encoding="utf-8")
