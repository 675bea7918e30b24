"""``python -m invdiff``."""

from __future__ import annotations

from .cli.main import main

if __name__ == "__main__":  # and not in processes that a cluster starts from here
    main(prog_name="invdiff")
