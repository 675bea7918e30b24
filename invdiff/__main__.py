"""``python -m invdiff``."""

from __future__ import annotations

from .cli.main import main

main(prog_name="invdiff")
