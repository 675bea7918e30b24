"""Orders: one photo that somebody brought, what is to be done with it, and how far it is."""

from __future__ import annotations

import io
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ..io.pictures import Photo
from ..restoring.report import REPORT
from .tasks import Task

_LONGEST = 60
State = Literal["waiting", "working", "done", "failed", "stopped"]


@dataclass(frozen=True)
class PagePicture:
    """A picture as a page shows it: the bytes of a file, and which kind of file."""

    data: bytes
    kind: str


@dataclass(eq=False)
class Order:
    """Written by whoever works on it, read by the server; each attribute is replaced as a whole.

    ``name`` is the photo's, made harmless; ``source`` the photo on disk, ``folder`` where results go. The address of
    an order is a secret of whoever gave it: ``ident`` cannot be guessed.
    """

    task: Task
    dial: float
    name: str
    source: Path
    folder: Path
    ident: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "waiting"
    step: int = 0
    steps: int = 0
    progress: float = 0.0
    views: dict[str, PagePicture] = field(default_factory=dict)
    shown: int = 0
    """How many views of the result there were: a page asks again when it grows."""
    shrunk: str = ""
    """How large the photo was and is, where it had to be made smaller first."""
    words: list[dict[str, str]] = field(default_factory=list)
    glossary: dict[str, str] = field(default_factory=dict)
    """What the words in them mean."""
    failure: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    asked: float = field(default_factory=time.monotonic)
    """When its page asked last."""

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "stopped")

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    def show(self, name: str, view: PagePicture) -> None:
        """Put a new view in the place of the one before."""
        self.views = {**self.views, name: view}
        self.shown += name == "after"

    def files(self) -> dict[str, Path]:
        """What can be fetched, by the name it has in an address: these, and no other path."""
        suffixes = {
            "picture": ".png",
            "compare": ".compare.png",
            "kernel-picture": ".kernel.png",
            "kernel-array": ".kernel.npy",
        }
        found = {name: self.folder / f"{self.stem}{suffix}" for name, suffix in suffixes.items()}
        found["report"] = self.folder / REPORT
        return {name: path for name, path in found.items() if self.state == "done" and path.is_file()}

    def status(self, before: int) -> dict[str, Any]:
        """For the page; ``before`` is how many orders come before this one, the one that is worked on among them."""
        return {
            "state": self.state,
            "before": before,
            "name": self.name,
            "task": self.task.name,
            "dial": self.dial,
            "step": self.step,
            "steps": self.steps,
            "progress": round(self.progress, 4),
            "views": sorted(self.views),
            "shown": self.shown,
            "words": self.words,
            "glossary": self.glossary,
            "failure": self.failure,
            "files": sorted(self.files()),
        }


def harmless(name: str) -> str:
    """A file's name as a browser gives it, as one that can stand anywhere: no folders, nothing hidden, no long ones."""
    stem, dot, suffix = name.replace("\\", "/").rpartition("/")[2].rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    stem = re.sub(r"[^\w +=,()-]", "_", stem).strip(" _")[:_LONGEST] or "photo"
    suffix = re.sub(r"[^0-9a-zA-Z]", "", suffix)[:5].lower()
    return f"{stem}.{suffix}" if suffix else stem


def view_of(photo: Photo, side: int, quality: int = 95) -> PagePicture:
    """A photo to look at, at most ``side`` pixels wide and high, in its own colours; PNG where it has an alpha."""
    picture = Image.fromarray(photo.to_array())
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer, kind = io.BytesIO(), "png" if photo.alpha is not None else "jpeg"
    more = {"quality": quality, "subsampling": 0} if kind == "jpeg" else {}
    picture.save(buffer, kind.upper(), icc_profile=photo.metadata.icc, **more)
    return PagePicture(buffer.getvalue(), f"image/{kind}")
