"""Plugins: whatever a foreign module does, it is one FAILED line, and runs that do not use it go on."""

from __future__ import annotations

from importlib.metadata import EntryPoint, distributions

import pytest

from invdiff.components.discovery import discover, registry
from invdiff.errors import PluginError

GOOD = """
from invdiff import Guidance, Settings
from invdiff.hookspecs import hookimpl

class Nudge(Guidance):
    class Settings(Settings):
        amount: float = 1.0

@hookimpl
def register_guidances(register):
    register("nudge", Nudge, summary="pushes a little", reference="none")
"""

HALFWAY = GOOD + '    raise RuntimeError("lost\\n  the way")\n'

LATE = (
    GOOD
    + """
@hookimpl
def register_priors(register):
    raise RuntimeError("no prior today")
"""
)

FAILING = {
    "import error": ("import module_that_nobody_has", "ModuleNotFoundError: No module named 'module_that_nobody_has'"),
    "syntax": ("def", "SyntaxError: invalid syntax"),
    "exit at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "misspelt hook": (GOOD.replace("register_guidances", "register_guidance"), "register_guidance"),
    "wrong argument": (GOOD.replace("(register)", "(registrar)"), "registrar"),
    "raises midway": (HALFWAY, "RuntimeError: lost the way"),
    "raises in a later hook": (LATE, "RuntimeError: no prior today"),
    "wrong base": (GOOD.replace("Nudge(Guidance)", "Nudge"), "guidance 'nudge' is not a subclass of invdiff.Guidance"),
    "not a class": (GOOD.replace('"nudge", Nudge', '"nudge", 3'), "guidance 'nudge' is not a subclass of"),
    "foreign settings": (GOOD.replace("class Settings(Settings)", "class Settings"), "guidance 'nudge': its Settings"),
    "wrong hook": (GOOD.replace("register_guidances", "register_priors"), "prior 'nudge' is not a subclass of"),
}


def of_plugins(registry):
    """What plugins registered: all but the core's own."""
    return {key for key, found in registry.components.items() if any(c.plugin != "invdiff" for c in found)}


@pytest.fixture
def found(site):
    """What discovery makes of the planted plugins, and of no others."""
    return lambda: discover([e for d in distributions(path=[str(site)]) for e in d.entry_points])


def test_good_plugin(plant, found):
    plant("kind_ones", GOOD)
    registered = found()
    assert registered.failures == []
    one = registered.get("guidance", "nudge")
    assert (one.summary, one.reference) == ("pushes a little", "none")
    assert (one.plugin, one.owner) == ("kind_ones", "kind_ones 1.2")


@pytest.mark.parametrize(("code", "reason"), FAILING.values(), ids=FAILING.keys())
def test_failing_plugin(plant, found, code, reason):
    plant("bad", code)
    plant("good", GOOD.replace("nudge", "shove"))
    registered = found()
    assert [f.plugin for f in registered.failures] == ["bad"]
    assert registered.failures[0].owner == "bad 1.2"
    assert reason in registered.failures[0].reason
    assert "\n" not in registered.failures[0].reason
    assert of_plugins(registered) == {("guidance", "shove")}  # nothing of the bad one remains


def test_missing_module():
    registered = discover([EntryPoint("ghost", "planted_ghost", "invdiff")])
    assert registered.failures[0].reason == "ModuleNotFoundError: No module named 'planted_ghost'"


def test_failure_shows_in_the_list_and_nothing_else_breaks(plant, cli):
    plant("bad", "import module_that_nobody_has")
    result = cli("plugins")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    (line,) = [line for line in lines if "FAILED" in line]
    assert line.split()[:4] == ["plugin", "bad", "bad", "1.2"]
    assert line.endswith("FAILED: ModuleNotFoundError: No module named 'module_that_nobody_has'")
    assert any(line.startswith("degradation") and "blindsr" in line for line in lines)


def test_list(cli, plant):
    import invdiff

    plant("kind_ones", GOOD)
    lines = cli("plugins").out.splitlines()
    (ours,) = [line for line in lines if line.split()[1] == "blindsr"]
    assert ours.split()[0] == "degradation"
    assert f"invdiff {invdiff.__version__}" in ours
    (theirs,) = [line for line in lines if line.split()[1] == "nudge"]
    assert theirs.split(maxsplit=4) == ["guidance", "nudge", "kind_ones", "1.2", "pushes a little"]
    assert ours.index("invdiff ") == theirs.index("kind_ones")  # columns, whatever the longest name
    assert {line.index(line.split()[1]) for line in lines} == {13}
    longest = max(lines, key=lambda line: len(line.split()[1]))
    assert len(longest.split()[1]) > 15
    assert longest.index("invdiff ") == ours.index("invdiff ")


