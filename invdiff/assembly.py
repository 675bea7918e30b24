"""From a recipe to built parts: the only room where recipe, registry and pipeline meet."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .components.build import build, build_prior, build_untrained_prior
from .components.discovery import registry
from .components.hub import weights_of
from .components.weights import find_weights, take_over
from .components.weights import load_prior as read_prior
from .degradation import Degradation
from .device import choose_device
from .errors import InvdiffError, MissingWeightsError, RecipeError, WeightsError
from .fit import MisfitError, check_fit, check_guidance, check_sampler
from .guidance import Guidance
from .metrics.cost import Cost, cost
from .metrics.limits import Limits
from .metrics.lpips import LPIPS, SMALLEST
from .pipeline import Instead, Pipeline, as_asked
from .prior import PriorNet
from .recipe.bundled import find_recipe
from .recipe.recipe import Pace, Recipe, load_recipe
from .recipe.source import Change
from .sampler import DrawsSettings
from .training.teacher import Teacher
from .training.trainer import WEIGHTS, Trainer
from .training.walk import Loop


def load(
    recipe: str | os.PathLike[str],
    *,
    overrides: Sequence[str | Change] = (),
    seed: int | None = None,
    device: str = "auto",
    pace: Pace | None = None,
) -> Pipeline:
    """Build a recipe: ``invdiff.load("blindsr_x4").restore(image)``.

    ``recipe`` is a path, or the name of a bundled recipe (``invdiff recipes`` lists them).
    ``overrides`` are ``"sampler.steps=50"`` and the like; ``pace`` is ``"fast"`` or ``"best"``, as ``run --fast`` and
    ``--best``, of recipes that say what these are. Raises :class:`invdiff.InvdiffError`, in
    one line, for a recipe, plugin or weights that the caller must change.
    """
    return assemble(read(recipe, overrides, seed, pace), device)


def read(
    recipe: str | os.PathLike[str],
    overrides: Sequence[str | Change] = (),
    seed: int | None = None,
    pace: Pace | None = None,
) -> Recipe:
    """A recipe, a path or a bundled one's name, with changes to it, validated against what is installed."""
    more = [] if seed is None else [Change(f"seed={seed}")]
    return load_recipe(find_recipe(recipe), registry(), [*overrides, *more], pace)


@torch.inference_mode(False)  # the loop takes gradients through the weights, wherever it is called
def assemble(recipe: Recipe, device: str = "auto", *, choose: bool = True) -> Pipeline:
    """The pipeline of a recipe whose prior names its weights, or needs none.

    Its ``identity`` holds every setting that is in force. With ``choose`` the recipe that it names ``instead`` stands
    beside it, for photos that ask for that one.
    """
    part = recipe.prior
    if part.component.weighted and part.weights is None:
        folder = Path("runs", recipe.name)
        then = f"then --set prior.weights={folder / WEIGHTS}"
        raise WeightsError(f"{part.where}: names no weights; {_training_of(recipe, folder)}, {then}")
    degradation = build(recipe.degradation)
    prior = _prior_of(recipe)
    guidance = [build(guide) for guide in recipe.guidance]
    resolved = recipe.resolved()
    with _placed(recipe):
        return Pipeline(
            degradation,
            prior,
            guidance,
            recipe.sampler,
            seed=recipe.seed,
            device=device,
            identity={
                **resolved,
                "degradation": _with_content(resolved["degradation"], degradation),
                "prior": _identity_of(recipe, prior),
                "guidance": [_with_weights(*each) for each in zip(resolved["guidance"], guidance, strict=True)],
            },
            instead=_instead_of(recipe, device) if choose else None,
            draws=draws_of(recipe),
        )


def draws_of(recipe: Recipe) -> DrawsSettings:
    """How the recipe draws. What was measured of its draws holds for no others: changes that make others undo it."""
    changed = set(recipe.source.overridden)
    if recipe.pace is None and not any(key[0] in ("prior", "guidance", "sampler") for key in changed):
        return recipe.draws
    update: dict[str, float | None] = {"floor": 0.0, "factor": 1.0}
    for name, said in (("steps", {"steps", "sigmas"}), ("temperature", {"temperature"})):
        if ("draws", name) not in changed and changed & {("sampler",), *(("sampler", key) for key in said)}:
            update[name] = None  # what is said of the sampler has the last word
    return recipe.draws.model_copy(update=update)


