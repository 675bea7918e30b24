"""The JSON Schema of recipes: ours pass it, mistakes do not, and it holds what is installed."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from invdiff.components.discovery import discover, registry
from invdiff.components.registry import Component
from invdiff.recipe.recipe import load_recipe
from invdiff.recipe.schema import recipe_schema
from invdiff.testing.subjects import ToyBlur

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").rglob("*.yaml"))


@pytest.fixture(scope="module")
def validator():
    schema = recipe_schema(registry())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read(path):
    """As an editor reads it: YAML 1.2, where ``1e-3`` is a number."""
    return yaml.safe_load(re.sub(r"(?<=\d)e-", ".0e-", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_our_recipes_pass(validator, path):
    validator.validate(read(path))


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        (("sampler",), "stepz", 5),
        (("sampler",), "steps", 0),
        (("sampler",), "eta", "much"),
        (("degradation",), "scale", 5),
        (("degradation",), "kernel_sise", 21),
        (("degradation",), "kind", "motion"),  # whose settings these are not
        (("degradation",), "kind", "no_such_kind"),
        (("prior",), "network", "huge"),
        (("prior",), "network", {"preset": "small", "chanels": [8, 8, 8, 8]}),
        (("guidance", 0), "strength", -1),
        ((), "sampeler", {}),
    ],
)
def test_mistakes_fail(validator, recipe, change, key, value):
    data = yaml.safe_load(recipe().read_text())
    validator.validate(data)
    place = data = copy.deepcopy(data)
    for part in change:
        place = place[part]
    place[key] = value
    assert not validator.is_valid(data)


@pytest.mark.parametrize("more", [{}, {"name": 3}, {"sampler": {"steps": 5}}])
def test_an_overlay_may_have_parts(validator, more):
    """What they come to is for ``invdiff run`` to say; but its top keys are a recipe's."""
    validator.validate({"extends": "base.yaml", **more})
    assert not validator.is_valid({"extends": "base.yaml", "sampeler": {}, **more})
    assert not validator.is_valid({"extends": 3, **more})


@pytest.mark.parametrize(
    "network", ["small", {"preset": "small", "kernel_size": 31}, {"kernel_size": 31, "learn_variance": False}]
)
def test_a_network_is_written_as_the_docs_say(validator, recipe, network):
    path = recipe(("weights: WEIGHTS", f"network: {json.dumps(network)}, weights: null"))
    validator.validate(yaml.safe_load(path.read_text()))
    load_recipe(path, registry())


def test_a_role_without_kinds_is_still_a_schema(monkeypatch, recipe):
    monkeypatch.setenv("INVDIFF_PLUGINS", "motion")
    schema = recipe_schema(discover())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert not jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(recipe().read_text()))


def test_kinds_that_clash_are_left_out(cli):
    found = copy.deepcopy(registry())
    found.add(Component("degradation", "motion", ToyBlur, "", "", "other", "other 1.0"))
    found.add(Component("degradation", "toy", ToyBlur, "", "", "other", "other 1.0"))
    names = recipe_schema(found)["$defs"]
    assert "degradation.toy" in names
    assert "degradation.motion" not in names
    assert json.loads(cli("schema").out) == recipe_schema(registry())
