"""The registry of kinds: which components there are, who ships them, and which plugins failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..degradation import Degradation
from ..errors import InvdiffError, PluginError, suggest, with_kind
from ..guidance import Guidance
from ..kernel_set import KernelSet
from ..method import Method
from ..prior import PriorNet

Role = Literal["degradation", "prior", "guidance", "method", "kernels"]
ROLES: dict[Role, tuple[type[Any], str]] = {
    "degradation": (Degradation, "register_degradations"),
    "prior": (PriorNet, "register_priors"),
    "guidance": (Guidance, "register_guidances"),
    "method": (Method, "register_methods"),
    "kernels": (KernelSet, "register_kernels"),
}
"""Every role: the interface that its components derive from, and the hook that announces them."""


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

    @property
    def weighted(self) -> bool:
        """Whether a prior of this kind has weights: its settings then name them."""
        return "weights" in self.cls.Settings.model_fields

    def build(self, settings: Any) -> Any:
        """The component, built. The one place where a constructor runs: a foreign one may raise anything."""
        try:
            return self.cls(settings)
        except InvdiffError:
            raise
        except Exception as error:
            what = f"{self.role} '{self.kind}' ({self.owner})"
            raise PluginError(f"{what} cannot be built: {with_kind(error)}") from error


@dataclass(frozen=True)
class Part:
    """One chosen component with its validated settings, and where they were chosen, for messages."""

    component: Component
    settings: Any
    where: str

    @property
    def weights(self) -> str | None:
        """The weights that a prior's settings name; None for a kind that has none, too."""
        named: str | None = getattr(self.settings, "weights", None)
        return named


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
        found: list[Role] = [role for role in ROLES if (role, kind) in self.components]
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
