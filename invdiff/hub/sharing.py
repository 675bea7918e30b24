"""A recipe with its weights as a folder that stands alone, to be put on a hub and taken from it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..assembly import assemble, draws_of, load, read
from ..components.discovery import registry
from ..components.hub import CARD, RECIPE, WEIGHTS, fetched, is_name, sent
from ..components.weights import find_weights
from ..errors import InvdiffError, RecipeError
from ..io.atomic import make_folder, write_atomic
from ..pipeline import Pipeline
from ..recipe.recipe import Pace, Recipe
from ..recipe.source import Change


def save_pretrained(
    recipe: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    overrides: Sequence[str | Change] = (),
    card: str = "",
    license: str = "other",
) -> Path:
    """Write a recipe (a path or a bundled name) with its weights and a model card into a folder that stands alone.

    ``card`` is Markdown for the card: what the prior was trained on, and where it fails; without it, the text beside
    the weights, where there is one. Files that a recipe names besides, such as measured kernels or the recipe that some
    photos are restored with ``instead``, are not taken along.
    """
    found, place = read(recipe, overrides), make_folder(Path(folder))
    weights = None if found.prior.weights is None else find_weights(found.prior.weights, registry())
    if weights is not None:
        write_atomic(place / WEIGHTS, weights.read_bytes())
        beside = weights.with_suffix(".md")
        card = card or (beside.read_text(encoding="utf-8") if beside.is_file() else "")
    write_atomic(place / RECIPE, _text(found))
    write_atomic(place / CARD, _card(found, card, license))
    return place


def push_to_hub(
    recipe: str | os.PathLike[str],
    name: str,
    *,
    overrides: Sequence[str | Change] = (),
    card: str = "",
    license: str = "other",
    private: bool = False,
) -> str:
    """Put a recipe with its weights and a model card on the hub as ``user/name``; where it is then.

    The hub's own client says who you are (``hf auth login``). See :func:`save_pretrained` for the card.
    """
    if not is_name(name):
        raise InvdiffError(f"{name}: a name of the hub is written user/name")
    with tempfile.TemporaryDirectory() as folder:
        return sent(
            save_pretrained(recipe, folder, overrides=overrides, card=card, license=license), name, private=private
        )


def from_pretrained(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    overrides: Sequence[str | Change] = (),
    seed: int | None = None,
    device: str = "auto",
    pace: Pace | None = None,
) -> Pipeline:
    """The pipeline of a folder that :func:`save_pretrained` wrote, or of ``user/name`` on the hub.

    ``revision`` is a branch, a tag or a commit: with a commit, what is fetched can never change. The other arguments
    are those of :func:`invdiff.load`. Nothing that is fetched is run: a recipe names kinds that are installed here,
    and weights are tensors.
    """
    folder = fetched(name, revision)
    recipe, weights = folder / RECIPE, folder / WEIGHTS
    if not recipe.is_file():
        raise RecipeError(f"{name}: holds no {RECIPE}; invdiff.load_prior reads weights without one")
    if not weights.is_file():
        return load(recipe, overrides=overrides, seed=seed, device=device, pace=pace)
    found = read(recipe, [f"prior.weights={json.dumps(str(weights))}", *overrides], seed, pace)
    del found.source.overridden["prior", "weights"]  # they are the recipe's own: nobody changed anything
    return assemble(found, device)


def _text(recipe: Recipe) -> str:
    """The recipe with every setting in it, so that it extends nothing and no default can change it."""
    data = {name: value for name, value in recipe.resolved().items() if name not in ("train", "instead")}
    data["draws"] = draws_of(recipe).model_dump(mode="json")
    if recipe.prior.weights is not None:  # which bring the prior's settings with them
        data["prior"] = {"kind": recipe.prior.component.kind, "weights": WEIGHTS}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _card(recipe: Recipe, text: str, license: str) -> str:
    tags = ["image-restoration", "blind-inverse-problems", recipe.degradation.component.kind]
    head = {"library_name": "invdiff", "pipeline_tag": "image-to-image", "license": license, "tags": tags}
    use = '```python\nimport invdiff\n\npipe = invdiff.from_pretrained("user/name")\npipe.restore(image).image\n```\n'
    about = text or f"# {recipe.name}\n\nA recipe of invdiff: {recipe.degradation.component.summary}.\n"
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{about.rstrip()}\n\n## Use\n\n{use}"
