"""``invdiff new-plugin``: a package of its own with a working component, to be changed into another."""

from __future__ import annotations

import importlib.util
import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

from ...errors import InvdiffError
from ...io.atomic import write_atomic

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Scaffold:
    """One role that a package can be begun for; ``templates/<role>`` holds what it has beside the common files."""

    so_far: str
    """What its component is until somebody changes it."""
    commands: str
    """How it is tried."""


SCAFFOLDS = {
    "operator": Scaffold(
        "`y = gain x + offset`, both unknown",
        "invdiff train recipes/$name.yaml --data photos/ -o runs/prior\n"
        "invdiff run recipes/$name.yaml -i photo.jpg -o out/ --set prior.weights=runs/prior/weights.safetensors",
    ),
    "prior": Scaffold("a denoiser of a few lines, the local Wiener filter", "invdiff run recipes/$name.yaml"),
    "guidance": Scaffold(
        "a step of steepest descent",
        "invdiff run recipes/$name.yaml\ninvdiff run recipes/$name.yaml -i photo.jpg -o out/",
    ),
}
"""By role, as users call it; the file of its component is called likewise."""


def write_plugin(name: str, folder: Path, role: str = "operator") -> Path:
    """Write the package for a component called ``name`` into ``folder``, which must be empty or not there.

    Each file is a template's with the names filled in; ``package`` and ``.txt`` stand for what neither a wheel nor a
    linter should take for our own. Raises :class:`InvdiffError` for a name that is no word or taken, and for a folder
    that holds something.
    """
    cls, package = "".join(part.title() for part in name.split("_")), f"invdiff_{name}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or any(map(keyword.iskeyword, (name, cls))):
        raise InvdiffError(f"new-plugin {name}: a name is a Python word in small letters, such as haze or two_blurs")
    sources = {
        source.relative_to(_TEMPLATES / part): source.read_text(encoding="utf-8")
        for part in ("common", role)
        for source in sorted((_TEMPLATES / part).rglob("*.txt"))
    }
    if re.search(rf"import .*\b{cls}\b", "\n".join(sources.values())):
        raise InvdiffError(
            f"new-plugin {name}: its class {cls} would hide the one it is made from: choose another name"
        )
    if importlib.util.find_spec(package):
        raise InvdiffError(f"new-plugin {name}: a package {package} is installed already: choose another name")
    scaffold = SCAFFOLDS[role]
    words = {"name": name, "cls": cls, "package": package, "Role": role.title(), "module": role}
    words |= {"so_far": scaffold.so_far, "commands": Template(scaffold.commands).substitute(words)}
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvdiffError(f"{folder}: already there and not empty; choose another folder with -o")
        for source, text in sources.items():
            place = str(source).removesuffix(".txt").replace("package", package).replace("recipe.yaml", f"{name}.yaml")
            write_atomic(folder / place, Template(text).substitute(words))
    except OSError as error:
        raise InvdiffError(f"{folder}: cannot write to this folder ({error.strerror or error})") from None
    return folder
