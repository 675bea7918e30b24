"""How the house is built: imports run one way, plugins stand alone, rooms stay small, one version."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution, packages_distributions, requires, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from rooms import CONTRACT, ROOMS

import invdiff

CORE = Path(invdiff.__file__).parent
PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"

MAY_IMPORT = {room: allowed for room, (_, allowed) in ROOMS.items()}


@cache
def announced():
    """Our plugins as installed: entry-point name to package."""
    found = distribution("invdiff").entry_points.select(group="invdiff")
    return {entry.name: entry.value for entry in found}


def folder_of(package):
    return Path(find_spec(package).submodule_search_locations[0])


def files():
    """Every Python file of the core and of our plugins."""
    return sorted(p for folder in (CORE, *map(folder_of, announced().values())) for p in folder.rglob("*.py"))


def imports(path, root=None):
    """Absolute names that a file imports, wherever in it; packages are counted from ``root``."""
    if root is None:
        root = CORE.parent if CORE in path.parents else path.parent
    while root != CORE.parent and (root / "__init__.py").exists():
        root = root.parent
    package = path.relative_to(root).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            found |= {".".join([*base, name.name]) for name in node.names} | {".".join(base)}
    return found


def room_of(path):
    """The room that a file of the core is in."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def rooms_in(names):
    """The rooms that imported names of the core stand for; the package itself is the room ``__init__``."""
    rooms = {name.partition(".")[2].partition(".")[0] for name in names if name.partition(".")[0] == "invdiff"}
    return {"__init__" if room == "" or room.startswith("__version") else room for room in rooms}


def rooms_used(path):
    """Every room that a file imports from, in functions too, its own left out."""
    names = imports(path)
    # ``from .. import metrics`` names the package only on the way to a room.
    on_the_way = {"invdiff"} if any(name.startswith("invdiff.") for name in names) else set()
    return rooms_in(names - on_the_way) - {room_of(path)}


def core_files():
    return sorted(CORE.rglob("*.py"))


def test_every_room_is_in_the_table():
    assert {room_of(p) for p in core_files()} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", core_files(), ids=lambda p: p.relative_to(CORE).as_posix())
def test_a_room_imports_what_it_may(path):
    assert rooms_used(path) <= MAY_IMPORT[room_of(path)]


def test_the_table_promises_nothing_that_is_not_used():
    used = {}
    for path in core_files():
        used.setdefault(room_of(path), set()).update(rooms_used(path))
    spare = {room: MAY_IMPORT[room] - used[room] for room in MAY_IMPORT if room not in ("cli", "__init__")}
    assert {room: names - CONTRACT for room, names in spare.items() if names - CONTRACT} == {}


def test_the_table_has_no_circle():
    left = {room: names - {room} for room, names in MAY_IMPORT.items() if room not in ("cli", "__init__", "__main__")}
    while left:
        free = {room for room, names in left.items() if not names & set(left)}
        assert free, f"these rooms import each other in a circle: {sorted(left)}"
        left = {room: names for room, names in left.items() if room not in free}


def test_the_check_sees_imports(tmp_path):
    """In functions, of the package's face, and through ``from ..``."""
    text = """
from .. import metrics
from ..io.decoding import load
def late():
    from .. import __version__
    import invdiff.sampler
"""
    file = tmp_path / "invdiff" / "restoring" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    names = imports(file, tmp_path)
    assert rooms_in(names - {"invdiff"}) == {"__init__", "io", "metrics", "restoring", "sampler"} - {"restoring"}
    assert {"training", "recipe", "components"} <= rooms_used(CORE / "assembly.py")
    assert "evaluation" in rooms_used(CORE / "cli" / "evaluate.py")  # inside a function


def test_core_imports_no_plugin():
    plugins = set(announced().values())
    for path in CORE.rglob("*.py"):
        roots = {name.partition(".")[0] for name in imports(path)}
        assert not {r for r in roots if r in plugins or r.startswith("invdiff_")}, path


def test_plugins_import_no_other():
    for package in announced().values():
        for path in folder_of(package).rglob("*.py"):
            roots = {name.partition(".")[0] for name in imports(path)}
            assert {r for r in roots if r.startswith("invdiff_")} <= {package}, path


WORDS = {"bicubic"}  # also a way to resize


def test_core_names_no_kind():
    """The core knows no operator, network or guidance by name."""
    from invdiff.components.discovery import registry

    kinds = {
        kind for (_, kind), found in registry().components.items() for c in found if c.plugin in announced()
    } - WORDS
    assert {"blindsr", "mcformer", "kernel_aware", "wiener", "gaussian8"} <= kinds
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Constant) and node.value in kinds), f"{path}:{node.lineno}: {node.value}"


def test_everything_imported_is_a_declared_dependency():
    extras = ("train", "dask", "plot", "hub", "app", "diffusers")
    wanted = [r for r in requires("invdiff") if not any(x in r.partition("extra ==")[2] for x in ("test", "docs"))]
    if PROJECT.exists():  # newer than what is installed
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        wanted = project["dependencies"] + [r for x in extras for r in project["optional-dependencies"][x]]
    declared = {re.split(r"[\s<>=!~;\[(]", r)[0].lower() for r in wanted}
    providers = packages_distributions()
    for path in files():
        for name in {name.partition(".")[0] for name in imports(path)}:
            if name in sys.stdlib_module_names or name.partition("_")[0] == "invdiff":
                continue
            if name == "pytest" and path.parent == CORE / "testing":
                continue  # its decorator is for test files, which pytest runs
            if name == "IPython" and path.name == "notebook.py":
                continue  # where a notebook has loaded it already
            owners = {owner.lower() for owner in providers.get(name, [name])}  # an extra may not be installed
            assert owners & declared, f"{path} imports {name}"


@pytest.mark.parametrize("path", files(), ids=lambda p: "/".join(p.parts[-2:]))
def test_files_stay_small(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400
    if path == CORE / "hookspecs.py":
        assert lines < 100


def test_packages_folders_and_entry_points_agree():
    if not PROJECT.exists():
        pytest.skip("no pyproject.toml beside these tests: not in a checkout")
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    folders = {p.parent.name for p in (PROJECT.parent / "plugins").glob("*/__init__.py")}
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages[0] == "invdiff"
    assert {Path(p).name for p in packages[1:]} == folders
    assert all(p == f"plugins/{Path(p).name}" for p in packages[1:])
    points = project["project"]["entry-points"]["invdiff"]
    assert set(points.values()) == folders
    assert all(f"invdiff_{name}" == module for name, module in points.items())
    assert points == announced(), "the installed package is out of date: install it again"


def test_plugins_load():
    from invdiff.components.discovery import registry

    found = registry()
    assert [f for f in found.failures if f.plugin in announced()] == []
    loaded = {c.plugin for components in found.components.values() for c in components}
    assert set(announced()) <= loaded


def test_public_names_exist():
    assert [name for name in invdiff.__all__ if not hasattr(invdiff, name)] == []
    assert invdiff.__all__ == sorted(invdiff.__all__)


def test_one_version():
    assert invdiff.__version__ == version("invdiff")
    changes = PROJECT.parent / "CHANGELOG.md"
    if PROJECT.exists() and changes.exists():
        assert invdiff.__version__ in changes.read_text(encoding="utf-8")
        citation = yaml.safe_load((PROJECT.parent / "CITATION.cff").read_text(encoding="utf-8"))
        assert citation["version"] == invdiff.__version__
