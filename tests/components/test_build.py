"""A foreign constructor may raise anything: whoever builds the component says so in one line."""

from __future__ import annotations

import pytest

BROKEN = """
from invdiff import Degradation, Guidance, KernelSet, Method, PriorNet, PriorSettings
from invdiff.hookspecs import hookimpl
from invdiff_blindsr.operator import BlindSR

class Operator(BlindSR):
    def __init__(self, settings=None):
        raise RuntimeError("no operator\\n today")

class Pull(Guidance):
    def __init__(self, settings=None):
        raise KeyError("no guidance today")

class Prior(PriorNet):
    Settings = PriorSettings
    def __init__(self, settings):
        raise ZeroDivisionError
    def forward(self, x_t, t, condition):
        pass

class Way(Method):
    def __init__(self, settings=None):
        raise RuntimeError("no method today")
    def restore(self, case):
        pass

class Set(KernelSet):
    def __init__(self, settings=None):
        raise RuntimeError("no kernels today")
    def kernel(self, index, degradation, generator):
        pass

@hookimpl
def register_degradations(register):
    register("broken_operator", Operator)

@hookimpl
def register_guidances(register):
    register("broken_guidance", Pull)

@hookimpl
def register_priors(register):
    register("broken_prior", Prior)

@hookimpl
def register_methods(register):
    register("broken_method", Way)

@hookimpl
def register_kernels(register):
    register("broken_kernels", Set)
"""
OPERATOR = ("kind: blindsr", "kind: broken_operator")
GUIDANCE = ("- kind: kernel_aware\n    strength: 1.0", "- kind: broken_guidance")
PRIOR = ("prior: {kind: mcformer, weights: WEIGHTS}", "prior: {kind: broken_prior}")


@pytest.fixture
def broken(plant):
    plant("broken", BROKEN)


@pytest.mark.parametrize("command", ["run", "info", "eval"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (OPERATOR, "degradation 'broken_operator' (broken 1.2) cannot be built: RuntimeError: no operator today"),
        (GUIDANCE, "guidance 'broken_guidance' (broken 1.2) cannot be built: KeyError: 'no guidance today'"),
    ],
)
def test_commands_that_build_a_pipeline(broken, recipe, refused, picture, tmp_path, command, change, words):
    path = recipe(change)
    folder = picture("a.png").parent
    more = {"run": ["-o", tmp_path / "out"], "info": [], "eval": [folder, "-o", tmp_path / "out"]}[command]
    if command == "info" and change is OPERATOR:
        pytest.skip("the cost of a recipe needs no operator")
    message = refused(command, path, *more)
    assert message.startswith(f"{path}:")  # and the line
    assert message.endswith(words)


def test_info_builds_an_untrained_prior(broken, recipe, refused):
    path = recipe(PRIOR)
    assert refused("info", path).endswith("prior 'broken_prior' (broken 1.2) cannot be built: ZeroDivisionError")


@pytest.mark.parametrize("role", ["operator", "prior"])
def test_train(broken, training, photos, refused, tmp_path, role):
    text = training.read_text()
    if role == "operator":
        text = text.replace("kind: blindsr", "kind: broken_operator")
    else:
        text = text[: text.index("prior:")] + "prior: {kind: broken_prior}\n" + text[text.index("sampler:") :]
    training.write_text(text)
    assert "cannot be built" in refused("train", training, "--data", photos, "-o", tmp_path / "run")


@pytest.mark.parametrize("kind", ["broken_operator", "broken_guidance", "broken_prior"])
def test_check(broken, refused, kind):
    assert "cannot be built" in refused("check", kind)


@pytest.mark.parametrize(("option", "kind"), [("--method", "broken_method"), ("--kernels", "broken_kernels")])
def test_eval_of_others(broken, recipe, refused, picture, tmp_path, option, kind):
    message = refused("eval", recipe(), picture("a.png").parent, "-o", tmp_path / "out", option, kind)
    assert message.startswith(f"{option} {kind}: ")
    assert "cannot be built: RuntimeError: no " in message


def test_weights_of_a_kind_that_cannot_be_built(broken, recipe, refused, weights, tmp_path):
    import safetensors.torch

    tensors = safetensors.torch.load_file(weights)
    header = {"format": "invdiff-prior/1", "kind": "broken_prior", "settings": "{}", "note": "null"}
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors", header)
    path = recipe(("kind: mcformer", "kind: broken_prior"), weights=tmp_path / "w.safetensors")
    assert refused("run", path, "-o", tmp_path / "out").endswith("cannot be built: ZeroDivisionError")


def test_the_cause_is_shown_with_debug(broken, recipe, cli, tmp_path):
    result = cli("run", recipe(OPERATOR), "-o", tmp_path / "out", "--debug")
    assert result.code == 2
    assert "RuntimeError: no operator" in result.err
    assert result.err.count("Traceback") >= 1
