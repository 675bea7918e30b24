"""Weights files: what goes in comes out, nothing is unpickled, and what does not fit is refused in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

import invdiff
from invdiff.components.discovery import discover, registry
from invdiff.components.weights import load_prior, save_prior
from invdiff.errors import WeightsError


def header_of(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.fixture
def altered(weights, tmp_path):
    """The tiny weights with another header and, if given, other tensors."""

    def write(tensors=None, **header):
        changed = {k: v for k, v in {**header_of(weights), **header}.items() if v is not None}
        path = tmp_path / "altered.safetensors"
        content = safetensors.torch.load_file(weights) if tensors is None else tensors
        safetensors.torch.save_file(content, path, changed)
        return path

    return write


def test_round_trip(tiny_prior, tmp_path):
    prior = tiny_prior(kernel_size=5, scale=2, timesteps=77)
    path = tmp_path / "new" / "p.safetensors"
    save_prior(prior, "mcformer", path, dtype=torch.float32)
    back = invdiff.load_prior(path)
    assert back.settings == prior.settings
    assert back.state_dict().keys() == prior.state_dict().keys()
    for name, value in prior.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    x = torch.rand(1, 3, 16, 16)
    t = torch.tensor([30])
    with torch.no_grad():
        assert torch.equal(back(x, t, x).raw, prior.eval()(x, t, x).raw)


def test_half_precision_on_disk_single_in_memory(tiny_prior, tmp_path):
    prior = tiny_prior(kernel_size=5)
    save_prior(prior, "mcformer", tmp_path / "p.safetensors")
    stored = safetensors.torch.load_file(tmp_path / "p.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float16}
    for name, value in invdiff.load_prior(tmp_path / "p.safetensors").state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, prior.state_dict()[name].half().float()), name


def test_loaded_prior_is_frozen(weights):
    prior = invdiff.load_prior(weights)
    assert not prior.training
    assert not any(p.requires_grad for p in prior.parameters())


def test_header(tiny_prior, tmp_path):
    prior = tiny_prior(kernel_size=5, weights="elsewhere.safetensors")
    save_prior(prior, "mcformer", tmp_path / "p.safetensors", note={"step": 3})
    header = header_of(tmp_path / "p.safetensors")
    assert header["format"] == "invdiff-prior/1"
    assert header["kind"] == "mcformer"
    assert json.loads(header["note"]) == {"step": 3}
    settings = json.loads(header["settings"])
    assert "weights" not in settings
    assert settings["value_range"] == [-1.0, 1.0]
    assert settings["network"]["kernel_size"] == 5


def test_header_of_any_length(tiny_prior, tmp_path):
    """The file begins with the header's length, which may look like the first bytes of a pickle."""
    prior, path = tiny_prior(kernel_size=5), tmp_path / "p.safetensors"
    for length in range(0, 264, 8):
        save_prior(prior, "mcformer", path, note="x" * length)
        if path.read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no header began with 0x80")
    assert invdiff.load_prior(path).settings == prior.settings
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        invdiff.load_prior(path)


