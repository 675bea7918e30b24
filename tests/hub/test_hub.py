"""Priors and recipes on a hub: through a folder, and through a client that stands in for the hub's. No network."""

from __future__ import annotations

import shutil
import sys
import types

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import invdiff
from invdiff.errors import InvdiffError


@pytest.fixture
def photo(picture):
    return Image.open(picture("photo.png"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub in a folder: what its client is asked to take and to give."""
    place = tmp_path / "hub"

    class Api:
        def create_repo(self, name, private, exist_ok):
            assert exist_ok
            (place / name).mkdir(parents=True, exist_ok=True)
            (place / name / "private").write_text(str(private))

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, place / repo_id, dirs_exist_ok=True)
            return f"hub:{repo_id}"

    def snapshot_download(name, revision, allow_patterns):
        if not (place / name).is_dir():
            raise RuntimeError("401 Client Error.\n\nRepository Not Found")
        taken = tmp_path / "cache" / name / str(revision)
        taken.mkdir(parents=True, exist_ok=True)
        for file in (place / name).iterdir():
            if file.name in allow_patterns:
                shutil.copy(file, taken)
        return str(taken)

    client = types.SimpleNamespace(HfApi=Api, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return place


def test_a_folder_stands_alone(recipe, photo, tmp_path, weights):
    """Another place, no file of the recipe left: the same pixels, whatever defaults become."""
    path = recipe()
    want = invdiff.load(path, overrides=["sampler.eta=0.5"]).restore(photo).image
    folder = invdiff.save_pretrained(
        path, tmp_path / "folder", overrides=["sampler.eta=0.5"], card="# Mine\n\nOf tests."
    )
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "recipe.yaml", "weights.safetensors"]
    path.unlink()
    moved = shutil.move(folder, tmp_path / "elsewhere")
    pipe = invdiff.from_pretrained(moved)
    np.testing.assert_array_equal(np.asarray(pipe.restore(photo).image), np.asarray(want))
    other = invdiff.from_pretrained(moved, overrides=["sampler.steps=1"], seed=9)
    assert (other.sampler.steps, other.seed, other.sampler.eta) == (1, 9, 0.5)
    head, _, text = (tmp_path / "elsewhere" / "README.md").read_text().removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(head)["library_name"] == "invdiff"
    assert text.strip().startswith("# Mine")
    assert "from_pretrained" in text


def test_the_bundled_ones_have_their_model_cards(tmp_path):
    folder = invdiff.save_pretrained("blindsr_x4", tmp_path / "x4")
    assert "# " in (folder / "README.md").read_text()
    assert len((folder / "README.md").read_text()) > 1000
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["prior"] == {
        "kind": "mcformer",
        "weights": "weights.safetensors",
    }


def test_a_recipe_without_weights(picture, tmp_path):
    photo = Image.open(picture("photo.png", 40, 40))
    folder = invdiff.save_pretrained("deblur_tv", tmp_path / "tv", overrides=["guidance=[]", "sampler.steps=2"])
    assert not (folder / "weights.safetensors").exists()
    assert invdiff.from_pretrained(folder).restore(photo).image.size == photo.size
    with pytest.raises(InvdiffError, match="holds no weights"):
        invdiff.load_prior(folder)


def test_onto_the_hub_and_back(hub, recipe, photo):
    path = recipe()
    assert invdiff.push_to_hub(path, "me/tiny", private=True) == "hub:me/tiny"
    assert (hub / "me" / "tiny" / "private").read_text() == "True"
    (hub / "me" / "tiny" / "run_me.py").write_text("raise SystemExit")  # never fetched
    pipe = invdiff.from_pretrained("me/tiny", revision="abc")
    want = invdiff.load(path).restore(photo).image
    np.testing.assert_array_equal(np.asarray(pipe.restore(photo).image), np.asarray(want))
    ours, theirs = (invdiff.load_prior(name).state_dict() for name in ("me/tiny", hub / "me" / "tiny"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list(hub.parent.glob("cache/**/run_me.py"))


def test_weights_alone(hub, weights):
    (hub / "me" / "prior").mkdir(parents=True)
    shutil.copy(weights, hub / "me" / "prior" / "weights.safetensors")
    assert invdiff.load_prior("me/prior").spec.scale == 4
    with pytest.raises(InvdiffError, match="holds no recipe"):
        invdiff.from_pretrained("me/prior")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: invdiff.from_pretrained("me/none"), "me/none: cannot be fetched from the hub"),
        (lambda: invdiff.load_prior("me/none"), "me/none: cannot be fetched from the hub"),
        (lambda: invdiff.from_pretrained("none"), "no such folder, and no name of the hub"),
        (lambda: invdiff.from_pretrained("../no/where"), "no such folder, and no name of the hub"),
        (lambda: invdiff.push_to_hub("blindsr_x4", "mine"), "a name of the hub is written user/name"),
        (lambda: invdiff.push_to_hub("no_such_recipe", "me/x"), "no such recipe"),
        (lambda: invdiff.load_prior("no_such_weights"), "no weights 'no_such_weights'"),
        (lambda: invdiff.load_prior("x" * 300), "weights 'xxx"),
    ],
)
def test_refused_in_one_line(hub, call, words):
    with pytest.raises(InvdiffError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_without_the_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InvdiffError, match=r"pip install 'invdiff\[hub\]'"):
        invdiff.from_pretrained("me/tiny")


def test_the_real_client_takes_what_it_is_handed(monkeypatch):
    """Where it is installed: the calls above fit its signatures."""
    import inspect

    client = pytest.importorskip("huggingface_hub")
    inspect.signature(client.snapshot_download).bind("a/b", revision=None, allow_patterns=["x"])
    inspect.signature(client.HfApi.create_repo).bind(None, "a/b", private=True, exist_ok=True)
    inspect.signature(client.HfApi.upload_folder).bind(None, repo_id="a/b", folder_path="x", commit_message="y")


def test_an_operator_with_a_camera(tmp_path):
    """What is saved says every setting, those that a camera does not allow at other values too."""
    camera = ["degradation.camera={share: 1.0}", "degradation.noise_sigma=0", "guidance=[]", "sampler.steps=2"]
    folder = invdiff.save_pretrained("deblur_tv", tmp_path / "tv", overrides=camera)
    assert invdiff.from_pretrained(folder).degradation.settings.camera.share == 1
    with pytest.raises(InvdiffError, match="camera brings noise and rounding of its own"):
        invdiff.load("deblur_tv", overrides=[*camera, "degradation.noise_sigma=0.1"])


def test_what_was_measured_of_draws_goes_along(tmp_path):
    """The weights of a folder are its recipe's own; changes that undo the measurement undo it in the folder, too."""
    for number, changes in enumerate(([], ["guidance=[]"])):
        folder = invdiff.save_pretrained("blindsr_x4_photo", tmp_path / str(number), overrides=changes)
        found = invdiff.from_pretrained(folder)
        assert found.draws == invdiff.load("blindsr_x4_photo", overrides=changes).draws
        assert found.draws.calibrated == (not changes)
    changed = invdiff.from_pretrained(tmp_path / "0", overrides=["guidance=[]"])
    assert not changed.draws.calibrated
