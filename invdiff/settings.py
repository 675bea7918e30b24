"""The base of every component's settings, and of every component that is built from settings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Strict


class Settings(BaseModel):
    """Unknown keys are errors, values never change, numbers are finite.

    A string below a setting says what it does; the schema and the docs take it from there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)


class Configured(Generic[S]):
    """Built as ``cls(settings)``, or as ``cls()`` with the defaults of its settings class.

    A subclass names that class for whoever reads recipes, and for the type checker::

        class Haze(Degradation[HazeSettings]):
            Settings = HazeSettings
    """

    Settings: ClassVar[type[Settings]] = Settings
    settings: S

    def __init__(self, settings: S | None = None) -> None:
        self.settings = cast(S, self.Settings()) if settings is None else settings


Int = Annotated[int, Strict()]
"""A whole number: neither ``2.0`` nor ``true``."""

Float = Annotated[float, Strict()]
"""A float or a whole number: neither ``true`` nor a text."""

R = TypeVar("R")


def in_order(value: R, wanted: str = "a range is [low, high]") -> R:
    """A number or a range, as it is; ``ValueError`` for a range upside down: what is ``wanted``, and what was given."""
    if isinstance(value, tuple) and value[0] > value[1]:
        raise ValueError(f"{wanted}, got {list(value)}")
    return value


def odd(count: int, name: str | None) -> int:
    """A setting of that name, as it is; ``ValueError`` for an even one, with nothing in its middle."""
    if count % 2 == 0:
        raise ValueError(f"{name} must be odd, got {count}")
    return count
