"""The base of every component's settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Strict


class Settings(BaseModel):
    """Unknown keys are errors, values never change, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Int = Annotated[int, Strict()]
"""A whole number: neither ``2.0`` nor ``true``."""

Float = float
"""A float. PyYAML reads ``1e-3`` as text (YAML 1.1 wants ``1.0e-3``); pydantic takes it for the number it is."""
