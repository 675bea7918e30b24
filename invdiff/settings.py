"""The base of every component's settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict


class Settings(BaseModel):
    """Unknown keys are errors, values never change, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _number(value: object) -> object:
    """PyYAML reads ``1e-3`` as text (YAML 1.1 wants ``1.0e-3``): take it for the number it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Int = Annotated[int, Strict()]
"""A whole number: neither ``2.0`` nor ``true``."""

Float = Annotated[float, BeforeValidator(_number)]
"""A float that may be written as ``1e-3``."""