def test_failed_write_leaves_the_old_file(tiny_prior, tmp_path, monkeypatch):
    path = tmp_path / "p.safetensors"
    save_prior(tiny_prior(kernel_size=5), "mcformer", path)
    before = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        save_prior(tiny_prior(kernel_size=5, seed=1), "mcformer", path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_truncated(weights, tmp_path, recipe, refused, share):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(weights.read_bytes()[: int(share * weights.stat().st_size)])
    message = refused("run", recipe(weights=path), "-o", tmp_path / "out")
    assert f"{path}: not a readable safetensors file" in message
    assert not (tmp_path / "out").exists()


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        import os

        return os.mkdir, (self.mark,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("way", ["pickle", "torch", "old torch"])
@pytest.mark.parametrize("name", ["p.pth", "p.safetensors"])
def test_pickle_is_refused_and_never_run(tmp_path, recipe, refused, way, name):
    path, mark = tmp_path / name, tmp_path / "mark"
    if way == "pickle":
        path.write_bytes(pickle.dumps(Trap(mark)))
    else:
        torch.save({"a": Trap(mark)}, path, _use_new_zipfile_serialization=way == "torch")
    message = refused("run", recipe(weights=path), "-o", tmp_path / "out")
    assert f"{path}: this is a pickle" in message
    assert "weights import" in message
    refused("weights", "import", path, "-o", tmp_path / "imported.safetensors")
    assert not mark.exists()
    assert not (tmp_path / "imported.safetensors").exists()


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("degradation.kernel_size=5", "prior: the prior estimates 21x21 parameters, the recipe's degradation has 5x5"),
        ("degradation.scale=2", "prior: the prior is for scale 4, the recipe's degradation has scale 2"),
        ("prior.value_range=[0, 1]", "was trained with value_range = (-1.0, 1.0), the recipe asks for (0.0, 1.0)"),
        ("prior.timesteps=500", "was trained with timesteps = 1000, the recipe asks for 500"),
        ("prior.preconditioning=none", "was trained with preconditioning = residual, the recipe asks for none"),
        ("prior.scale=2", "was trained with scale = 4, the recipe asks for 2"),
        ("prior.network=small", "was trained with network = "),
    ],
)
def test_weights_for_something_else(recipe, refused, tmp_path, assignment, expected):
    message = refused("run", recipe(), "-o", tmp_path / "out", "--set", assignment)
    assert expected in message
    assert not (tmp_path / "out").exists()  # refused before the first step


@pytest.mark.parametrize("agreed", ["scale=4", "value_range=[-1, 1]", "timesteps=1000", "preconditioning=residual"])
def test_settings_that_agree_are_accepted(recipe, cli, tmp_path, agreed):
    result = cli("run", recipe(), "-o", tmp_path / "out", "--quiet", "--set", f"prior.{agreed}")
    assert (result.code, result.err) == (0, "")


def test_recipe_without_weights(recipe, refused):
    path = recipe((", weights: WEIGHTS", ""))
    message = refused("run", path)
    assert message.startswith(f"{path}:10: prior: names no weights")
    assert message.endswith(
        "'invdiff train RECIPE --data PHOTOS -o runs/tiny' makes them, "
        "then --set prior.weights=runs/tiny/weights.safetensors"
    )


def test_weights_that_a_training_makes(recipe, refused, tmp_path):
    """The error ends in the command: with the recipe itself, or with one in train/ beside it of the folder's name."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "wide.yaml").touch()
    for weights, section, name in (
        ("runs/some/wide/weights.safetensors", "", tmp_path / "train" / "wide.yaml"),
        ("runs/some/narrow/weights.safetensors", "", "RECIPE"),
        ("runs/some/narrow/weights.safetensors", "\ntrain: {crop: 32}", tmp_path / "tiny.yaml"),
    ):
        path = recipe(("seed: 3", f"seed: 3{section}"), weights=weights)
        folder = weights.removesuffix("/weights.safetensors")
        for command in (("run", path), ("info", path), ("eval", path, path.parent, "-o", tmp_path / "out")):
            (path.parent / "a.png").touch()
            assert refused(*command).endswith(f"; 'invdiff train {name} --data PHOTOS -o {folder}' makes them")


def test_the_ablations_say_how_their_networks_are_made(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nobody has trained them
    folder = Path(__file__).resolve().parents[2] / "recipes" / "ablations"
    if not folder.is_dir():
        pytest.skip("not in a checkout")
    for path in sorted(folder.glob("*.yaml")):
        command = refused("info", path).rpartition("; ")[2]
        made = re.fullmatch(r"'invdiff train (\S+) --data PHOTOS -o (runs/ablations/\w+)' makes them", command)
        assert made, command
        assert Path(made[1]).is_file()


BUNDLE = """
from invdiff.hookspecs import hookimpl
from invdiff_mcformer.prior import MCFormerPrior