def _instead_of(recipe: Recipe, device: str) -> Instead | None:
    """The recipe that some photos are restored with instead, read and checked; its prior waits until a photo asks.

    Changes to this recipe change that one too, and it is read with the same pace if it has such. One of the prior or of
    a guidance speaks of this recipe's own: then every photo is restored with it.
    """
    named, changes = recipe.instead, recipe.source.overridden
    if named is None or any(key[0] in ("prior", "guidance") for key in changes):
        return None
    place = recipe.where("instead.recipe")
    path = recipe.path.parent / named.recipe
    its = [change for key, change in changes.items() if key[0] not in ("name", "instead")]
    try:
        other = read(path, its)
        if recipe.pace is not None and getattr(other, recipe.pace) is not None:
            other = read(path, its, pace=recipe.pace)
    except InvdiffError as error:
        raise RecipeError(f"{place}: {error}") from None
    if other.instead is not None:
        raise RecipeError(f"{place}: {path} names another one in its turn; name that")
    ours, theirs = build(recipe.degradation), build(other.degradation)
    if (theirs.scale, theirs.parameters) != (ours.scale, ours.parameters):
        raise RecipeError(f"{place}: {path} has an operator of another scale, or with other parameters")
    limits = Limits(named.noise, named.quality, named.grain)
    return Instead(limits, functools.partial(assemble, other, device, choose=False))


def _prior_of(recipe: Recipe) -> PriorNet:
    """The recipe's prior. Where its weights are not there, the error says which training makes them."""
    try:
        return build_prior(recipe.prior, registry())
    except MissingWeightsError as error:
        weights = Path(str(recipe.prior.weights))
        if weights.name != WEIGHTS:
            raise
        raise MissingWeightsError(f"{error}; {_training_of(recipe, weights.parent)}") from None


def _training_of(recipe: Recipe, folder: Path) -> str:
    """The command that trains into a folder, with the recipe that is meant for it: the recipe itself, or one in
    ``train/`` beside it that is called as the folder is."""
    beside = recipe.path.parent / "train" / f"{folder.name}.yaml"
    found = recipe.path if recipe.train is not None else beside if beside.is_file() else "RECIPE"
    return f"'invdiff train {found} --data PHOTOS -o {folder}' makes them"


def _identity_of(recipe: Recipe, prior: PriorNet) -> dict[str, Any]:
    """The prior's own settings, and its weights by content."""
    identity = {"kind": recipe.prior.component.kind, **prior.settings.model_dump(mode="json")}
    weights = recipe.prior.weights
    if weights is None:
        return identity
    content = hashlib.sha256(find_weights(weights, registry()).read_bytes()).hexdigest()
    return {**identity, "weights": weights, "weights_sha256": content}


def _with_content(identity: dict[str, Any], degradation: Degradation) -> dict[str, Any]:
    """An operator's settings, and what files that they name hold, if any."""
    return identity if degradation.content is None else {**identity, "content": degradation.content}


def _with_weights(identity: dict[str, Any], guide: Guidance[Any]) -> dict[str, Any]:
    """A guidance's settings, and its weights by content, if it has any."""
    return identity if guide.weights_sha256 is None else {**identity, "weights_sha256": guide.weights_sha256}


@contextmanager
def _placed(recipe: Recipe) -> Iterator[None]:
    """Says of parts that do not fit where in the recipe they were asked for."""
    try:
        yield
    except MisfitError as error:
        raise RecipeError(f"{recipe.where(error.key)}: {error.reason}") from None


