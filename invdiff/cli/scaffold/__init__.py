"""``invdiff new-plugin``: a package of its own with a working operator, to be changed into another."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from ...errors import InvdiffError
from ...io.atomic import write_atomic

_TEMPLATE = Path(__file__).parent / "template"
_TAKEN = {"BoxSpace", "Degradation", "DegradationSettings", "Float", "Field", "Tensor"}  # names in the template


def write_plugin(name: str, folder: Path) -> Path:
    """Write the package for an operator called ``name`` into ``folder``, which must be empty or not there.

    Each file is ``template``'s with the names filled in; ``package`` and ``.txt`` stand for what
    neither a wheel nor a linter should take for our own.
    """
    words = {"name": name, "cls": "".join(part.title() for part in name.split("_")), "package": f"invdiff_{name}"}
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or any(map(keyword.iskeyword, (name, words["cls"]))):
        raise InvdiffError(f"new-plugin {name}: a name is a Python word in small letters, such as haze or two_blurs")
    if words["cls"] in _TAKEN:
        raise InvdiffError(f"new-plugin {name}: its class {words['cls']} would hide the one it is made from")
    if importlib.util.find_spec(words["package"]):
        raise InvdiffError(f"new-plugin {name}: a package {words['package']} is installed already")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvdiffError(f"{folder}: already there and not empty; choose another folder with -o")
        for source in sorted(_TEMPLATE.rglob("*.txt")):
            place = str(source.relative_to(_TEMPLATE)).removesuffix(".txt").replace("package", words["package"])
            place = place.replace("recipe.yaml", f"{name}.yaml")
            write_atomic(folder / place, Template(source.read_text(encoding="utf-8")).substitute(words))
    except OSError as error:
        raise InvdiffError(f"{folder}: cannot write to this folder ({error.strerror or error})") from None
    return folder
