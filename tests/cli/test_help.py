"""Help texts and completion: what a shell is told, by the shell itself where it is there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from invdiff.cli import main
from invdiff.cli.help import SECTIONS, Command

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def commands(group=main, path="invdiff"):
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


@pytest.mark.parametrize("name", ["run", "eval", "train"])
def test_long_help_has_examples_and_sections(cli, name):
    text = cli(name, "--help").out
    command = main.commands[name]
    assert len(command.examples) == 3
    places = [text.index(f"{title}:") for title in ("Examples", *SECTIONS) if f"{title}:" in text]
    assert places == sorted(places)
    assert len(places) >= 4
    for line, what in command.examples:
        assert f"\n  {line}\n" in text
        assert what.split()[0] in text
    for option in command.params:
        if isinstance(option, click.Option):
            assert text.count(f"{option.opts[0]} ") + text.count(f"{option.opts[0]},") >= 1
            assert sum(option.name in names for names in SECTIONS.values()) == 1, option.name


def test_short_help_has_no_sections(cli):
    assert "\nOptions:\n" in cli("plugins", "--help").out


def test_examples_are_commands_that_the_docs_run():
    """Each stands in the docs, whose commands a test runs; and each parses as it stands."""
    if not DOCS.exists():
        pytest.skip("not in a checkout")
    lines = {line for page in DOCS.parent.glob("*.md") for line in page.read_text().splitlines()}
    found = [example for _, command in commands() if isinstance(command, Command) for example, _ in command.examples]
    assert len(found) > 10
    assert [line for line in found if line not in lines] == []


def test_every_option_says_what_it_is():
    for name, command in commands():
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, f"{name} {parameter.opts}"


# --- completion


@pytest.fixture
def complete(tmp_path, monkeypatch):
    """What is offered for the last word of a command line, in a folder with a recipe, a folder and another file."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yaml", "photo.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()

    def offered(line):
        *words, begun = line.split(" ")
        return [item.value for item in ShellComplete(main, {}, "invdiff", "_X").get_completions(words, begun)]

    return offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ru", ["run"]),
        ("run blindsr", ["blindsr_x4", "blindsr_x4_photo", "blindsr_x4_vivid"]),
        ("run m", ["mine.yaml", "more/"]),
        ("recipes show deblur_tv", ["deblur_tv"]),
        ("run blindsr_x4 --set sampler.ste", ["sampler.steps="]),
        ("run blindsr_x4 --set guidance.0.stren", ["guidance.0.strength="]),
        ("run blindsr_x4 --set sampler.spacing=", [f"sampler.spacing={x}" for x in ("uniform", "quadratic", "karras")]),
        ("run blindsr_x4 --set input.syn", ["input.synthesize="]),
        ("run blindsr_x4 --set input.synthesize=t", ["input.synthesize=true"]),
        ("run deblur_tv --set prior.sig", ["prior.sigma_max="]),
        ("run no_such_recipe --set sampler.ste", []),
        ("check kernel_u", ["kernel_update"]),
        ("check kernel_update --operator blinds", ["blindsr"]),
        ("eval blindsr_x4 x --method wie", ["wiener"]),
        ("eval blindsr_x4 x --method ora", ["oracle"]),
        ("eval blindsr_x4 x --kernels gauss", ["gaussian8"]),
        ("run blindsr_x4 --device c", ["cpu", "cuda"]),
    ],
)
def test_completion(complete, line, offered):
    assert complete(line) == offered


def test_every_key_of_a_recipe_is_completed(complete, refused):
    """And each is one that ``--set`` takes: a wrong value is refused with the key's name, not as unknown."""
    keys = complete("run blindsr_x4 --set ")
    assert len(keys) > 25
    for key in keys[::4]:
        message = refused("info", "blindsr_x4", "--set", f"{key}{{no: such}}")
        assert "unknown key (" not in message or ".no: unknown key" in message, message


@pytest.mark.skipif(not shutil.which("bash") or os.name == "nt", reason="needs bash")
def test_bash_completes(tmp_path):
    """The script that the docs name, in bash: keys without a space behind, ``key=value`` although bash splits it."""
    script = """
    eval "$(_INVDIFF_COMPLETE=bash_source invdiff)"
    compopt() { echo "compopt $2"; }  # outside a completion there is none
    offer() {
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _invdiff_completion invdiff
        echo "${COMPREPLY[*]}"
    }
    offer invdiff run blindsr_x
    offer invdiff run blindsr_x4 --set sampler.ste
    offer invdiff run blindsr_x4 --set sampler.spacing = k
    """
    (tmp_path / "invdiff").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m invdiff "$@"\n')
    (tmp_path / "invdiff").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    names, *key, value = done.stdout.splitlines()
    assert names == "blindsr_x4 blindsr_x4_photo blindsr_x4_vivid", done.stderr
    assert key == ["compopt nospace", "sampler.steps="]
    assert value == "karras"