def build_trainer(
    recipe: str | os.PathLike[str],
    folder: Path,
    data: Sequence[str] = (),
    overrides: Sequence[str | Change] = (),
    seed: int | None = None,
    device: str = "auto",
    validate: Path | None = None,
    board: Path | None = None,
    lpips: Path | None = None,
) -> Trainer:
    """A training run of a recipe with a ``train`` section; ``data`` replaces its folders of photos.

    ``validate`` is a folder of pictures to measure on while it learns, ``board`` one for TensorBoard, ``lpips`` one
    with that distance's weights, for a loss that asks for it.
    """
    found = read(recipe, overrides, seed)
    if found.train is None:
        raise RecipeError(f"{found.path}: the recipe has no 'train' section; 'invdiff recipes' lists those that have")
    if not found.prior.component.weighted:
        raise RecipeError(f"{found.prior.where}: '{found.prior.component.kind}' has no weights: nothing to train")
    prior, degradation = build_untrained_prior(found.prior, found.seed), build(found.degradation)
    if degradation.on_light is not degradation:  # what such a prior is shown in the loop is light
        raise RecipeError(f"{found.where('degradation.light')}: linear is for restoring; a prior is trained on encoded")
    with _placed(found):
        check_fit(prior, degradation)
    left: list[str] = []
    if found.train.start is not None:
        try:
            left = take_over(prior, found.train.start, registry())
        except WeightsError as error:
            raise WeightsError(f"{found.where('train.start')}: {error}") from None
    resolved = found.resolved()
    trainer = Trainer(
        prior,
        degradation,
        found.train.model_copy(update={"data": list(data)}) if data else found.train,
        folder,
        kind=found.prior.component.kind,
        seed=found.seed,
        device=choose_device(device),
        note={name: resolved[name] for name in ("name", "seed", "degradation", "prior")},
        validate=validate,
        board=board,
        loop=_loop_of(found, prior, degradation) if found.train.walked else None,
        teacher=_teacher_of(found, degradation),
        lpips=_lpips_of(found, lpips),
    )
    if left:
        some = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
        trainer.notes.append(f"start: {len(left)} tensors do not fit and begin anew: {some}")
    return trainer


def _loop_of(recipe: Recipe, prior: PriorNet, degradation: Degradation) -> Loop:
    """The loop that a training walks through, checked as that of a pipeline is."""
    guidance = [build(guide) for guide in recipe.guidance]
    if recipe.sampler.feedback:
        raise RecipeError(f"{recipe.where('sampler.feedback')}: a loop that is walked in training has none")
    if recipe.sampler.orientations > 1:
        raise RecipeError(f"{recipe.where('sampler.orientations')}: a loop that is walked in training has one")
    with _placed(recipe):
        check_sampler(prior, recipe.sampler)
        check_guidance(guidance, degradation)
    return Loop(guidance, recipe.sampler)


def _teacher_of(recipe: Recipe, degradation: Degradation) -> Teacher | None:
    """The prior that a training learns from, checked as the pupil is."""
    if recipe.train is None or recipe.train.teacher is None or recipe.teacher is None:
        return None
    place = recipe.where("train.teacher.prior")
    if recipe.teacher.component.weighted and recipe.teacher.weights is None:
        raise WeightsError(f"{place}: names no weights, and a prior without any has nothing to teach")
    prior = build_prior(recipe.teacher, registry())
    try:
        check_fit(prior, degradation)
    except MisfitError as error:
        raise RecipeError(f"{place}: {error.reason}") from None
    return Teacher(prior, recipe.train.teacher.share)


def _lpips_of(recipe: Recipe, folder: Path | None) -> LPIPS | None:
    """The network that the perceptual loss measures by; None where no loss asks for one."""
    if recipe.train is None or not recipe.train.losses.perceptual:
        if folder is not None:
            raise RecipeError(f"--lpips: {recipe.path} has no loss that asks for it (train.losses.perceptual)")
        return None
    if folder is None:
        raise RecipeError(f"{recipe.where('train.losses.perceptual')}: needs weights: --lpips FOLDER")
    if recipe.train.crop < SMALLEST:
        raise RecipeError(f"{recipe.where('train.crop')}: LPIPS needs {SMALLEST} pixels at least")
    return LPIPS(folder)


def recipe_cost(recipe: str | os.PathLike[str], size: int, overrides: Sequence[str | Change] = ()) -> Cost:
    """The cost of a recipe's own prior, guidances and sampler; of an untrained prior where it names no weights."""
    found = read(recipe, overrides)
    prior = _prior_of(found)
    with _placed(found):
        check_sampler(prior, found.sampler)
    guidance = [build(guide) for guide in found.guidance]
    asked = as_asked(prior, found.sampler, build(found.degradation))
    return cost(asked, guidance, found.sampler.steps_in_all, size, found.sampler.orientations)


@torch.inference_mode(False)
def load_prior(weights: str | os.PathLike[str]) -> PriorNet:
    """A prior from a weights file, a bundled name, or ``user/name`` of a hub: on the CPU, evaluating, frozen."""
    return read_prior(weights_of(weights) or weights, registry())
