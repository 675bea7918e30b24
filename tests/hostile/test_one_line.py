"""Whatever happens, a command ends in one line and an exit code; a fault of ours leaves a file to report it with."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile

import pytest
from cases import PICTURES

FAULTY = """
import torch
from invdiff.hookspecs import hookimpl
from invdiff_blindsr.operator import BlindSR

class Faulty(BlindSR):
    def output_shape(self, size):
        raise ArithmeticError(f"two\\nand {torch.full((2, 3, 8, 8), 0.123)}")

class Late(BlindSR):
    def lift(self, y):
        raise KeyError("x")

@hookimpl
def register_degradations(register):
    register("faulty", Faulty)
    register("late", Late)
"""


@pytest.fixture
def crashes(tmp_path, monkeypatch):
    """Lists what was kept of crashes, in a temporary folder of this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return lambda: list(folder.glob("invdiff-crash-*"))


@pytest.fixture
def faulty(plant, recipe, training, photos, tmp_path):
    """A training whose operator, a plugin's, raises what nobody foresees."""
    plant("faulty", FAULTY)
    path = recipe(("kind: blindsr", "kind: faulty"), text=training.read_text())
    return ["train", path, "--data", photos, "-o", tmp_path / "out"]


def test_a_fault_is_one_line_with_its_place_and_a_file(cli, faulty, crashes):
    done = cli(*faulty)
    (kept,) = crashes()
    assert (done.code, done.out, done.err.count("\n")) == (70, "", 1)
    assert re.match(r"error: ArithmeticError at invdiff/training/trainer\.py:\d+: two and tensor\(", done.err)
    assert done.err.endswith(f"; this is a fault of invdiff, please report it with {kept}\n")
    assert kept.suffix == ".txt"


def test_the_file_says_what_a_report_needs_and_shows_no_pixels(cli, faulty, crashes, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["invdiff", "run", "my recipe.yaml"])
    cli(*faulty)
    (kept,) = crashes()
    text = kept.read_text()
    for words in ("invdiff 0.", "torch 2.", "faulty 1.2", "command: invdiff run 'my recipe.yaml'"):
        assert words in text
    assert "planted_faulty.py" in text
    assert text.endswith("ArithmeticError: two and tensor(\n")
    assert "0.1230" not in text
    if os.name == "posix":
        assert kept.stat().st_mode & 0o077 == 0, "a command may hold names that are nobody else's business"


def test_debug_shows_the_traceback_of_a_fault(cli, faulty, crashes):
    done = cli(*faulty, "--debug")
    assert done.code == 70
    assert "Traceback (most recent call last)" in done.err
    assert "planted_faulty.py" in done.err


def test_where_nothing_can_be_kept_the_line_stands_alone(cli, faulty, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    done = cli(*faulty)
    assert done.code == 70
    assert done.err.endswith("please report it\n")


def test_a_fault_with_one_picture_names_kind_and_place(cli, plant, recipe, picture, crashes, tmp_path):
    plant("faulty", FAULTY)
    path = recipe(("kind: blindsr", "kind: late"))
    for command in (
        ["run", path, picture("a.png").parent],
        ["eval", path, picture("b.png", 64, 64, folder=tmp_path / "c").parent],
    ):
        done = cli(*command, "-o", tmp_path / command[0], "--quiet")
        assert done.code == 1
        (line,) = done.err.splitlines()
        assert re.search(r"^failed: .*: KeyError at invdiff/[\w/]+\.py:\d+: 'x'$", line), line
    assert crashes() == []


def test_what_goes_on_after_a_fault_says_it_all_the_same(crashes, capsys):
    """As the page does: the same line, the same file."""
    from invdiff.cli.main import say_error

    with pytest.raises(ArithmeticError) as caught:
        raise ArithmeticError("odd")
    assert say_error(caught.value) == 70
    (kept,) = crashes()
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert re.match(r"error: ArithmeticError at .*: odd; this is a fault of invdiff", said.err)
    assert said.err.endswith(f"please report it with {kept}\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_no_fault(refused, recipe, crashes, monkeypatch, error):
    import invdiff.assembly

    def large(*arguments, **more):
        raise error

    monkeypatch.setattr(invdiff.assembly, "assemble", large)
    assert refused("run", recipe()).startswith("not enough memory (asked for at invdiff/cli/run.py:")
    assert crashes() == []


def test_a_file_that_the_system_refuses_is_no_fault(refused, recipe, crashes, monkeypatch):
    import invdiff.assembly

    def forbidden(*arguments, **more):
        raise PermissionError(errno.EACCES, "Permission denied", "some/file")

    monkeypatch.setattr(invdiff.assembly, "assemble", forbidden)
    assert refused("run", recipe()) == "some/file: Permission denied"


def test_ctrl_c_stays_what_it_is(cli, recipe, crashes, monkeypatch):
    import invdiff.assembly

    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(invdiff.assembly, "assemble", interrupted)
    done = cli("run", recipe())
    assert (done.code, done.err.strip()) == (130, "interrupted")
    assert crashes() == []


def test_messages_lose_values_and_keep_shapes():
    from invdiff.errors import without_values

    assert without_values("size mismatch: [1, 3, 64, 64] and [3]") == "size mismatch: [1, 3, 64, 64] and [3]"
    assert without_values("got tensor([[0.5, 0.25], [0.1, 0.2]])") == "got tensor("
    assert without_values("got array([[ 12  13  14  15  16  17]])") == "got array("
    assert len(without_values("x" * 10_000)) < 320


def test_what_decoders_mutter_is_not_said(process, recipe, tmp_path):
    """Pillow warns and tifffile logs, in lines of their own; the failure is one."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i, name in enumerate(("TIFF: cut", "TIFF: a circle of pages", "TIFF: far beyond")):
        (folder / f"{i}.tif").write_bytes(PICTURES[name][0])
    done = process("run", recipe(), folder, "-o", tmp_path / "out", "--quiet")
    assert (done.code, done.out) == (1, "")
    assert [line.partition(": ")[0] for line in done.err.splitlines()] == ["failed"] * 3


# --- outputs that are closed, full or read no further

SHELL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a shell and /dev/full")


def in_a_shell(redirected, arguments, *given):
    command, environment = arguments(*given)
    line = f'"$@" {redirected}'
    return subprocess.run(
        ["sh", "-c", line, "sh", *command], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@SHELL
def test_an_output_that_is_closed_is_no_reason_to_stop(arguments, recipe, tmp_path):
    done = in_a_shell(">&- 2>&-", arguments, "run", recipe(), "-o", tmp_path / "out")
    assert done.returncode == 0
    assert (tmp_path / "out" / "astronaut.png").exists()
    assert in_a_shell(">&-", arguments, "plugins").returncode == 0


@SHELL
def test_an_output_that_is_full(arguments):
    done = in_a_shell("> /dev/full", arguments, "plugins")
    assert (done.returncode, done.stderr) == (2, "error: standard output: No space left on device\n")


@SHELL
@pytest.mark.parametrize("redirected", ["2>&-", "2> /dev/full"])
def test_an_error_that_cannot_be_said_has_its_exit_code(arguments, redirected):
    assert in_a_shell(redirected, arguments, "run", "nothing").returncode == 2


@SHELL
def test_a_reader_that_has_gone(arguments):
    done = in_a_shell("| head -c 1", arguments, "schema")
    assert done.stderr == ""
