"""``invdiff run`` and ``invdiff.load(...).restore``: what a user gets, and that it depends on nothing else."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff.components.weights import save_prior
from invdiff.restoring.jobs import jobs_of
from invdiff.restoring.run import Run, RunOptions


def snapshot(folder):
    """Every file with its content and time of writing, but for the report."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p.name != "report.json"}


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_sample(recipe, cli, tmp_path, report):
    out = tmp_path / "out"
    path = recipe()
    result = cli("run", path, "-o", out)
    assert (result.code, result.err.strip()) == (0, "")
    assert "astronaut" in result.out
    assert sorted(p.name for p in out.iterdir()) == [
        "astronaut.compare.png",
        "astronaut.kernel.npy",
        "astronaut.kernel.png",
        "astronaut.png",
        "report.json",
    ]
    assert pixels(out / "astronaut.png").shape == (64, 64, 3)
    assert pixels(out / "astronaut.compare.png").shape == (64, 3 * 64 + 2 * 8, 3)  # input, restored, truth
    kernel = np.load(out / "astronaut.kernel.npy")
    assert kernel.dtype == np.float32
    assert kernel.shape == (21, 21)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)

    whole = report(out, whole=True)
    assert whole["recipe"] == str(path)
    assert whole["seed"] == 3
    assert whole["device"] in ("cpu", "cuda", "mps")
    assert whole["settings"]["sampler"]["steps"] == 2
    assert whole["versions"]["invdiff"] == invdiff.__version__
    assert whole["versions"]["torch"] == torch.__version__
    (entry,) = whole["images"]
    assert (entry["stem"], entry["input"], entry["output"]) == ("astronaut", "sample:astronaut", "astronaut.png")
    assert (entry["steps"], entry["evaluations"]) == (2, 2)
    assert entry["seconds"] >= 0
    assert 0 < entry["residual"] < 1
    assert "error" not in entry
    assert {"psnr_y", "ssim_y", "kernel_l1", "lr_psnr", "psnr_y_baseline"} <= entry["metrics"].keys()
    assert 10 < entry["metrics"]["psnr_y"] < 50
    assert 0 < entry["metrics"]["kernel_l1"] <= 2


def test_report_tells_the_settings_of_the_prior_that_ran(recipe, cli, tmp_path, report):
    cli("run", recipe(), "-o", tmp_path / "out")
    prior = report(tmp_path / "out", whole=True)["settings"]["prior"]
    assert prior["value_range"] == [-1.0, 1.0]
    assert prior["preconditioning"] == "residual"
    assert prior["network"]["channels"] == [8, 8, 8, 8]


def test_default_folder_is_named_after_the_recipe(recipe, cli, tmp_path, monkeypatch):
    path = recipe()
    monkeypatch.chdir(tmp_path)
    assert cli("run", path).code == 0
    assert (tmp_path / "runs" / "tiny" / "astronaut.png").exists()


def test_one_file(recipe, cli, picture, tmp_path, report):
    file = picture("a.jpg")
    assert cli("run", recipe(), "-i", file, "-o", tmp_path / "out").code == 0
    entry = report(tmp_path / "out")["a"]
    assert entry["input"] == str(file)
    assert entry["metrics"] is None  # no truth is known
    assert pixels(tmp_path / "out" / "a.compare.png").shape == (64, 2 * 64 + 8, 3)


def test_several_files_and_folders(recipe, cli, picture, tmp_path, report):
    picture("a.png", folder=tmp_path / "x")
    picture("b.bmp", folder=tmp_path / "x")
    (tmp_path / "x" / "notes.txt").write_text("no picture")
    (tmp_path / "x" / ".hidden.png").write_bytes(b"")
    c = picture("c.webp", folder=tmp_path / "y")
    assert cli("run", recipe(), "-i", tmp_path / "x", "-i", c, "-i", c, "-o", tmp_path / "out").code == 0
    assert list(report(tmp_path / "out")) == ["a", "b", "c"]


