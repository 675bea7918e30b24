"""Every mistake a user can make on the command line: its exit code, one line on stderr, no traceback."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff

DAMAGED = ("corrupt.png", "zero.png", "one.png", "text.png")


@pytest.fixture
def damaged(picture, tmp_path):
    """A folder with two good pictures and four that are not."""
    folder = tmp_path / "mixed"
    picture("a.png", folder=folder)
    picture("z.png", seed=1, folder=folder)
    whole = picture("corrupt.png", 40, 40, folder=folder)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "zero.png").touch()
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    (folder / "text.png").write_text("hello")
    return folder


@pytest.fixture
def places(recipe, picture, weights, tmp_path):
    """Paths by name, right ones and wrong ones."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:500])
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pth")
    return {
        "recipe": recipe(),
        "photo": picture("photo.png"),
        "photos": tmp_path / "in",
        "out": tmp_path / "out",
        "none": tmp_path / "none",
        "empty": tmp_path / "empty",
        "file": tmp_path / "file",
        "below_file": tmp_path / "file" / "out",
        "cut": tmp_path / "cut.safetensors",
        "pickle": tmp_path / "model.pth",
    }


# The command, and what its one line must say.
REFUSED = {
    "missing recipe": ("run {none}.yaml -o {out}", "{none}.yaml: no such recipe"),
    "unknown kind": ("run {recipe} -o {out} --set guidance.0.kind=nothing", "no guidance is called 'nothing'"),
    "unknown key": ("run {recipe} -o {out} --set sampler.stepz=3", "unknown key (did you mean 'steps'?)"),
    "missing weights": ("run {recipe} -o {out} --set prior.weights={none}", "no weights '{none}': no such file"),
    "truncated weights": ("run {recipe} -o {out} --set prior.weights={cut}", "{cut}: not a readable safetensors file"),
    "pickle weights": ("run {recipe} -o {out} --set prior.weights={pickle}", "{pickle}: this is a pickle"),
    "output below a file": ("run {recipe} -o {below_file}", "{below_file}: cannot write to this folder"),
    "output is a file": ("run {recipe} -o {file}", "{file}: cannot write to this folder"),
    "missing input": ("run {recipe} -o {out} -i {none}", "{none}: no such file or folder"),
    "one missing input": ("run {recipe} -o {out} -i {photo} -i {none}", "{none}: no such file or folder"),
    "empty folder": ("run {recipe} -o {out} -i {empty}", "{empty}: no pictures in this folder"),
    "output is the input": ("run {recipe} -o {photos} -i {photos}", "{photos}: the output folder is an input folder"),
    "output holds the input": ("run {recipe} -o {photos} -i {photo}", "{photos}"),
    "no input and no sample": ("run {recipe} -o {out} --set input.sample=null", "the recipe has no input.sample"),
    "missing reference": ("run {recipe} -o {out} -i {photo} --reference {none}", "{none}: no such file or folder"),
    "empty reference": ("run {recipe} -o {out} -i {photo} --reference {empty}", "{empty}: no pictures"),
    "reference and synthesize": ("run {recipe} -o {out} -i {photo} --reference {photos} --synthesize", "--reference"),
    "preview of several": (
        "run {recipe} -o {out} --engine dask --preview",
        "--preview shows what one process",
    ),
    "a recipe as JSON": ("recipes --json show blindsr_x4", "--json is for the list"),
    "missing LPIPS": ("run {recipe} -o {out} --lpips {none}", "{none}"),
    "negative seed": ("run {recipe} -o {out} --seed -1", "--seed"),
    "unknown device": ("run {recipe} -o {out} --device gpu", "gpu"),
    "unknown option": ("run {recipe} -o {out} --sead 3", "--sead"),
    "no recipe": ("run", "RECIPE"),
    "unknown command": ("restore {recipe}", "restore"),
    "train without a section": ("train {recipe} -o {out} --data {photos}", "the recipe has no 'train' section"),
    "training without a recipe": ("train {none}.yaml -o {out} --data {photos}", "{none}.yaml: no such recipe"),
    "import of nothing": ("weights import {none} -o {out}", "{none}: no such file"),
}


