"""Folders of a model hub, fetched and sent; a folder on disk with the same files is as good."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..errors import InvdiffError, WeightsError, one_line

RECIPE, WEIGHTS, CARD = "recipe.yaml", "weights.safetensors", "README.md"
"""What such a folder holds, and nothing else is ever fetched: no code, no pickle."""


def is_name(text: str) -> bool:
    """Whether it is ``user/name``, and nothing that lies here."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) is not None and not text.endswith((".yaml", ".safetensors"))


def fetched(name: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The folder called so: on disk, or else ``user/name`` of the hub, from its cache where it is there.

    Raises :class:`InvdiffError` where there is neither, in one line.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not is_name(os.fspath(name)):
        raise InvdiffError(f"{name}: no such folder, and no name of the hub, which is written user/name")
    hub = _hub(os.fspath(name))
    try:
        return Path(hub.snapshot_download(os.fspath(name), revision=revision, allow_patterns=[RECIPE, WEIGHTS, CARD]))
    except Exception as error:  # its own kinds, those of the network, and more with every version
        raise InvdiffError(f"{name}: cannot be fetched from the hub ({one_line(error)[:200]})") from None


def sent(folder: Path, name: str, *, private: bool) -> str:
    """Put a folder on the hub as ``user/name``, made if it is not there; where it is then."""
    hub = _hub(name)
    try:
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=str(folder), commit_message="from invdiff"))
    except Exception as error:
        raise InvdiffError(f"{name}: cannot be put on the hub ({one_line(error)[:200]})") from None


def weights_of(name: str | os.PathLike[str]) -> Path | None:
    """The weights in the folder called so; None for what is a file or a bundled name."""
    text = os.fspath(name)
    try:
        if Path(text).is_file() or not (is_name(text) or Path(text).is_dir()):
            return None
    except OSError:  # a name too long
        return None
    weights = fetched(text) / WEIGHTS
    if not weights.is_file():
        raise WeightsError(f"{name}: holds no {WEIGHTS}; invdiff.from_pretrained reads a recipe without weights")
    return weights


def _hub(name: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise InvdiffError(f"{name}: the hub needs huggingface_hub: pip install 'invdiff[hub]'") from None
    return huggingface_hub
