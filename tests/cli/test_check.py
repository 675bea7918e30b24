"""``invdiff check`` and ``invdiff plugins --json``: exit codes, words, and what is refused in one line."""

from __future__ import annotations

import json

import pytest

STRIDE = ("check", "blindsr", "--set", "downsample=stride")


@pytest.mark.parametrize("kind", ["blindsr", "motion", "kernel_aware", "kernel_update", "proximal", "known"])
def test_ours_conform(cli, kind):
    result = cli("check", kind)
    assert result.code == 0, result.out
    assert " FAILED " not in result.out
    assert f"{kind}, invdiff " in result.out.splitlines()[0]
    assert " passed" in result.out.splitlines()[-1]


def test_a_prior_conforms_trained_or_not(cli, weights):
    for setting in ("network=small", f"weights={weights}"):
        result = cli("check", "mcformer", "--set", setting)
        assert result.code == 0, result.out


def test_a_guidance_is_tried_on_an_operator(cli):
    assert cli("check", "kernel_aware", "--operator", "blindsr").code == 0


def test_a_failure_says_what_and_why(cli):
    """Strided sampling keeps every block's first pixel, the lift takes it for the block's middle: 1.5 pixels apart."""
    result = cli(*STRIDE)
    assert result.code == 1
    (line,) = [line for line in result.out.splitlines() if "FAILED" in line]
    for word in ("no_blur_changes_nothing: expected", "; got ", "; usual cause: a shift of half a pixel"):
        assert word in line
    assert result.out.splitlines()[-1] == "19 passed, 1 failed"


def test_a_failure_may_be_expected(cli):
    result = cli(*STRIDE, "--expected-failure", "no_blur_changes_nothing=sampled at the corner")
    assert result.code == 0
    assert "  expected  no_blur_changes_nothing: sampled at the corner\n" in result.out
    assert cli("check", "motion", "--expected-failure", "adjoint=none").code == 1  # it does not come


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("motin",), "no component is called 'motin' (did you mean 'motion'?)"),
        (("motion", "--set", "paddin=valid"), "--set paddin=valid: paddin: unknown key (did you mean 'padding'?)"),
        (("motion", "--set", "kernel_size=4"), "--set kernel_size=4: kernel_size: kernel_size must be odd, got 4"),
        (("motion", "--expected-failure", "adjont=x"), "--expected-failure: no check is called 'adjont' (did you mean"),
        (("motion", "--operator", "blindsr"), "--operator blindsr: goes with a guidance, and motion is none"),
        (("mcformer", "--set", "weights=blindsr_x4_s", "--set", "scale=2"), "scale"),
        (("mcformer", "--set", "weights='~nobody-of-this-name/x'"), "weights '~nobody-of-this-name/x': "),
        (("mcformer", "--set", "network.preset=[1]"), "unknown network '[1]'"),
        (
            ("mcformer", "--set", "network.head=box", "--set", "network.numbers=0"),
            "--set network.numbers=0: network.numbers",
        ),
        (("motion", "--set", "kernels=2026-13-45"), "the value is not valid YAML"),
        (("motion", "--expected-failure", "adjoint"), "write it as check=reason"),
        (("kernel_aware", "--operator", "mcformer"), "no degradation is called 'mcformer'"),
        (("mcformer", "--set", "weights=nowhere.safetensors"), "no weights 'nowhere.safetensors'"),
    ],
)
def test_mistakes_are_one_line(refused, arguments, message):
    assert message in refused("check", *arguments)


def test_plugins_as_json(cli):
    listing = json.loads(cli("plugins", "--json").out)
    assert listing["failures"] == []
    kinds = {(c["role"], c["kind"]) for c in listing["components"]}
    assert {("degradation", "motion"), ("prior", "mcformer"), ("guidance", "proximal")} <= kinds
    for c in listing["components"]:
        assert set(c) == {"role", "kind", "plugin", "owner", "summary", "reference", "conflict"}
        assert c["summary"]
        assert c["owner"].startswith("invdiff ")