def test_same_stem_twice(recipe, cli, picture, tmp_path, report):
    picture("a.png", seed=1)
    picture("a.jpg", seed=2)
    assert cli("run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out").code == 0
    assert list(report(tmp_path / "out")) == ["a_jpg", "a_png"]
    assert (tmp_path / "out" / "a_jpg.png").exists()


def test_name_that_looks_like_another_output(recipe, cli, picture, tmp_path, report):
    """a.png has a comparison a.compare.png; a picture of that name must not be lost to it."""
    picture("a.png", 16, 16)
    picture("a.compare.png", 12, 12)
    result = cli("run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out")
    if result.code != 2:  # to refuse would be right as well
        entries = report(tmp_path / "out").values()
        sizes = {e["input"]: pixels(tmp_path / "out" / e["output"]).shape for e in entries}
        assert sizes[str(tmp_path / "in" / "a.compare.png")] == (48, 48, 3)


@pytest.mark.parametrize(("height", "width"), [(13, 17), (3, 40), (31, 16)])
def test_odd_sizes(recipe, cli, picture, tmp_path, height, width):
    file = picture("a.png", height, width)
    assert cli("run", recipe(), "-i", file, "-o", tmp_path / "out").code == 0
    assert pixels(tmp_path / "out" / "a.png").shape == (4 * height, 4 * width, 3)


def test_grey_stays_grey_and_alpha_is_kept(recipe, cli, picture, tmp_path):
    for mode in ("L", "LA", "RGB", "RGBA"):
        picture(f"{mode}.png", mode=mode)
    with Image.open(tmp_path / "in" / "RGBA.png") as given:
        given.putalpha(Image.fromarray(np.repeat(np.repeat([[0, 255], [255, 0]], 8, 0), 8, 1).astype(np.uint8)))
        given.save(tmp_path / "in" / "RGBA.png")
    assert cli("run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out").code == 0
    for mode in ("L", "LA", "RGB", "RGBA"):
        with Image.open(tmp_path / "out" / f"{mode}.png") as found:
            assert (found.mode, found.size) == (mode, (64, 64))
    alpha = pixels(tmp_path / "out" / "RGBA.png")[..., 3]
    assert [alpha[8, 8], alpha[8, 56], alpha[56, 8], alpha[56, 56]] == [0, 255, 255, 0]


def test_second_run_does_nothing(recipe, cli, picture, tmp_path, report):
    picture("a.png")
    picture("b.png", seed=1)
    command = ["run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out"]
    cli(*command)
    before, entries = snapshot(tmp_path / "out"), report(tmp_path / "out")
    result = cli(*command)
    assert result.code == 0
    assert "0 restored, 2 already done" in result.out
    assert snapshot(tmp_path / "out") == before
    assert report(tmp_path / "out") == entries
    picture("c.png", seed=2)
    assert "1 restored, 2 already done" in cli(*command).out
    assert list(report(tmp_path / "out")) == ["a", "b", "c"]


def test_force_does_it_again(recipe, cli, tmp_path):
    command = ["run", recipe(), "-o", tmp_path / "out"]
    cli(*command)
    before = snapshot(tmp_path / "out")
    assert "1 restored" in cli(*command, "--force").out
    after = snapshot(tmp_path / "out")
    assert {name: data for name, (data, _) in before.items()} == {name: data for name, (data, _) in after.items()}
    assert all(before[name][1] < after[name][1] for name in before)


@pytest.mark.parametrize(
    "change",
    [["--seed", 4], ["--set", "sampler.eta=0.5"], ["--set", "guidance=[]"], ["--set", "degradation.noise_sigma=0.1"]],
)
def test_changed_settings_do_it_again(recipe, cli, tmp_path, report, change):
    command = ["run", recipe(), "-o", tmp_path / "out"]
    cli(*command)
    before = pixels(tmp_path / "out" / "astronaut.png")
    assert "1 restored" in cli(*command, *change).out
    assert not np.array_equal(before, pixels(tmp_path / "out" / "astronaut.png"))
    if change[0] == "--seed":
        assert report(tmp_path / "out", whole=True)["seed"] == 4


