"""What comes from outside runs nothing, writes nothing into the terminal, and does not fill the memory."""

from __future__ import annotations

import csv
import json
import os
import re
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

from invdiff.errors import printable

POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 64
%%EndComments
0 0 64 64 rectfill showpage
%%EOF
"""


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A ``gs`` on the path that leaves a trace where it is run."""
    folder, trace = tmp_path / "bin", tmp_path / "gs_was_run"
    folder.mkdir()
    for name in ("gs", "gswin64c"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {trace}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return trace


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_postscript_is_no_picture_whatever_it_is_called(cli, refused, recipe, training, ghostscript, tmp_path, suffix):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / f"a{suffix}").write_bytes(POSTSCRIPT)
    path = recipe(name="other.yaml")
    for command in (["run", path, folder], ["eval", path, folder]):
        result = cli(*command, "-o", tmp_path / command[0])
        assert result.code == 1
        assert "not a picture that can be read" in result.err
    message = refused("train", training, "--data", folder, "-o", tmp_path / "train", "--quiet")
    assert "not a picture that can be read: " in message
    assert not ghostscript.exists()


@pytest.mark.parametrize(
    "kind", ["EPS", "ICO", "PCX", "SGI", "IM", "SPIDER", "XBM", "PDF", "ICNS", "DDS", "MSP", "PSD"]
)
def test_no_other_decoder_is_asked(cli, recipe, tmp_path, kind):
    """What Pillow would decode as well stays outside: every decoder is a way in."""
    mode = {"XBM": "1", "MSP": "1", "SPIDER": "F"}.get(kind, "RGB")
    folder = tmp_path / "in"
    folder.mkdir()
    if kind == "PSD":
        (folder / "a.png").write_bytes(b"8BPS\0\1" + bytes(600))
    else:
        Image.new(mode, (64, 64)).save(folder / "a.any", kind)  # Pillow remembers what suffix a kind was saved under
        (folder / "a.any").rename(folder / "a.png")
    result = cli("run", recipe(), folder, "-o", tmp_path / "out")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "not a picture that can be read" in result.err


# --- the terminal, and what others open

TITLE, CLEAR = "\x1b]0;owned\x07", "\x1b[2J"


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not possible")
@pytest.mark.parametrize("name", [TITLE, CLEAR, "two\nlines", "\u202egnp.a", "bell\x07", os.fsdecode(b"caf\xe9")])
def test_names_do_not_reach_the_terminal_raw(cli, recipe, picture, tmp_path, name):
    bad = tmp_path / "in" / f"{name}.png"
    picture("good.png")
    os.rename(picture("other.png"), tmp_path / "in" / f"good {name}.png")
    bad.write_bytes(b"nothing")
    result = cli("run", recipe(), tmp_path / "in", "-o", tmp_path / "out")
    assert result.code == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", result.out + result.err)
    assert result.err.count("failed: ") == 1
    missing = cli("run", recipe(), tmp_path / f"{name}.none", "-o", tmp_path / "out")
    assert missing.err.startswith("error: ")
    assert missing.err.count("\n") == 1
    assert "\x1b" not in missing.err


def test_keys_of_a_recipe_do_not_reach_the_terminal_raw(cli, recipe, tmp_path):
    path = recipe(("  steps: 2", '  "st\\e]0;owned\\aeps": 2'), name="raw.yaml")
    for arguments in (["run", path], ["run", recipe(), "--set", f"sampler.{CLEAR}=1"], ["run", recipe(), f"--{TITLE}"]):
        result = cli(*arguments, "-o", tmp_path / "out")
        assert result.code == 2
        assert "\x1b" not in result.err
        assert result.err.count("\n") == 1


def test_printable():
    assert printable("a\tb\n c") == "a b c"
    assert printable("naïve 猫 ↑") == "naïve 猫 ↑"
    assert printable(TITLE) == "\\x1b]0;owned\\x07"
    long = printable("x" * 100_000)
    assert len(long) < 2100
    assert " ... " in long


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not possible")
def test_names_in_tables_and_pages_are_text(cli, recipe, picture, tmp_path):
    folder = tmp_path / "<script>alert(1)<" / "img src=x onerror=alert(2)>"
    names = ["=HYPERLINK(1)", "[link](javascript:x)", "<b>bold<", "a|b"]
    for name in names:
        picture(f"{name}.png", 64, 64, folder=folder)
    variant = "<script>alert(3)</script>: sampler.steps=1"
    done = cli("eval", recipe(), folder, "-o", tmp_path / "out", "--variant", variant, "--quiet")
    assert done.code == 0, done.err
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert not re.search(r"(?<!\\)<(script|img|b)\b", summary)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<script>") == 1  # ours
    assert "<img src=x" not in page
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["picture"] for row in rows} == {"'=HYPERLINK(1)", *names[1:]}
    from invdiff.evaluation.results import read_csv

    assert {row.place.picture for row in read_csv(tmp_path / "out" / "results.csv")} == set(names)
    again = cli("eval", recipe(), folder, "-o", tmp_path / "out", "--variant", variant)
    assert "8 already done" in again.out


