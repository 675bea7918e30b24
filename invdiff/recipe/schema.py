"""A JSON Schema of recipes, for editors that complete keys: what is installed decides what it holds."""

from __future__ import annotations

import contextlib
from typing import Any

from pydantic.errors import PydanticInvalidForJsonSchema

from ..components.registry import Component, Registry, Role
from ..sampler import DrawsSettings, SamplerSettings
from ..settings import Settings
from ..training.settings import TrainSettings
from .recipe import InputSettings, InsteadSettings, PaceSettings, Skeleton

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """The schema, with one alternative for each registered kind; kinds that clash are left out.

    It says less than the checks of ``invdiff run``: what one setting means for another is not in it.
    """
    definitions: dict[str, Any] = {}

    def refer(name: str, model: type[Settings], component: Component | None = None) -> dict[str, str]:
        template = f"#/$defs/{name}.{{model}}"
        own = model.model_json_schema(ref_template=template)
        definitions.update({f"{name}.{inner}": value for inner, value in own.pop("$defs", {}).items()})
        if component is not None:
            about = component.summary or f"{component.role} of {component.owner}"
            own["properties"] = {"kind": {"const": component.kind, "description": about}, **own.get("properties", {})}
            own["required"] = ["kind", *own.get("required", [])]
        definitions[name] = own
        return {"$ref": f"#/$defs/{name}"}

    def role(name: Role) -> dict[str, Any]:
        clear = [kind for kind in registry.kinds(name) if not registry.contested(name, kind)]
        kinds: list[Any] = []
        for kind in clear:
            with contextlib.suppress(PydanticInvalidForJsonSchema):  # settings that a schema cannot describe
                component = registry.get(name, kind)
                kinds.append(refer(f"{name}.{kind}", component.cls.Settings, component))
        return {"type": "object", "required": ["kind"], "oneOf": kinds or [False]}

    whole = {**Skeleton.model_json_schema(), "title": "invdiff recipe"}
    guidance: dict[str, Any] = {"type": "array", "items": role("guidance")}
    pace = refer("pace", PaceSettings)
    changed: dict[str, dict[str, Any]] = {"sampler": refer("sampler", SamplerSettings), "guidance": guidance}
    for name, block in changed.items():
        about = definitions["pace"]["properties"][name]["description"]
        definitions["pace"]["properties"][name] = {"description": about, **block}
    blocks: dict[str, dict[str, Any]] = {
        "degradation": role("degradation"),
        "prior": role("prior"),
        "guidance": guidance,
        "sampler": refer("sampler", SamplerSettings),
        "draws": refer("draws", DrawsSettings),
        "input": refer("input", InputSettings),
        "train": {"anyOf": [refer("train", TrainSettings), {"type": "null"}]},
        "instead": {"anyOf": [refer("instead", InsteadSettings), {"type": "null"}]},
        **{name: {"anyOf": [pace, {"type": "null"}]} for name in ("fast", "best")},
    }
    for name, block in blocks.items():
        whole["properties"][name] = {"description": whole["properties"][name]["description"], **block}
    # A recipe that extends another has parts of blocks, which only the whole can be checked with.
    overlay = {
        "type": "object",
        "properties": {
            "extends": {"type": "string", "description": "The recipe beneath: a path relative to this one's."},
            **{key: {"description": value["description"]} for key, value in whole["properties"].items()},
        },
        "required": ["extends"],
        "additionalProperties": False,
    }
    either = {"if": {"required": ["extends"]}, "then": overlay, "else": whole}
    return {"$schema": DIALECT, "title": "invdiff recipe", **either, "$defs": definitions}
