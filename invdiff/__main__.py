"""``python -m invdiff``."""

from .cli import main

main(prog_name="invdiff")
