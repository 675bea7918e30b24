"""From a recipe to built parts: the only room where recipe, registry and pipeline meet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .components.build import _check_fit, build_degradation, build_untrained_prior, build_weighted_prior
from .components.discovery import registry as installed
from .errors import RecipeError
from .metrics.cost import Cost, cost
from .pipeline import Pipeline, choose_device
from .recipe.recipe import load_recipe
from .tiling import TiledPrior
from .training.trainer import Trainer


def load(
    recipe: str | os.PathLike[str], *, overrides: Sequence[str] = (), seed: int | None = None, device: str = "auto"
) -> Pipeline:
    """Build a recipe: ``invdiff.load("recipes/blindsr_x4.yaml").restore(image)``.

    ``overrides`` are ``"sampler.steps=50"`` and the like. Raises :class:`invdiff.InvdiffError`, in
    one line, for a recipe, plugin or weights that the caller must change.
    """
    registry = installed()
    return Pipeline(load_recipe(recipe, registry, [*overrides, *seed_override(seed)]), registry, device)


def seed_override(seed: int | None) -> list[str]:
    return [] if seed is None else [f"seed={seed}"]


def build_trainer(
    recipe: str | os.PathLike[str],
    folder: Path,
    data: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str = "auto",
) -> Trainer:
    """A training run of a recipe with a ``train`` section; ``data`` replaces its folders of photos."""
    found = load_recipe(recipe, installed(), [*overrides, *seed_override(seed)])
    if found.train is None:
        raise RecipeError(f"{found.path}: the recipe has no 'train' section")
    prior, degradation = build_untrained_prior(found.prior, found.seed), build_degradation(found.degradation)
    _check_fit(prior, degradation, found.prior)
    resolved = found.resolved()
    return Trainer(
        prior,
        degradation,
        found.train.model_copy(update={"data": list(data)}) if data else found.train,
        folder,
        kind=found.prior.component.kind,
        seed=found.seed,
        device=choose_device(device),
        note={name: resolved[name] for name in ("name", "seed", "degradation", "prior")},
    )


def recipe_cost(path: Path, size: int, overrides: Sequence[str] = ()) -> Cost:
    """The cost of a recipe's own prior, guidances and sampler; of an untrained prior where it names no weights."""
    registry = installed()
    recipe = load_recipe(path, registry, overrides)
    named = recipe.prior.settings.weights is not None
    prior = build_weighted_prior(recipe.prior, registry) if named else build_untrained_prior(recipe.prior, recipe.seed)
    if recipe.sampler.steps > len(prior.schedule):
        raise RecipeError(f"{recipe.where('sampler.steps')}: the prior has {len(prior.schedule)} steps at most")
    if recipe.sampler.tile:
        prior = TiledPrior(prior, recipe.sampler.tile, recipe.sampler.overlap)
    guidance = [part.component.cls(part.settings) for part in recipe.guidance]
    return cost(prior.eval().requires_grad_(False), guidance, recipe.sampler.steps, size)
