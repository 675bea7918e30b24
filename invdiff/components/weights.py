"""Priors on disk: a weights file holds the tensors, and the kind and settings that the prior is rebuilt from."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save as encode
from torch import Tensor

from ..errors import MissingWeightsError, WeightsError, one_line, reason
from ..io.atomic import write_atomic
from ..io.plain import parse_json
from ..io.tensors import non_finite, read_checkpoint, read_tensors
from ..prior import PriorNet
from .registry import Registry, Role

FORMAT = "invdiff-prior/1"


def save_prior(prior: PriorNet, kind: str, path: Path, *, dtype: torch.dtype = torch.float16, note: Any = None) -> None:
    """Write a prior's tensors and the settings it is rebuilt from, atomically. ``note`` is any JSON.

    ``dtype`` is for what was learned: buffers, such as an operator's bounds, keep their digits. Raises
    :class:`WeightsError` for weights that are not finite, or not in this type.
    """
    learned = {name for name, _ in prior.named_parameters()}
    tensors = {
        name: (t.to(dtype) if name in learned else t).contiguous().cpu() for name, t in prior.state_dict().items()
    }
    refuse_non_finite(path, tensors, f"would hold numbers that are not finite in {str(dtype).removeprefix('torch.')}")
    settings = prior.settings.model_dump(mode="json", exclude={"weights"})
    header = {"format": FORMAT, "kind": kind, "settings": json.dumps(settings), "note": json.dumps(note)}
    write_atomic(path, encode(tensors, header))


def bundled(registry: Registry, role: Role = "prior") -> dict[str, Path]:
    """Weights that the packages of priors, or of others, carry in a folder ``weights``, by name."""
    found: dict[str, Path] = {}
    for (its, _), components in registry.components.items():
        for component in components:
            if its == role:
                package = importlib.import_module(component.cls.__module__.partition(".")[0])
                for folder in getattr(package, "__path__", []):
                    for file in sorted(Path(folder, "weights").glob("*.safetensors")):
                        found.setdefault(file.stem, file)
    return found


def find_weights(name: str, registry: Registry) -> Path:
    """A path that exists, or bundled weights of that name."""
    return find_among(name, bundled(registry))


def find_among(name: str, known: Mapping[str, Path]) -> Path:
    """A path that exists, or the one that is known by that name; :class:`WeightsError` for neither."""
    try:
        path = Path(name).expanduser()
        if path.is_file():
            return path
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such user
        raise WeightsError(f"weights '{name}': {reason(error)}") from None
    if name in known:
        return known[name]
    raise MissingWeightsError(
        f"no weights '{name}': no such file, and bundled are {', '.join(sorted(known)) or 'none'}"
    )


def load_prior(
    weights: str | os.PathLike[str], registry: Registry, expected: Mapping[str, Any] | None = None, kind: str = ""
) -> PriorNet:
    """Rebuild a prior from a file or a bundled name: float32, on the CPU, in evaluation mode, frozen.

    ``expected`` are settings that the file's own must agree with, ``kind`` the kind it must be of.
    """
    path = find_weights(os.fspath(weights), registry)
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: safetensors, but not an invdiff prior (no '{FORMAT}' in its header); 'invdiff train' writes them"
        )
    own = header.get("kind", "")
    if kind and own != kind:
        raise WeightsError(
            f"{path}: weights of a '{own}', the recipe's prior is a '{kind}': name others, or change prior.kind"
        )
    component = registry.get("prior", own)
    try:
        settings = component.cls.Settings.model_validate(parse_json(header["settings"]))
    except (ValidationError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: its settings are not understood ({one_line(error)[:200]})") from None
    for name, value in (expected or {}).items():
        trained = getattr(settings, name)
        if trained != value:
            raise WeightsError(
                f"{path}: was trained with {name} = {trained}, the recipe asks for {value}: "
                "leave it out, or name other weights"
            )
    refuse_non_finite(path, tensors)
    prior: PriorNet = component.build(settings)
    try:
        prior.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except RuntimeError as error:
        raise WeightsError(f"{path}: tensors do not fit its settings ({one_line(error)[:200]})") from None
    return prior.eval().requires_grad_(False)


def refuse_non_finite(
    path: Path, tensors: Mapping[str, Tensor], what: str = "holds numbers that are not finite"
) -> None:
    """Weights of NaN or infinity would make a picture of nothing, and nobody would be told."""
    if (name := non_finite(tensors)) is not None:
        raise WeightsError(f"{path}: '{name}' {what}")


def take_over(prior: PriorNet, weights: str | os.PathLike[str], registry: Registry) -> list[str]:
    """Copy into a prior what fits of other weights of its kind; the names that keep their fresh values.

    Raises :class:`WeightsError` for weights of another kind of prior, and where nothing fits.
    """
    path = find_weights(os.fspath(weights), registry)
    tensors, header = read_tensors(path)
    refuse_non_finite(path, tensors)
    kinds = [c.kind for c in registry.rows() if c.role == "prior" and isinstance(prior, c.cls)]
    if header.get("kind") not in kinds:
        raise WeightsError(f"{path}: weights of a '{header.get('kind', 'unknown')}', and this prior is a {kinds[0]}")
    fresh = prior.state_dict()
    fitting = {name: t for name, t in tensors.items() if name in fresh and fresh[name].shape == t.shape}
    if not fitting:
        raise WeightsError(f"{path}: not one of its tensors fits this prior: leave train.start out")
    prior.load_state_dict({**fresh, **{name: t.to(fresh[name].dtype) for name, t in fitting.items()}})
    return [name for name in fresh if name not in fitting]


def import_checkpoint(source: Path, output: Path, registry: Registry, overrides: Mapping[str, Any]) -> PriorNet:
    """Turn a PyTorch checkpoint of a layout that some prior knows into a weights file of ours (float32).

    A pickle that holds anything but tensors is refused.
    """
    tensors = read_checkpoint(source)
    for kind in registry.kinds("prior"):
        try:
            prior = registry.get("prior", kind).cls.from_foreign(tensors, overrides)
        except WeightsError as error:
            raise WeightsError(f"{source}: {error}") from None
        except ValidationError as error:
            raise WeightsError(f"{source}: {one_line(error)[:200]}") from None
        if prior is not None:
            save_prior(prior, kind, output, dtype=torch.float32, note={"imported_from": source.name})
            return prior
    some = ", ".join(list(tensors)[:3])
    raise WeightsError(f"{source}: a layout that no prior knows (it begins with {some})")
