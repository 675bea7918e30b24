"""What diffusers' ``save_pretrained`` wrote: a network's settings and tensors, and its scheduler's settings.

Read without the library, so that nothing is unpickled, no weight is left at random, and errors are one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from invdiff.components.hub import is_name
from invdiff.errors import PluginError, WeightsError, one_line, reason
from invdiff.io.plain import parse_json
from invdiff.io.tensors import read_tensors

_WEIGHTS = "diffusion_pytorch_model"
_FETCHED = ["config.json", "scheduler_config.json", f"{_WEIGHTS}.safetensors"]
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Saved:
    """One folder's content; ``place`` is where the network's files are, for messages."""

    place: Path
    network: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    tensors: dict[str, Tensor]


def read_saved(source: str, revision: str | None = None) -> Saved:
    """A folder of a network, or of a pipeline with ``unet`` and ``scheduler`` in it; or ``user/name`` of the hub.

    Raises :class:`WeightsError` in one line for what is none, or has no weights as safetensors.
    """
    folder = _found(source, revision)
    place = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    network = _settings(place / "config.json", source)
    scheduler = next(
        (p for p in (folder / "scheduler", folder, place) if (p / "scheduler_config.json").is_file()), folder
    )
    return Saved(place, network, _settings(scheduler / "scheduler_config.json", source), _tensors(place))


def _found(source: str, revision: str | None) -> Path:
    try:
        folder = Path(source).expanduser()
        if folder.is_dir():
            return folder
        if folder.exists():
            raise WeightsError(f"{source}: a file, and a folder is needed, as save_pretrained writes it")
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such user
        raise WeightsError(f"source '{source}': {reason(error)}") from None
    if not is_name(source):
        raise WeightsError(f"{source}: no such folder, and no name of the hub, which is written user/name")
    try:
        import huggingface_hub
    except ImportError:
        raise PluginError(f"{source}: no such folder; the hub needs pip install 'invdiff[diffusers]'") from None
    wanted = [pattern for name in _FETCHED for pattern in (name, f"unet/{name}", f"scheduler/{name}")]
    try:
        return Path(huggingface_hub.snapshot_download(source, revision=revision, allow_patterns=wanted))
    except Exception as error:  # its own kinds, those of the network, and more with every version
        raise WeightsError(f"{source}: no such folder, nor from the hub ({one_line(error)[:200]})") from None


def _settings(file: Path, source: str) -> Mapping[str, Any]:
    if not file.is_file():
        raise WeightsError(f"{source}: no folder of a diffusers network: it has no {file.name}")
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: is not JSON ({one_line(error)[:120]})") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{file}: holds no settings by name")
    return found


def _tensors(place: Path) -> dict[str, Tensor]:
    file = place / f"{_WEIGHTS}.safetensors"
    if not file.is_file():
        pickled = (place / f"{_WEIGHTS}.bin").is_file()
        beside = f", only {_WEIGHTS}.bin, a pickle, which is never loaded: save it again as safetensors"
        raise WeightsError(f"{place}: no weights (no {file.name}{beside if pickled else ''})")
    return {_today(name): value.float() for name, value in read_tensors(file)[0].items()}


def _today(name: str) -> str:
    """A tensor's name as of today: attention's had others in files of before 2023."""
    return re.sub(r"(attentions\.\d+\.)(query|key|value|proj_attn)\.", lambda m: f"{m[1]}{_RENAMED[m[2]]}.", name)