@pytest.mark.parametrize(("command", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(refused, places, command, expected):
    message = refused(*(word.format(**places) for word in command.split()))
    assert expected.format(**places) in message
    assert not list(places["empty"].iterdir())
    assert not places["out"].exists() or not list(places["out"].iterdir())


# What to do, where the line would not be enough without it: how it ends.
REMEDIES = {
    "missing recipe": ("run {none}.yaml", "'invdiff recipes' lists those that come along"),
    "recipe by name": ("run blindsr_x5", "(did you mean 'blindsr_x4'?)"),
    "no recipe": ("run", "'invdiff run --help' says how"),
    "unknown option": ("run {recipe} --sead 3", "'invdiff run --help' says how"),
    "unknown device": ("train {recipe} -o {out} --device gpu", "'invdiff train --help' says how"),
    "unknown command": ("restore {recipe}", "'invdiff --help' says how"),
    "output is a file": ("run {recipe} -o {file}", "choose another with -o"),
    "pickle weights": ("run {recipe} --set prior.weights={pickle}", "convert it with 'invdiff weights import'"),
    "truncated weights": ("run {recipe} --set prior.weights={cut}", "copy it again, or name another"),
    "train without a section": ("train {recipe} -o {out}", "'invdiff recipes' lists those that have"),
    "no recipes in a folder": ("eval {empty} {photos} -o {out}", "name one, or a folder with some"),
    "photos that are no folder": (
        "train {training} -o {out} --data {none}",
        "--data names folders of photos, and shards of them",
    ),
    "nothing to resume": ("train {training} -o {out} --data {photos} --resume", "leave --resume out to begin"),
    "reference of others": ("run {recipe} -i {photo} --reference {other}", "give the clean ones the inputs' names"),
    "compare nothing": ("compare {none} {out}", "give two folders that 'invdiff run' or 'invdiff eval' wrote"),
    "compare no results": ("compare {photos} {empty}", "give a folder that it wrote"),
}


@pytest.mark.parametrize(("command", "ending"), REMEDIES.values(), ids=REMEDIES.keys())
def test_a_refusal_ends_with_what_to_do(refused, places, recipe, picture, tmp_path, monkeypatch, command, ending):
    monkeypatch.chdir(tmp_path)
    other = picture("other.png", folder=tmp_path / "other").parent
    training = recipe(
        ("seed: 3", "seed: 3\ntrain: {crop: 32}"), (", weights: WEIGHTS", ", scale: 4"), name="train.yaml"
    )
    message = refused(*(word.format(**places, other=other, training=training) for word in command.split()))
    assert message.endswith(ending)


@pytest.mark.parametrize("command", ["run", "train"])
def test_device_that_is_not_there(refused, recipe, picture, tmp_path, command):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    train = "seed: 3", "seed: 3\ntrain: {crop: 16}"
    given = [] if command == "run" else ["--data", picture("a.png").parent]
    path = recipe(train)
    if command == "train":
        path = recipe(train, ("weights: WEIGHTS", "network: {preset: small}"))
    message = refused(command, path, "-o", tmp_path / "out", "--device", "cuda", *given)
    assert message == "--device cuda: no CUDA device here; --device auto takes what there is"


def test_bad_pictures_fail_and_the_others_are_done(recipe, cli, damaged, tmp_path, report):
    result = cli("run", recipe(), "-i", damaged, "-o", tmp_path / "out", "--quiet")
    assert (result.code, result.out) == (1, "")
    found = report(tmp_path / "out")
    assert [stem for stem, entry in found.items() if "error" not in entry] == ["a", "z"]
    lines = result.err.splitlines()
    assert len(lines) == 4
    for name in DAMAGED:
        assert found[name.removesuffix(".png")]["error"]
        (line,) = [line for line in lines if name in line]
        assert line.startswith("failed: ")
        assert line.count(name) == 1  # named once, not twice
        assert not (tmp_path / "out" / name).exists()
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png") if p.stem.count(".") == 0) == ["a.png", "z.png"]


def test_failures_beside_the_table_are_one_line_each(recipe, cli, damaged, tmp_path):
    result = cli("run", recipe(), "-i", damaged, "-o", tmp_path / "out")
    assert result.code == 1
    assert "2 restored, 4 failed" in result.out
    assert [line.partition(":")[0] for line in result.err.splitlines()] == ["a", *["failed"] * 3, "z", "failed"]


def test_success_leaves_no_blank_lines(recipe, cli, tmp_path):
    assert cli("run", recipe(), "-o", tmp_path / "out").err == ""


@pytest.mark.parametrize("name", DAMAGED)
def test_one_bad_picture(recipe, cli, damaged, tmp_path, report, name):
    result = cli("run", recipe(), "-i", damaged / name, "-o", tmp_path / "out", "--quiet")
    assert result.code == 1
    (entry,) = report(tmp_path / "out").values()
    assert entry["input"] == str(damaged / name)
    assert entry["error"] in result.err
    assert "output" not in entry


def test_failed_picture_is_tried_again(recipe, cli, damaged, tmp_path, report, picture):
    command = ["run", recipe(), "-i", damaged / "text.png", "-o", tmp_path / "out", "--quiet"]
    assert cli(*command).code == 1
    assert cli(*command).code == 1
    picture("text.png", folder=damaged)
    assert cli(*command).code == 0
    assert "error" not in report(tmp_path / "out")["text"]


@pytest.mark.parametrize("text", ["", "garbage", "[]", '{"images": null}', '{"images": [3]}'])
def test_unreadable_earlier_report(recipe, cli, tmp_path, report, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text(text)
    assert cli("run", recipe(), "-o", tmp_path / "out").code == 0
    assert list(report(tmp_path / "out")) == ["astronaut"]


def test_input_file_is_never_overwritten(recipe, cli, picture, tmp_path):
    file = picture("a.png")
    before = file.read_bytes()
    cli("run", recipe(), "-i", file, "-o", file.parent)
    assert file.read_bytes() == before


def test_reference_of_another_size_is_that_files_failure(recipe, cli, picture, tmp_path, report):
    picture("a.png")
    picture("b.png")
    picture("a.png", 64, 64, folder=tmp_path / "clean")
    wrong = picture("b.png", 64, 68, folder=tmp_path / "clean")
    result = cli("run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out", "--reference", wrong.parent)
    assert result.code == 1
    found = report(tmp_path / "out")
    assert found["a"]["metrics"]["psnr_y"] > 0
    assert found["b"]["error"].startswith(f"{wrong}: the reference is 68x64, the result of ")
    assert found["b"]["error"] in result.err


def test_guidance_that_cannot_work_fails_in_words(recipe, cli, picture, tmp_path):
    command = ["run", recipe(), "-i", picture("a.png"), "-o", tmp_path / "out", "--quiet"]
    result = cli(*command, "--set", "guidance.0.kernel=given")
    assert result.code in (1, 2)
    assert "needs a known kernel" in result.err


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(1, 8, 8),
        torch.randint(0, 255, (3, 8, 8)),
        np.zeros((8, 8, 5)),
        np.full((8, 8, 3), 7.0),
        np.full((8, 8, 3), np.nan),
        np.zeros((8, 8, 3), np.int32),
        "photo.png",
        None,
    ],
)
def test_restore_refuses(recipe, image):
    pipe = invdiff.load(recipe())
    with pytest.raises(invdiff.InvdiffError):
        pipe.restore(image)


def test_training_on_bad_folders(refused, training, photos, tmp_path):
    out = tmp_path / "a"
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        message = refused("train", training, "-o", out, "--data", photos, "--data", folder)
        assert message.startswith(f"{folder}: ")
    assert "--data" in refused("train", training, "-o", out)
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file' / 'a'}" in refused("train", training, "-o", tmp_path / "file" / "a", "--data", photos)


def test_training_on_photos_that_do_not_serve(refused, training, picture, tmp_path):
    small = picture("small.png", 31, 60, folder=tmp_path / "small")
    message = refused("train", training, "-o", tmp_path / "a", "--data", small.parent, "--quiet")
    assert message == f"none of the photos can be used: {small}: 60x31 is smaller than a crop of 32"
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "x.png").write_text("hello")
    message = refused("train", training, "-o", tmp_path / "b", "--data", tmp_path / "text", "--quiet")
    assert f"{tmp_path / 'text' / 'x.png'}: not a picture that can be read: " in message


