"""The command line, a file a command or two."""

from . import app, compare, doctor, evaluate, look, make, run, train  # noqa: F401 - they announce their commands
from .main import main

__all__ = ["main"]
