"""Built parts, and one picture through them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .components.build import _check_fit, build_degradation, build_weighted_prior
from .components.registry import Registry
from .components.weights import find_weights
from .degradation import Degradation
from .errors import ImageError, InvdiffError, RecipeError, WeightsError
from .guidance import Guidance, Known
from .io import pictures as images
from .io.pictures import Photo, _like_array
from .prior import PriorNet
from .recipe.recipe import Recipe
from .sampler import StepRecord, sample
from .seeds import Stream, content_of, stream
from .tiling import TiledPrior


@dataclass
class Restoration:
    """What :meth:`Pipeline.restore` returns.

    ``image`` is of the kind that was given (PIL image, array or tensor), ``scale`` times its size;
    ``parameters`` are the estimated ``(*shape)`` or, for a batch, ``(B, *shape)``, None for a prior
    that estimates none; ``residual`` is the root mean square of ``y - A(x)`` on [0, 1].
    """

    image: Any
    parameters: Tensor | None
    residual: float | None
    evaluations: int


class Pipeline:
    """Built parts of a recipe: ``restore`` a picture, or ``synthesize`` a measurement from a clean one."""

    def __init__(self, recipe: Recipe, registry: Registry, device: str | torch.device = "auto") -> None:
        self.recipe, self._registry, self._told = recipe, registry, False
        self.device = choose_device(device)
        self.degradation: Degradation = build_degradation(recipe.degradation)
        self.weighted = self.build_prior(registry)
        prior = self.weighted
        if recipe.sampler.tile:
            prior = TiledPrior(prior, recipe.sampler.tile, recipe.sampler.overlap)
        self.prior: PriorNet = prior.to(self.device).eval().requires_grad_(False)
        self.guidance: list[Guidance] = [part.component.cls(part.settings) for part in recipe.guidance]
        _check_fit(self.weighted, self.degradation, recipe.prior)
        if recipe.sampler.feedback and not prior.takes_parameters:
            raise RecipeError(f"{recipe.where('sampler.feedback')}: this prior takes no parameters")
        if recipe.sampler.steps > len(self.prior.schedule):
            raise RecipeError(
                f"{recipe.where('sampler.steps')}: the prior has {len(self.prior.schedule)} steps at most"
            )

    def build_prior(self, registry: Registry) -> PriorNet:
        """The recipe's prior: from its weights, or untrained where it names none."""
        part = self.recipe.prior
        if part.settings.weights is None:
            raise WeightsError(f"{part.where}: names no weights; 'invdiff train' makes them")
        return build_weighted_prior(part, registry)

    def resolved(self) -> dict[str, Any]:
        """The recipe's settings as they are in force: the prior's own, and its weights by content."""
        part = self.recipe.prior
        weights = find_weights(part.settings.weights, self._registry)
        prior = {
            "kind": part.component.kind,
            **self.weighted.settings.model_dump(mode="json"),
            "weights": part.settings.weights,
            "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        }
        return {**self.recipe.resolved(), "prior": prior}

    def oracle(self) -> Pipeline:
        """The same, restoring with the true parameters, which ``restore`` is then to be ``given``.

        They stand in every estimate's place and the prior hears them from the first step on, if it takes
        any. Guidances that only improve an estimate are left out.
        """
        twin = copy.copy(self)
        twin.guidance = [Known(), *(g for g in self.guidance if not g.estimates_parameters)]
        sampler = self.recipe.sampler.model_copy(update={"feedback": self.prior.takes_parameters})
        twin.recipe, twin._told = replace(self.recipe, sampler=sampler), True
        return twin

    def synthesize(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Degrade a clean ``(3, H, W)`` image: measurement ``(3, h, w)`` and parameters, both seeded by its content."""
        generator = stream(self.recipe.seed, Stream.SYNTHESIS, *content_of(clean))
        y, theta = self.degradation.degrade(clean[None], generator)
        return y[0], theta[0]

    def restore(
        self, image: Any, *, callback: Callable[[StepRecord], None] | None = None, given: Tensor | None = None
    ) -> Restoration:
        """Restore a PIL image, an array, or a ``(3, h, w)`` or ``(B, 3, h, w)`` tensor in [0, 1].

        ``given`` are known parameters, for guidances that use them. Images are restored one by one,
        each with noise seeded by the recipe's seed and its own content: the result does not depend on
        batch, order or process.
        """
        if isinstance(image, Tensor):
            if image.ndim == 4:
                singles = [
                    self.restore(one, callback=callback, given=None if given is None else given[i])
                    for i, one in enumerate(image)
                ]
                return _joined(singles)
            if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
                raise ImageError(f"an image tensor is float (3, h, w) or (B, 3, h, w), got {tuple(image.shape)}")
            restored, parts = self._restore(image, callback, given)
            return Restoration(restored.to(image), *parts)
        if isinstance(image, Image.Image):
            photo = images.from_pil(image)
        elif isinstance(image, np.ndarray):
            photo = images.from_array(image)
        elif isinstance(image, Photo):
            photo = image
        else:
            raise ImageError(f"restore takes a PIL image, an array or a tensor, got {type(image).__name__}")
        pixels, parts = self._restore(photo.pixels, callback, given)
        restored_photo = photo.restored(pixels)
        if isinstance(image, Photo):
            return Restoration(restored_photo, *parts)
        if isinstance(image, Image.Image):
            return Restoration(restored_photo.to_pil(), *parts)
        return Restoration(_like_array(restored_photo, image), *parts)

    def _restore(
        self, pixels: Tensor, callback: Callable[[StepRecord], None] | None, given: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor | None, float | None, int]]:
        y = pixels.detach().float().cpu()
        generator = stream(self.recipe.seed, Stream.SAMPLING, *content_of(y))
        measured = y[None].to(self.device)
        lifted = self.degradation.lift(measured).shape
        self.degradation.output_shape((lifted[-2], lifted[-1]))  # refuses a picture that is too small
        known = None if given is None else given[None].float().to(self.device)
        result = sample(
            measured,
            self.degradation,
            self.prior,
            self.guidance,
            self.recipe.sampler,
            [generator],
            callback,
            known,
            known if self._told else None,
        )
        x = result.x0.clamp(0, 1)
        residual = None
        if result.theta is not None:
            with torch.no_grad():
                difference = measured - self.degradation.apply(x, result.theta)
            residual = float(difference.double().square().mean().sqrt().cpu())
        theta = None if result.theta is None else result.theta[0].cpu()
        return self.degradation.frame(x)[0].cpu(), (theta, residual, result.evaluations)


def choose_device(device: str | torch.device) -> torch.device:
    """``auto`` is CUDA, then MPS, then the CPU; a clear error for one that is not there."""
    if isinstance(device, torch.device):
        return device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InvdiffError("--device cuda: no CUDA device here")
    if device == "mps" and not torch.backends.mps.is_available():
        raise InvdiffError("--device mps: no MPS device here")
    return torch.device(device)


def _joined(singles: list[Restoration]) -> Restoration:
    if not singles:
        raise ImageError("an empty batch")
    residuals = [s.residual for s in singles if s.residual is not None]
    parameters = [s.parameters for s in singles if s.parameters is not None]
    return Restoration(
        torch.stack([s.image for s in singles]),
        torch.stack(parameters) if parameters else None,
        sum(residuals) / len(residuals) if residuals else None,
        singles[0].evaluations,
    )