def test_changed_picture_is_done_again(recipe, cli, picture, tmp_path):
    file = picture("a.png")
    command = ["run", recipe(), "-i", file, "-o", tmp_path / "out"]
    cli(*command)
    picture("a.png", seed=5)
    assert "1 restored" in cli(*command).out


def test_changed_weights_do_it_again(recipe, cli, tmp_path, tiny_prior):
    path = tmp_path / "w.safetensors"
    command = ["run", recipe(weights=path), "-o", tmp_path / "out"]
    save_prior(tiny_prior(seed=1), "mcformer", path)
    cli(*command)
    before = pixels(tmp_path / "out" / "astronaut.png")
    save_prior(tiny_prior(seed=2), "mcformer", path)
    assert "1 restored" in cli(*command).out
    assert not np.array_equal(before, pixels(tmp_path / "out" / "astronaut.png"))


@pytest.mark.parametrize("suffix", [".png", ".kernel.npy", ".compare.png"])
def test_missing_output_is_made_again(recipe, cli, tmp_path, suffix):
    command = ["run", recipe(), "-o", tmp_path / "out"]
    cli(*command)
    (tmp_path / "out" / f"astronaut{suffix}").unlink()
    cli(*command)
    assert (tmp_path / "out" / f"astronaut{suffix}").exists()


def test_reference_adds_metrics(recipe, cli, picture, tmp_path, report):
    picture("a.png")
    picture("b.png", seed=1)
    truth = picture("a.png", 66, 67, folder=tmp_path / "clean")  # up to scale - 1 more than the result
    picture("other.png", folder=tmp_path / "clean")
    command = ["run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out", "--reference", truth.parent]
    assert cli(*command).code == 0
    found = report(tmp_path / "out")
    assert found["b"]["metrics"] is None
    a, b = pixels(tmp_path / "out" / "a.png"), pixels(truth)[:64, :64]
    luma = [(x.astype(float) @ [65.481, 128.553, 24.966] / 255 + 16)[4:-4, 4:-4] for x in (a, b)]
    expected = 10 * np.log10(255**2 / np.mean((luma[0] - luma[1]) ** 2))
    assert found["a"]["metrics"]["psnr_y"] == pytest.approx(expected, abs=1e-3)
    assert "kernel_l1" not in found["a"]["metrics"]  # the true kernel is not known


def test_synthesize(recipe, cli, picture, tmp_path, report):
    picture("a.png", 66, 71)
    command = ["run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out", "--synthesize"]
    assert cli(*command, "--set", "input.crop=null").code == 0
    assert pixels(tmp_path / "out" / "a.png").shape == (64, 68, 3)
    assert "kernel_l1" in report(tmp_path / "out")["a"]["metrics"]
    assert cli(*command, "--set", "input.crop=48").code == 0
    assert pixels(tmp_path / "out" / "a.png").shape == (48, 48, 3)


def test_synthesized_picture_shows_the_truth(recipe, cli, picture, tmp_path):
    file = picture("a.png", 64, 64)
    cli("run", recipe(), "-i", file, "-o", tmp_path / "out", "--synthesize")
    sheet = pixels(tmp_path / "out" / "a.compare.png")
    assert np.array_equal(sheet[32:, 2 * 72 :], pixels(file)[32:])  # below the inset kernel
    assert np.array_equal(sheet[32:, 72 : 72 + 64], pixels(tmp_path / "out" / "a.png")[32:])