class Mine(MCFormerPrior):
    pass

@hookimpl
def register_priors(register):
    register("mcformer", Mine)
"""


def test_unknown_name_lists_the_bundled(tmp_path, monkeypatch, tiny_prior):
    from importlib.metadata import EntryPoint

    folder = tmp_path / "planted_bundle"
    folder.mkdir()
    (folder / "__init__.py").write_text(BUNDLE)
    for name in ("beta", "alpha"):
        prior = tiny_prior(kernel_size=5, timesteps=len(name))
        save_prior(prior, "mcformer", folder / "weights" / f"{name}.safetensors")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    planted = discover([EntryPoint("bundle", "planted_bundle", "invdiff")])
    assert planted.failures == []
    with pytest.raises(WeightsError) as error:
        load_prior("gamma", planted)
    assert str(error.value) == "no weights 'gamma': no such file, and bundled are alpha, beta"
    assert load_prior("alpha", planted).settings.timesteps == 5


def test_unknown_name_in_a_recipe(recipe, refused):
    path = recipe(weights="no_such_weights")
    message = refused("run", path)
    assert message.startswith(f"{path}:10: prior: no weights 'no_such_weights': no such file, and bundled are ")


def test_other_kind(recipe, refused, altered):
    path = altered(kind="other")
    assert f"{path}: weights of a 'other', the recipe's prior is a 'mcformer'" in refused("run", recipe(weights=path))


HEADERS = {
    "no format": {"format": None},
    "later format": {"format": "invdiff-prior/2"},
    "no kind": {"kind": None},
    "no settings": {"settings": None},
    "settings are no JSON": {"settings": "{"},
    "unknown setting": {"settings": '{"depth": 3}'},
    "settings of another shape": {"settings": "{}"},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_broken_header(recipe, refused, altered, header):
    path = altered(**header)
    assert str(path) in refused("run", recipe(weights=path))
    with pytest.raises(invdiff.InvdiffError):
        invdiff.load_prior(path)


def test_missing_and_foreign_tensors(recipe, refused, altered, weights):
    tensors = safetensors.torch.load_file(weights)
    missing = dict(list(tensors.items())[1:])
    assert "tensors do not fit its settings" in refused("run", recipe(weights=altered(missing)))
    foreign = {**tensors, "extra": torch.zeros(1)}
    assert "tensors do not fit its settings" in refused("run", recipe(weights=altered(foreign)))


def test_plain_safetensors(tmp_path, recipe, refused):
    path = tmp_path / "plain.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    assert f"{path}: safetensors, but not an invdiff prior" in refused("run", recipe(weights=path))


def test_folder_is_no_weights(tmp_path, recipe, refused):
    assert f"no weights '{tmp_path}'" in refused("run", recipe(weights=tmp_path))


def test_import_of_what_is_no_checkpoint(tmp_path, refused):
    out = tmp_path / "out.safetensors"
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    expected = {
        "text.pth": "not a checkpoint of tensors",
        "other.pth": "a layout that no prior knows (it begins with conv.weight)",
        "list.pth": "holds no tensors by name",
        "none.pth": "no such file",
    }
    for name, reason in expected.items():
        assert refused("weights", "import", tmp_path / name, "-o", out).startswith(f"{tmp_path / name}: {reason}")
    assert not out.exists()


def test_registered_kind_is_what_the_header_names(weights):
    assert type(invdiff.load_prior(weights)) is registry().get("prior", header_of(weights)["kind"]).cls


def test_cards_tell_the_hashes():
    """Every bundled file has a model card beside it with its sha256, is small, and loads."""
    from invdiff.components.discovery import registry
    from invdiff.components.weights import bundled

    found = bundled(registry())
    assert "blindsr_x4_s" in found
    for name, path in found.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() in path.with_suffix(".md").read_text(), name
        assert path.stat().st_size < 12e6
        assert not invdiff.load_prior(name).training
