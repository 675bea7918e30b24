"""Discovery of plugins through entry points, each behind its own guard, and the registry of kinds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import pluggy

from . import hookspecs
from .degradation import Degradation
from .errors import PluginError, one_line, suggest
from .guidance import Guidance
from .kernel_set import KernelSet
from .method import Method
from .prior import PriorNet
from .settings import Settings

Role = Literal["degradation", "prior", "guidance", "method", "kernels"]
INTERFACES: dict[Role, type] = {
    "degradation": Degradation,
    "prior": PriorNet,
    "guidance": Guidance,
    "method": Method,
    "kernels": KernelSet,
}


@dataclass(frozen=True)
class Component:
    """One registered component and who ships it."""

    role: Role
    kind: str
    cls: Any
    summary: str
    reference: str
    plugin: str
    owner: str


@dataclass(frozen=True)
class Failure:
    """A plugin that did not load, and why, in one line."""

    plugin: str
    owner: str
    reason: str


@dataclass
class Registry:
    """Every component by role and kind, and every plugin that failed."""

    components: dict[tuple[Role, str], list[Component]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def add(self, component: Component) -> None:
        self.components.setdefault((component.role, component.kind), []).append(component)

    def kinds(self, role: Role) -> list[str]:
        return sorted(kind for r, kind in self.components if r == role)

    def roles(self, kind: str) -> list[Role]:
        """The roles in which that kind is registered; an error that helps where there is none."""
        found: list[Role] = [role for role in INTERFACES if (role, kind) in self.components]
        if not found:
            known = {k for _, k in self.components}
            raise PluginError(f"no component is called '{kind}'{suggest(kind, known)}{self._broken()}")
        return found

    def get(self, role: Role, kind: str) -> Component:
        """The one component of that kind; an error that helps, otherwise."""
        found = self.components.get((role, kind), [])
        if len(found) == 1:
            return found[0]
        if found:
            owners = " and ".join(f"{c.plugin} ({c.owner})" for c in found)
            raise PluginError(
                f"{role} '{kind}' is registered twice, by {owners}: uninstall one, or limit INVDIFF_PLUGINS"
            )
        raise PluginError(f"no {role} is called '{kind}'{suggest(kind, self.kinds(role))}{self._broken()}")

    def _broken(self) -> str:
        return "".join(f"; plugin {f.plugin} ({f.owner}) FAILED: {f.reason}" for f in self.failures)

    def contested(self, role: Role, kind: str) -> bool:
        """Whether more than one plugin claims that kind."""
        return len(self.components.get((role, kind), [])) > 1

    def rows(self) -> list[Component]:
        """Every component, by role, kind and owner."""
        found = [c for components in self.components.values() for c in components]
        return sorted(found, key=lambda c: (c.role, c.kind, c.owner))

    def listing(self) -> dict[str, Any]:
        """Components and failures as JSON has them; ``reference`` may name a paper."""
        names = ("role", "kind", "plugin", "owner", "summary", "reference")
        return {
            "components": [
                {**{n: getattr(c, n) for n in names}, "conflict": self.contested(c.role, c.kind)} for c in self.rows()
            ],
            "failures": [vars(f) for f in self.failures],
        }


def discover(found: Iterable[EntryPoint] | None = None) -> Registry:
    """Load every announced plugin, or those named in ``INVDIFF_PLUGINS``. Never raises for a bad plugin."""
    if found is None:
        found = entry_points(group=hookspecs.GROUP)
    wanted = {name.strip() for name in os.environ.get("INVDIFF_PLUGINS", "").split(",") if name.strip()}
    registry = Registry()
    for entry in sorted(set(found), key=lambda e: (e.name, e.value)):
        if wanted and entry.name not in wanted:
            continue
        owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"
        try:
            components = _load(entry, owner)
        except (Exception, SystemExit) as error:  # whatever a foreign module does, others go on
            registry.failures.append(Failure(entry.name, owner, f"{type(error).__name__}: {one_line(error)}"))
            continue
        for component in components:
            registry.add(component)
    return registry


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
    roles: tuple[tuple[Role, Any], ...] = (
        ("degradation", manager.hook.register_degradations),
        ("prior", manager.hook.register_priors),
        ("guidance", manager.hook.register_guidances),
        ("method", manager.hook.register_methods),
        ("kernels", manager.hook.register_kernels),
    )
    for role, hook in roles:

        def register(kind: str, cls: type, *, summary: str = "", reference: str = "", role: Role = role) -> None:
            interface = INTERFACES[role]
            if not (isinstance(cls, type) and issubclass(cls, interface)):
                raise TypeError(f"{role} '{kind}' is not a subclass of invdiff.{interface.__name__}")
            if not issubclass(cls.Settings, Settings):  # type: ignore[attr-defined]
                raise TypeError(f"{role} '{kind}': its Settings must derive from {interface.__name__}'s")
            components.append(Component(role, kind, cls, summary, reference, entry.name, owner))

        hook(register=register)
    return components