def test_same_bytes_alone_in_a_folder_from_python_and_in_another_process(recipe, cli, process, picture, tmp_path):
    path = recipe()
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        picture(name, seed=seed)
    cli("run", path, "-i", tmp_path / "in", "-o", tmp_path / "folder")
    cli("run", path, "-i", tmp_path / "in" / "b.png", "-o", tmp_path / "alone")
    assert process("run", path, "-i", tmp_path / "in" / "b.png", "-o", tmp_path / "process").code == 0
    names = ["b.png", "b.kernel.npy", "b.kernel.png", "b.compare.png"]
    for name in names:
        expected = (tmp_path / "folder" / name).read_bytes()
        assert (tmp_path / "alone" / name).read_bytes() == expected, name
        assert (tmp_path / "process" / name).read_bytes() == expected, name
    with Image.open(tmp_path / "in" / "b.png") as given:
        out = invdiff.load(path).restore(given)
    assert np.array_equal(np.asarray(out.image), pixels(tmp_path / "folder" / "b.png"))
    assert np.array_equal(out.parameters.numpy(), np.load(tmp_path / "folder" / "b.kernel.npy"))


def test_quiet(recipe, cli, picture, tmp_path):
    picture("a.png")
    result = cli("run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    (tmp_path / "in" / "bad.png").write_text("hello")
    result = cli("run", recipe(), "-i", tmp_path / "in", "-o", tmp_path / "out", "--quiet")
    assert (result.code, result.out) == (1, "")
    assert "bad.png" in result.err  # failures are told nonetheless


def test_tiles(recipe, cli, picture, tmp_path):
    file = picture("a.png", 25, 40)  # 100 x 160 when restored
    path = recipe()
    found = []
    for name, tile in (("tiled", 64), ("whole", "null"), ("large", 512)):
        command = ["run", path, "-i", file, "-o", tmp_path / name, "--set", f"sampler.tile={tile}"]
        assert cli(*command, "--set", "sampler.overlap=16").code == 0
        found.append(pixels(tmp_path / name / "a.png"))
    tiled, whole, large = found
    assert tiled.shape == whole.shape == (100, 160, 3)
    assert np.array_equal(whole, large)
    assert not np.array_equal(tiled, whole)  # the prior saw windows of it,
    assert np.abs(tiled.astype(float) - whole).mean() < 10  # which changes little
    assert np.load(tmp_path / "tiled" / "a.kernel.npy").sum() == pytest.approx(1, abs=1e-5)


@pytest.fixture
def pipe(recipe):
    return invdiff.load(recipe())


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA"])
def test_restore_pil(pipe, picture, mode):
    with Image.open(picture("a.png", 12, 17, mode=mode)) as given:
        out = pipe.restore(given)
    assert isinstance(out.image, Image.Image)
    assert (out.image.mode, out.image.size) == (mode, (68, 48))
    assert out.parameters.shape == (21, 21)
    assert out.evaluations == 2
    assert 0 < out.residual < 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(12, 17), (12, 17, 1), (12, 17, 3), (12, 17, 4)])
def test_restore_array(pipe, dtype, shape):
    unit = np.random.default_rng(0).random(shape)
    top = np.iinfo(dtype).max if dtype.startswith("u") else 1
    out = pipe.restore((unit * top).astype(dtype)).image
    assert out.dtype == dtype
    assert out.shape == (48, 68, *shape[2:])
    assert out.min() >= 0
    assert 0.2 * top < out.mean() < 0.8 * top


def test_restore_is_the_same_for_every_type(pipe, picture):
    file = picture("a.png")
    array = pixels(file)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    from_array = pipe.restore(array).image
    with Image.open(file) as given:
        assert np.array_equal(np.asarray(pipe.restore(given).image), from_array)
    from_tensor = pipe.restore(tensor).image
    assert from_tensor.shape == (3, 64, 64)
    assert np.array_equal((from_tensor * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(), from_array)
    from_float = pipe.restore(array.astype(np.float32) / 255).image
    assert np.array_equal((from_float * 255).round().astype(np.uint8), from_array)


def test_restore_batch(pipe):
    batch = torch.rand(3, 3, 12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = pipe.restore(batch)
    assert out.image.shape == (3, 3, 48, 64)
    assert out.image.dtype == torch.float64
    assert out.parameters.shape == (3, 21, 21)
    for i in (2, 0):  # neither neighbours nor order matter
        single = pipe.restore(batch[i])
        assert torch.equal(single.image, out.image[i])
        assert torch.equal(single.parameters, out.parameters[i])


def test_restore_leaves_the_given_alone(pipe):
    array = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    before = array.copy()
    pipe.restore(array)
    pipe.restore(tensor)
    assert np.array_equal(array, before)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), before)