def test_errors_on_the_page_are_text(cli, recipe, picture, tmp_path):
    picture("a.png", 64, 64)
    (tmp_path / "in" / "<script>x<.png").write_bytes(b"")
    assert cli("eval", recipe(), tmp_path / "in", "-o", tmp_path / "out").code == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;x&lt;" in page


def test_a_terminal_of_few_letters(recipe, tmp_path, picture, arguments):
    """ASCII has no arrows and no umlauts: a question mark, and no end of the run."""
    picture("hübsch 猫.png", 64, 64)
    command, environment = arguments("eval", recipe(), tmp_path / "in", "-o", tmp_path / "out")
    environment = {**environment, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"results.csv" in done.stdout


# --- bombs


def quickly():
    """Asked later: whether no more than some seconds were computed; others may keep the machine busy meanwhile."""
    started = time.process_time()
    return lambda seconds=10: time.process_time() - started < seconds


LAUGHS = "".join(f"l{i}: &l{i} [{', '.join(['*l' + str(i - 1)] * 9) if i else 'lol'}]\n" for i in range(12))
MERGES = "".join(f"m{i}: &m{i} {{k{i}: 1, <<: [{', '.join(['*m' + str(i - 1)] * 9)}]}}\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "counting what aliases repeat"),
        ("m0: &m0 {k: 1}\n" + MERGES, "counting what aliases repeat"),
        ("name: " + "[" * 3000, "nested too deep"),
        ("name: " + "{a: " * 3000, "nested too deep"),
        ("name: x\nseed: " + "9" * 5000, "not valid YAML"),
        ("name: " + "x" * 2_000_000, "larger than a recipe ever is"),
        ("&a name: [*a]", ""),
        ("name: &a [*a]", ""),
    ],
    ids=["laughs", "merges", "brackets", "braces", "digits", "large", "odd", "itself"],
)
def test_recipes_that_explode(refused, tmp_path, text, words):
    path, in_time = tmp_path / "bomb.yaml", quickly()
    path.write_text(text)
    message = refused("run", path, "-o", tmp_path / "out")
    assert message.startswith(f"{path}")
    assert words in message
    assert len(message) < 2200
    assert in_time()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("name=" + "[" * 3000, "nested too deep"),
        ("name=[&a [1], &b [*a, *a, *a, *a], " + "*b, " * 20_000 + "]", "not valid YAML"),
        ("guidance.²=1", "has no 'guidance.²'"),
        ("guidance." + "1" * 5000 + "=1", "--set guidance.111"),
        ("seed=" + "9" * 5000, "not valid YAML"),
        ("sampler.temperature=true", "sampler.temperature"),
        ("sampler.steps=" + "x" * 100_000, "sampler.steps"),
    ],
    ids=["brackets", "aliases", "no digit", "index", "digits", "boolean", "long"],
)
def test_changes_that_explode(refused, recipe, tmp_path, change, words):
    in_time = quickly()
    message = refused("run", recipe(), "-o", tmp_path / "out", "--set", change)
    assert words in message
    assert len(message) < 2200
    assert in_time()


def test_a_long_chain_of_recipes(refused, recipe, tmp_path):
    recipe(name="r0.yaml")
    for i in range(1, 1200):
        (tmp_path / f"r{i}.yaml").write_text(f"extends: r{i - 1}.yaml\n")
    assert "more than 32 recipes extend one another" in refused("run", tmp_path / "r1199.yaml")
    assert cli_code(tmp_path / "r20.yaml") == 0


def cli_code(path):
    from click.testing import CliRunner

    from invdiff.cli import main

    return CliRunner().invoke(main, ["info", str(path), "--size", "64"]).exit_code


