"""What a command line says of an evaluation, to an evaluation; every mistake in it is an error here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..blur.kernel_files import SUFFIXES as KERNEL_SUFFIXES
from ..components.discovery import registry as installed
from ..degradation import Degradation, KernelSpace
from ..errors import InvdiffError
from ..io.decoding import list_pictures
from ..kernel_set import KernelSet
from ..metrics.inception import find_inception
from ..metrics.lpips import find_networks
from ..metrics.niqe import find_niqe
from .contenders import build_kind, gather, label_and_changes, label_of
from .evaluation import OWN, Evaluation, EvaluationOptions
from .kernels import FileKernels
from .plan import Dataset


def prepare(
    recipe: Path,
    data: Sequence[Path],
    folder: Path,
    *,
    kernels: str | None = None,
    limit: int | None = None,
    methods: Sequence[str] = (),
    variants: Sequence[str] = (),
    lpips: Path | None = None,
    niqe: Path | None = None,
    fid: Path | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str = "auto",
    **others: Any,
) -> Evaluation:
    """An evaluation from what a command line says; every mistake in it is an error here, before anything is restored.

    ``kernels`` is a registered set (``"kind: key=value"``) or a file or folder of measured ones; None is what the
    recipe's operator draws. ``others`` are fields of :class:`EvaluationOptions`.
    """
    datasets = find_datasets(data, limit)
    line_up = gather(recipe, installed(), methods, variants, overrides, seed, device)
    networks, notes = find_networks(lpips)
    natural, more = find_niqe(niqe)
    inception, lines = find_inception(fid)
    options = EvaluationOptions(
        judges=[*networks, *natural], inception=inception, notes=[*notes, *more, *lines], **others
    )
    if kernels is not None:
        options.kernels, options.kernels_label = find_kernels(kernels, line_up.main.pipeline.degradation)
    return Evaluation(line_up, datasets, folder, options)


def find_kernels(text: str, operator: Degradation) -> tuple[KernelSet, str]:
    """A set of kernels and its label, from a registered name or from a file or folder."""
    if not isinstance(operator.parameters, KernelSpace):
        raise InvdiffError(f"--kernels {text}: the recipe's operator has no kernel; leave the option out")
    kinds, path = installed().kinds("kernels"), Path(text)
    if label_and_changes(text)[0] not in kinds and (path.exists() or path.suffix.lower() in KERNEL_SUFFIXES):
        return FileKernels(path, operator), path.name if path.stem in (*kinds, OWN) else path.stem
    return build_kind("kernels", text, installed(), "--kernels")[1], label_of(text)


def find_datasets(places: Sequence[Path], limit: int | None = None) -> list[Dataset]:
    """Folders of pictures, the first ``limit`` of each by name; an error that names one without any.

    Single pictures are a dataset with the others of their folder. A picture is called by its stem, or by its
    whole name where two share it, whatever ``limit`` leaves out.
    """
    found: dict[Path, list[Path]] = {}
    for place in places:
        folder = (place if place.is_dir() else place.parent).resolve()
        found.setdefault(folder, []).extend(list_pictures(place))
    names = Counter(folder.name for folder in found)
    datasets = []
    for folder, files in found.items():
        if names[folder.name] > 1:
            raise InvdiffError(f"two datasets are called '{folder.name}': evaluate them into folders of their own")
        stems = Counter(p.stem for p in list_pictures(folder))
        named = {(p.stem if stems[p.stem] == 1 else p.name): p for p in files}
        datasets.append(Dataset(folder.name, folder, list(named.items())[:limit]))
    return datasets
