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

import invdiff

CORE = Path(invdiff.__file__).parent
PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

# A room imports those before it, never one after it.
ROWS = [
    ["errors", "settings", "files", "images", "blur", "schedule", "deconvolution", "kernel_files"],
    ["degradation", "prior", "guidance", "method", "kernel_set"],
    ["sampler", "tiling"],
    ["hookspecs", "plugins"],
    ["weights", "metrics", "lpips", "photos", "training", "report", "measure"],
    ["source", "recipe", "schema", "pipeline", "testing", "scaffold"],
    ["info", "contenders", "results", "fid", "tables", "trace", "page", "publish", "evaluate", "prepare"],
    ["runner", "console", "cli", "__main__"],
]
ORDER = [room for row in ROWS for room in row]


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


def imports(path):
    """Absolute names that a file imports, wherever in it."""
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


def room(name):
    """``invdiff.<room>...`` to the room's name, None for the package itself and for others."""
    parts = name.split(".")
    return parts[1] if parts[0] == "invdiff" and len(parts) > 1 else None


def core_files():
    return sorted(p for p in CORE.rglob("*.py") if p != CORE / "__init__.py")


def test_every_room_has_a_place():
    rooms = {p.relative_to(CORE).parts[0].removesuffix(".py") for p in core_files()}
    assert rooms <= set(ORDER)


@pytest.mark.parametrize("path", core_files(), ids=lambda p: p.relative_to(CORE).as_posix())
def test_imports_run_one_way(path):
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    used = {room(name) for name in imports(path)} & set(ORDER)
    assert {name for name in used if ORDER.index(name) > ORDER.index(own)} == set()


def test_the_check_sees_imports():
    found = {p.stem: {room(name) for name in imports(p)} for p in core_files()}
    assert {"recipe", "training", "weights"} <= found["pipeline"]
    assert {"console", "pipeline", "runner"} <= found["cli"]  # which imports inside functions
    assert "degradation" in found["prior"]


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
    from invdiff.plugins import registry

    kinds = {
        kind for (_, kind), found in registry().components.items() for c in found if c.plugin in announced()
    } - WORDS
    assert {"blindsr", "mcformer", "kernel_aware", "wiener", "gaussian8"} <= kinds
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Constant) and node.value in kinds), f"{path}:{node.lineno}: {node.value}"


def test_everything_imported_is_a_declared_dependency():
    wanted = [r for r in requires("invdiff") if "extra ==" not in r]
    if PROJECT.exists():  # newer than what is installed
        wanted = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    declared = {re.split(r"[\s<>=!~;\[(]", r)[0].lower() for r in wanted}
    providers = packages_distributions()
    for path in files():
        for name in {name.partition(".")[0] for name in imports(path)}:
            if name in sys.stdlib_module_names or name.partition("_")[0] == "invdiff":
                continue
            if name == "pytest" and path.parent == CORE / "testing":
                continue  # its decorator is for test files, which pytest runs
            owners = {owner.lower() for owner in providers.get(name, [])}
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
    from invdiff.plugins import registry

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
