"""The recipes that travel with the package, and are called by name."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import RecipeError, reason, suggest


def folder() -> Path:
    """Where they lie: beside this file in an installed package, in ``recipes/`` of a checkout."""
    packaged = Path(__file__).parent / "bundled"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def bundled() -> dict[str, Path]:
    """The bundled recipes by name."""
    return {path.stem: path for path in sorted(folder().glob("*.yaml"))}


def about(path: Path) -> str:
    """What a recipe says of itself: its first line, a comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def find_recipe(recipe: str | os.PathLike[str]) -> Path:
    """A file; or the bundled recipe of that name; or whatever else lies there, which reading it will tell."""
    path = Path(recipe)
    try:
        if path.is_file():
            return path
        something = path.exists()
    except (OSError, ValueError) as error:  # a name too long
        raise RecipeError(f"{path}: no such recipe ({reason(error)})") from None
    known = bundled()
    if os.fspath(recipe) in known:
        return known[os.fspath(recipe)]
    if something:  # a folder, say: reading it tells why it is no recipe
        return path
    if path.suffix or path.name != os.fspath(recipe):  # it was meant as a path
        raise RecipeError(f"{path}: no such recipe; 'invdiff recipes' lists those that come along")
    raise RecipeError(f"{path}: no such recipe{suggest(path.name, known)}")