def test_callback_sees_every_step(pipe):
    seen = []
    pipe.restore(torch.rand(3, 12, 12), callback=seen.append)
    assert [(r.index, r.steps) for r in seen] == [(0, 2), (1, 2)]
    assert seen[0].t > seen[1].t
    assert seen[0].x0.shape == (1, 3, 48, 48)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
def test_interrupt(recipe, cli, arguments, picture, tmp_path, report):
    for i in range(6):
        picture(f"{i}.png", 20, 20, seed=i)
    out = tmp_path / "out"
    given = ["run", recipe(("steps: 2", "steps: 20")), "-i", tmp_path / "in", "-o", out]
    command, env = arguments(*given)
    child = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup and the like a child would ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        end = time.monotonic() + 300
        while not (out / "1.png").exists() and child.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    done = report(out)
    assert 1 <= len(done) < 6
    for path in out.iterdir():
        assert not path.name.startswith("."), path
        if path.suffix == ".png":
            assert pixels(path).size
    for entry in done.values():
        assert pixels(out / entry["output"]).shape == (80, 80, 3)
        assert np.load(io.BytesIO((out / f"{entry['stem']}.kernel.npy").read_bytes())).shape == (21, 21)
    result = cli(*given)
    assert result.code == 0
    assert f"{len(done)} already done" in result.out
    assert len(report(out)) == 6


def test_entries_of_other_settings_say_so(recipe, cli, picture, tmp_path, report):
    """A report holds the last call's settings; what was made otherwise keeps its own."""
    one, two = picture("one.png", 16, 16), picture("two.png", 16, 16, seed=1)
    assert cli("run", recipe(), one, "-o", tmp_path / "out").code == 0
    assert cli("run", recipe(), two, "-o", tmp_path / "out", "--set", "sampler.steps=1").code == 0
    entries, whole = report(tmp_path / "out"), report(tmp_path / "out", whole=True)
    assert whole["settings"]["sampler"]["steps"] == 1
    assert entries["one"]["settings"]["sampler"]["steps"] == 2
    assert "settings" not in entries["two"]


def test_a_preview_follows_the_steps(recipe, picture, tmp_path):
    """While a picture is being restored it shows what each step arrived at; then it is gone, and nothing else."""
    pipeline = invdiff.load(recipe(("steps: 2", "steps: 3")))
    path, out = picture("a.png"), tmp_path / "out"
    want = [step.image for step in pipeline.restore(Image.open(path), trace=True).trace]
    mine = out / "b.preview.png"
    shown = []

    def look(event):
        preview = out / "a.preview.png"
        shown.append(pixels(preview) if preview.exists() else None)

    work = Run(pipeline, jobs_of([path]), out, RunOptions(preview=True))
    out.mkdir()
    mine.write_text("mine")
    work.run(look)
    assert shown[0] is None
    for found, image in zip(shown[1:3], want, strict=False):
        np.testing.assert_array_equal(found, (image * 255).round().byte().permute(1, 2, 0).numpy())
    assert shown[3] is None
    assert mine.exists()
    assert "a.png" in snapshot(out)
    with pytest.raises(invdiff.InvdiffError, match=r"several inputs would be written to a\.preview\.png"):
        Run(pipeline, jobs_of([path, picture("a.preview.png")]), out, RunOptions(preview=True))


def test_without_asking_for_a_preview_none_is_touched(recipe, picture, cli, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.preview.png").write_text("mine")
    assert cli("run", recipe(), picture("a.png"), "-o", tmp_path / "out", "--quiet").code == 0
    assert (tmp_path / "out" / "a.preview.png").read_text() == "mine"