@pytest.mark.parametrize("crop", [30, 36])  # not of the scale; of the scale, not of the network's 16
def test_training_crop_that_does_not_fit_the_network(refused, training, photos, tmp_path, crop):
    command = ["train", training, "-o", tmp_path / "a", "--data", photos, "--quiet", "--set", f"train.crop={crop}"]
    assert "crop" in refused(*command)


def test_training_error_beside_the_progress_bar_is_one_line(refused, training, picture, tmp_path):
    small = picture("small.png", 31, 60, folder=tmp_path / "small")
    assert "smaller than a crop" in refused("train", training, "-o", tmp_path / "a", "--data", small.parent)


def test_training_of_a_recipe_without_train_section(refused, recipe, photos, tmp_path):
    path = recipe()
    message = refused("train", path, "-o", tmp_path / "a", "--data", photos)
    assert message == f"{path}: the recipe has no 'train' section; 'invdiff recipes' lists those that have"


def test_training_prior_of_another_kernel_size_is_refused(refused, training, photos, tmp_path):
    change = ["--set", "degradation.kernel_size=7"]
    message = refused("train", training, "-o", tmp_path / "a", "--data", photos, *change)
    assert "prior: the prior estimates 5x5 parameters, the recipe's degradation has 7x7" in message


def test_debug_shows_the_traceback(process, refused, tmp_path):
    line = refused("run", tmp_path / "x.yaml")
    result = process("run", tmp_path / "x.yaml", "--debug")
    assert (result.code, result.out) == (2, "")
    assert "Traceback (most recent call last)" in result.err
    assert "RecipeError" in result.err
    assert result.err.endswith(f"error: {line}\n")


def test_help_and_version(cli):
    for command in ([], ["run"], ["train"], ["plugins"], ["weights"], ["weights", "import"]):
        assert cli(*command, "--help").code == 0
    assert invdiff.__version__ in cli("--version").out