def test_failure_is_named_by_a_recipe_that_needs_it(plant, recipe, refused):
    plant("bad", HALFWAY)
    path = recipe(("kind: kernel_aware", "kind: nudge"))
    message = refused("run", path)
    assert message.startswith(f"{path}:12: guidance.0.kind: no guidance is called 'nudge'")
    assert "bad (bad 1.2) FAILED: RuntimeError: lost the way" in message


def test_failure_does_not_touch_a_recipe_that_does_not_need_it(plant, recipe, cli, tmp_path):
    plant("bad", HALFWAY)
    assert cli("run", recipe(), "-o", tmp_path / "out").code == 0


def test_third_party_settings_are_checked(plant, recipe, refused):
    plant("kind_ones", GOOD)
    path = recipe(("kind: kernel_aware\n    strength: 1.0", "kind: nudge\n    amuont: 2"))
    assert refused("run", path) == f"{path}:13: guidance.0.amuont: unknown key (did you mean 'amount'?)"


def test_third_party_guidance_runs(plant, recipe, cli, tmp_path, report):
    push = "    def correct(self, step, x_next):\n        return x_next + self.settings.amount\n"
    plant("kind_ones", GOOD.replace("\n@hookimpl", f"{push}\n@hookimpl"))
    path = recipe(("kind: kernel_aware\n    strength: 1.0", "kind: nudge\n    amount: 50"))
    assert cli("run", path, "-o", tmp_path / "out").code == 0
    assert report(tmp_path / "out", whole=True)["settings"]["guidance"] == [{"kind": "nudge", "amount": 50.0}]


def test_duplicate_kind_is_an_error_only_when_used(plant, found, recipe, cli, refused, tmp_path):
    plant("first", GOOD)
    plant("second", GOOD, version="3")
    with pytest.raises(PluginError, match=r"twice, by first \(first 1\.2\) and second \(second 3\)"):
        found().get("guidance", "nudge")
    path = recipe(("kind: kernel_aware", "kind: nudge"), name="uses.yaml")
    message = refused("run", path)
    assert message.startswith(f"{path}:12: guidance.0.kind: ")
    assert "first (first 1.2)" in message
    assert "second (second 3)" in message
    assert cli("run", recipe(), "-o", tmp_path / "out").code == 0
    twice = [line for line in cli("plugins").out.splitlines() if "FAILED: registered twice" in line]
    assert len(twice) == 2


def test_same_kind_in_two_roles(plant, found):
    both = (
        GOOD
        + """
from invdiff import Degradation, KernelSpace
class Blur(Degradation):
    parameters = KernelSpace(3)

@hookimpl
def register_degradations(register):
    register("nudge", Blur)
"""
    )
    plant("both", both)
    registered = found()
    assert registered.failures == []
    assert of_plugins(registered) == {("guidance", "nudge"), ("degradation", "nudge")}


def test_taken_name_of_ours(plant, recipe, refused):
    plant("rival", GOOD.replace('"nudge"', '"kernel_aware"'))
    message = refused("run", recipe())
    assert "guidance 'kernel_aware' is registered twice" in message
    assert "rival (rival 1.2)" in message


def test_limit(plant, found, monkeypatch, recipe, cli, refused, tmp_path):
    plant("first", GOOD)
    plant("second", GOOD.replace("nudge", "shove"))
    monkeypatch.setenv("INVDIFF_PLUGINS", "second, third")
    assert of_plugins(found()) == {("guidance", "shove")}
    monkeypatch.setenv("INVDIFF_PLUGINS", "")
    assert len(of_plugins(found())) == 2
    monkeypatch.setenv("INVDIFF_PLUGINS", "blindsr,mcformer")
    assert "no guidance is called 'kernel_aware'" in refused("run", recipe())
    assert cli("run", recipe(), "--set", "guidance=[]", "-o", tmp_path / "out").code == 0


def test_limit_settles_a_duplicate(plant, found, monkeypatch):
    plant("first", GOOD)
    plant("second", GOOD)
    monkeypatch.setenv("INVDIFF_PLUGINS", "second")
    assert found().get("guidance", "nudge").plugin == "second"


def test_limited_plugin_is_not_imported(plant, found, monkeypatch, tmp_path):
    plant("loud", f"import pathlib; pathlib.Path({str(tmp_path / 'touched')!r}).touch()")
    monkeypatch.setenv("INVDIFF_PLUGINS", "other")
    found()
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("role", "kind", "hint"),
    [
        ("degradation", "blindrs", "(did you mean 'blindsr'?)"),
        ("prior", "mcfromer", "(did you mean 'mcformer'?)"),
        ("guidance", "kernelaware", "(did you mean 'kernel_aware'?)"),
    ],
)
def test_unknown_kind_suggests(role, kind, hint):
    with pytest.raises(PluginError) as error:
        registry().get(role, kind)
    assert str(error.value).startswith(f"no {role} is called '{kind}' {hint}")


def test_unknown_kind_far_from_all_lists_the_known():
    with pytest.raises(PluginError, match=r"\(known: .*mcformer.*\)"):
        registry().get("prior", "zzzzzz")
