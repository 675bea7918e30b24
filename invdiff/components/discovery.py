"""Discovery of plugins through entry points, each behind its own guard."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import pluggy

from .. import hookspecs
from ..errors import with_kind
from ..guidance import Known
from ..settings import Settings
from .registry import ROLES, Component, Failure, Registry, Role

_KNOWN = Component(
    "guidance",
    "known",
    Known,
    "the true parameters, where they are known: what a better estimate would be worth",
    "",
    "invdiff",
    f"invdiff {version('invdiff')}",
)
"""What the core has of its own: there whatever plugins are."""


def discover(found: Iterable[EntryPoint] | None = None) -> Registry:
    """Load every announced plugin, or those named in ``INVDIFF_PLUGINS``. Never raises for a bad plugin."""
    if found is None:
        found = entry_points(group=hookspecs.GROUP)
    wanted = {name.strip() for name in os.environ.get("INVDIFF_PLUGINS", "").split(",") if name.strip()}
    registry = Registry()
    registry.add(_KNOWN)
    for entry in sorted(set(found), key=lambda e: (e.name, e.value)):
        if wanted and entry.name not in wanted:
            continue
        owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"
        try:
            components = _load(entry, owner)
        except (Exception, SystemExit) as error:  # whatever a foreign module does, others go on
            registry.failures.append(Failure(entry.name, owner, with_kind(error)))
            continue
        for component in components:
            registry.add(component)
    return registry


def _first_line(cls: type[Any]) -> str:
    """What a class says of itself, as a summary: one place to say it, which a copied summary would outlive."""
    lines = (cls.__doc__ or "").strip().splitlines()
    return lines[0].replace("``", "").strip().rstrip(".") if lines else ""


@cache
def registry() -> Registry:
    """The installed plugins, discovered once a process."""
    return discover()


def _load(entry: EntryPoint, owner: str) -> list[Component]:
    """One plugin's components, all or none. Its own manager checks hook names and arguments."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(entry.load(), entry.name)
    manager.check_pending()
    components: list[Component] = []
    for role, (interface, hook) in ROLES.items():

        def register(
            kind: str,
            cls: type[Any],
            *,
            summary: str = "",
            reference: str = "",
            role: Role = role,
            interface: type[Any] = interface,
        ) -> None:
            if not (isinstance(cls, type) and issubclass(cls, interface)):
                raise TypeError(f"{role} '{kind}' is not a subclass of invdiff.{interface.__name__}")
            if not issubclass(cls.Settings, Settings):
                raise TypeError(f"{role} '{kind}': its Settings must derive from {interface.__name__}'s")
            about = summary or _first_line(cls)
            components.append(Component(role, kind, cls, about, reference, entry.name, owner))

        getattr(manager.hook, hook)(register=register)
    return components