def tiff_of_any_size(path, width, height):
    """A 16-bit RGB TIFF whose header claims a size that its few bytes do not have."""
    fields = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 2)]
    fields += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, 8), (284, 3, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    path.write_bytes(b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", len(fields)) + entries + bytes(4))


def test_a_size_that_is_only_claimed(cli, recipe, training, refused, tmp_path, monkeypatch):
    path = recipe(name="other.yaml")
    folder = tmp_path / "in"
    folder.mkdir()
    tiff_of_any_size(folder / "bomb.tif", 20_000, 20_000)
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    in_time = quickly()
    result = cli("run", path, folder, "-o", tmp_path / "out")
    assert result.code == 1
    assert result.err.count("failed: ") == 2
    assert result.err.count("20000x20000 are more than 100,000,000 pixels; INVDIFF_MAX_PIXELS") == 2
    assert "20000x20000" in refused("train", training, "--data", folder, "-o", tmp_path / "t", "--quiet")
    assert in_time(20)
    monkeypatch.setenv("INVDIFF_MAX_PIXELS", "many")
    assert (
        "INVDIFF_MAX_PIXELS: a whole number is needed, got 'many'" in cli("run", path, folder, "-o", tmp_path / "o").err
    )
    monkeypatch.setenv("INVDIFF_MAX_PIXELS", "100")
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    assert "20x20 are more than 100 pixels" in cli("run", path, tmp_path / "small.png", "-o", tmp_path / "o").err


def test_what_is_neither_file_nor_folder(refused, recipe, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs here")
    os.mkfifo(tmp_path / "pipe.png")
    in_time = quickly()
    assert refused("run", recipe(), tmp_path / "pipe.png", "-o", tmp_path / "out").endswith(
        "neither a file nor a folder"
    )
    assert in_time()


def test_memory_does_not_grow_with_sizes():
    """Thirty pictures of different sizes: what resizing keeps of them is bounded."""
    code = """
import resource, torch
from invdiff.blur import downsample_bicubic, downsample_bicubic_adjoint, resize_bicubic
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
torch.set_num_threads(1)
downsample_bicubic(torch.rand(1, 3, 1200, 1200), 4)
before = peak()
for n in range(800, 1120, 11):
    y = torch.rand(1, 1, n, n)
    resize_bicubic(y, n // 2, n // 2)
    downsample_bicubic(torch.rand(1, 1, 4 * (n // 4), 64), 4)
    downsample_bicubic_adjoint(torch.rand(1, 1, n, 16), 4)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150


def test_a_strip_is_resized_in_bounded_memory():
    import torch

    from invdiff.blur import downsample_bicubic, resize_bicubic

    in_time = quickly()
    assert downsample_bicubic(torch.rand(1, 1, 4, 240_000), 4).shape == (1, 1, 1, 60_000)
    assert resize_bicubic(torch.rand(1, 1, 1, 60_000), 4, 240_000).shape == (1, 1, 4, 240_000)
    assert in_time(20)


def test_a_strip_is_refused_before_the_work_begins(recipe):
    """What the operator cannot show at the end is no picture to restore for minutes."""
    import torch

    import invdiff
    from invdiff.errors import ImageError

    steps = []
    pipe = invdiff.load(recipe(), overrides=["guidance=[]"])
    with pytest.raises(ImageError, match="240x8 pixels of the result are too few for a kernel of 21x21"):
        pipe.restore(torch.rand(3, 2, 60), callback=steps.append)
    assert steps == []
    assert pipe.restore(torch.rand(3, 3, 20)).image.shape == (3, 12, 80)


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": [10**6] * 4},
        {"channels": [10**9] * 4},
        {"refinement": 10**6},
        {"kernel_size": 10**7 + 1},
    ],
)
def test_weights_that_claim_a_giant(refused, recipe, weights, tmp_path, change):
    with safetensors.safe_open(weights, framework="pt") as file:
        header = file.metadata()
    settings = json.loads(header["settings"])
    settings["network"] |= change
    path = tmp_path / "giant.safetensors"
    tensors = safetensors.torch.load_file(weights)
    safetensors.torch.save_file(tensors, path, {**header, "settings": json.dumps(settings)})
    in_time = quickly()
    assert "its settings are not understood" in refused("run", recipe(weights=path), "-o", tmp_path / "out")
    settings["network"] = json.loads(header["settings"])["network"]
    settings["timesteps"] = 10**12
    safetensors.torch.save_file(tensors, path, {**header, "settings": json.dumps(settings)})
    assert "its settings are not understood" in refused("run", recipe(weights=path), "-o", tmp_path / "out")
    assert in_time()


def test_an_array_of_objects_is_not_unpickled(refused, recipe, picture, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.save(tmp_path / "trap.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    refused("run", recipe(), picture("a.png"), "-o", tmp_path / "out", "--kernel", tmp_path / "trap.npy")
    assert not (tmp_path / "sprung").exists()
