"""Pages and pictures that are made from the code are what the code makes today."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="not in a checkout")


def script(name):
    spec = importlib.util.spec_from_file_location(f"make_{name}", DOCS / "make" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_of_the_house():
    house = script("house")
    assert house.PICTURE.read_text(encoding="utf-8") == house.drawn(), "python docs/make/house.py"


def test_the_table_of_rooms():
    house, page = script("house"), (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert house.filled(page) == page, "python docs/make/house.py"
    for room in house.table():
        assert f"| `{room}` |" in page


def test_the_picture_shows_every_import_directly_or_on_the_way():
    """What is left out of the picture follows from what is drawn."""
    house = script("house")
    used, drawn = house.arrows(), house.needed(house.arrows())

    def below(room):
        return set().union(*({lower} | below(lower) for lower in drawn[room]))

    for room, lower in used.items():
        assert lower <= below(room)
        assert drawn[room] <= lower


def test_the_reference():
    reference = script("reference")
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "python docs/make/reference.py"


def test_the_glossary():
    reference = script("reference")
    text = reference.GLOSSARY.read_text(encoding="utf-8")
    assert reference.glossary(text) == text, "python docs/make/reference.py"


def test_every_setting_is_described():
    """In the reference and in the schema: docstrings become descriptions."""
    from invdiff.components.discovery import registry
    from invdiff.recipe.schema import recipe_schema

    reference = script("reference")
    for line in reference.page().splitlines():
        if line.startswith("| `"):
            assert line.count(" | ") >= 1
            assert not line.rstrip(" |").endswith("| "), line
            assert "|  |" not in line, line

    def properties(node):
        if isinstance(node, dict):
            yield from node.get("properties", {}).items()
            for value in node.values():
                yield from properties(value)
        elif isinstance(node, list):
            for value in node:
                yield from properties(value)

    found = [(name, value) for name, value in properties(recipe_schema(registry())) if isinstance(value, dict)]
    assert len(found) > 100
    assert [name for name, value in found if not value.get("description")] == []
