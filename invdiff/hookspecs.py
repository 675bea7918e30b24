"""The plugin hooks. A plugin is a module, announced in the entry-point group ``invdiff``, with some of these.

Each hook is handed ``register`` and calls it once a component::

    register(kind, cls, summary="one line", reference="paper")

``kind`` is the name that recipes use; ``cls`` derives from the interface that the hook names and has
its settings class as ``cls.Settings``. Without a ``summary``, the first line of its docstring is one.
No hook chooses an order of computation: that is the recipe's.
"""

from __future__ import annotations

from typing import Protocol

import pluggy

GROUP = "invdiff"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class Register(Protocol):
    """Announce one component under a kind that no other plugin has taken."""

    def __call__(self, kind: str, cls: type, *, summary: str = "", reference: str = "") -> None: ...


@hookspec
def register_degradations(register: Register) -> None:
    """Announce subclasses of :class:`invdiff.Degradation`."""


@hookspec
def register_priors(register: Register) -> None:
    """Announce subclasses of :class:`invdiff.PriorNet`."""


@hookspec
def register_guidances(register: Register) -> None:
    """Announce subclasses of :class:`invdiff.Guidance`."""


@hookspec
def register_methods(register: Register) -> None:
    """Announce subclasses of :class:`invdiff.Method`: what ``invdiff eval`` measures beside a recipe."""


@hookspec
def register_kernels(register: Register) -> None:
    """Announce subclasses of :class:`invdiff.KernelSet`: what ``invdiff eval`` degrades pictures with."""
