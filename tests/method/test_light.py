"""Blur in linear light: the operator against SciPy on linearised values, and the loop that restores with the light."""

import io
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.signal import convolve2d
from skimage.color import rgb2xyz

import invdiff
from invdiff import Guidance, InvdiffError, Pipeline, SamplerSettings
from invdiff.blur import downsample_bicubic
from invdiff.cli.main import main
from invdiff.guidance import Estimate
from invdiff.io.jpeg import Jpeg
from invdiff.light import decoded, encoded
from invdiff.metrics import psnr_rgb
from invdiff.testing import check_degradation
from invdiff.testing.subjects import ToyPrior
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_kernel_guidance.proximal import Proximal, ProximalSettings
from invdiff_motion.operator import Motion, MotionSettings
from invdiff_rivals.diffpir import DiffPIR, DiffPIRSettings
from invdiff_rivals.dps import DPS

LINEAR = MotionSettings(kernel_size=7, light="linear")


def drawn(operator, size=48, batch=1):
    x = torch.rand(batch, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x, operator.sample_parameters(batch, torch.Generator().manual_seed(1)).double()


def test_the_curve_is_that_of_srgb():
    """scikit-image's conversion to XYZ begins with it; at grey its Y is the light."""
    grey = np.linspace(0, 1, 101)
    light = rgb2xyz(np.repeat(grey[None, :, None], 3, 2))[0, :, 1]
    found = decoded(torch.from_numpy(grey))
    np.testing.assert_allclose(found, light, atol=2e-7)
    torch.testing.assert_close(encoded(found), torch.from_numpy(grey), atol=1e-6, rtol=0)


def test_the_blur_is_of_the_light():
    operator = Motion(LINEAR)
    x, kernel = drawn(operator)
    y = operator.apply(x, kernel)[0, 1].numpy()
    light = ((x[0, 1].numpy() + 0.055) / 1.055) ** 2.4
    light = np.where(x[0, 1].numpy() <= 0.04045, x[0, 1].numpy() / 12.92, light)
    blurred = convolve2d(np.pad(light, 3, mode="reflect"), kernel[0].numpy(), mode="valid")
    want = np.where(blurred <= 0.0031308, 12.92 * blurred, 1.055 * blurred ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(y, want, atol=1e-7)


def test_shrinking_is_of_the_light_too():
    operator = BlindSR(BlindSRSettings(scale=2, kernel_size=5, light="linear"))
    x, kernel = drawn(operator)
    kernel = torch.zeros_like(kernel)
    kernel[:, 2, 2] = 1
    light = downsample_bicubic(decoded(x), 2)
    torch.testing.assert_close(decoded(operator.apply(x, kernel)), light.clamp_min(0), atol=1e-7, rtol=0)


@pytest.mark.parametrize("operator", [Motion(LINEAR), BlindSR(BlindSRSettings(scale=2, kernel_size=5, light="linear"))])
def test_it_is_an_operator_as_others_are(operator):
    check_degradation(operator)  # raises for what fails


def test_it_has_no_adjoint_and_guidances_that_want_one_are_refused_or_given_the_light():
    operator = Motion(LINEAR)
    x, kernel = drawn(operator)
    with pytest.raises(NotImplementedError, match="no adjoint"):
        operator.adjoint(x, kernel)
    assert DiffPIR(DiffPIRSettings(noise=0.01)).unfit(operator) == "this operator is not linear"
    assert DiffPIR(DiffPIRSettings(noise=0.01)).unfit(operator.on_light) is None


def still(x, sigma):
    return x


@pytest.mark.parametrize(
    "guidance", [Proximal(ProximalSettings(noise=0.01, spread=0.2)), DPS()], ids=["proximal", "dps"]
)
def test_restoring_is_of_the_light(guidance):
    """The linear pipeline on encoded numbers is the other one between a curve and its inverse."""
    prior = invdiff.from_denoiser(still, sigma_max=0.2)
    settings, sampler = LINEAR.model_copy(update={"light": "encoded"}), SamplerSettings(steps=4, temperature=0)
    y, kernel = (value[0].float() for value in drawn(Motion(LINEAR)))
    found = Pipeline(Motion(LINEAR), prior, [guidance], sampler).restore(y, kernel=kernel)
    plain = Pipeline(Motion(settings), prior, [guidance], sampler).restore(decoded(y), kernel=kernel)
    torch.testing.assert_close(found.image, encoded(plain.image), atol=1e-6, rtol=0)
    assert "in linear light" in found.findings.words["done"]
    # The residual is of the photo's numbers, as is all that a report says.
    again = Motion(LINEAR).apply(found.image[None], kernel[None])[0]
    assert found.residual == pytest.approx(float((y - again).double().square().mean().sqrt()), rel=1e-4)


def test_who_watches_sees_photos():
    prior, kernel = invdiff.from_denoiser(still, sigma_max=0.2), drawn(Motion(LINEAR))[1][0].float()
    pipe = Pipeline(
        Motion(LINEAR), prior, [Proximal(ProximalSettings(noise=0.01))], SamplerSettings(steps=2, temperature=0)
    )
    seen = []
    found = pipe.restore(drawn(Motion(LINEAR))[0][0].float(), kernel=kernel, callback=seen.append, trace=True)
    torch.testing.assert_close(seen[-1].x0[0].clamp(0, 1), found.image, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.trace[-1].image, found.image, atol=1e-5, rtol=0)


def test_as_it_was_by_default():
    operator = Motion(MotionSettings(kernel_size=7))
    x, kernel = drawn(operator)
    assert operator.on_light is operator
    assert operator.linear
    assert torch.equal(operator.apply(x, kernel), operator.optics(x, kernel))
    assert operator.to_light(x) is x
    assert operator.from_light(x) is x


def test_told_the_kernel_it_restores_what_was_blurred_in_light_better(natural):
    """With a denoiser that is no network: what it gains is the right light and nothing else."""
    operator = Motion(MotionSettings(kernel_size=15, light="linear"))
    kernel = operator.sample_parameters(1, torch.Generator().manual_seed(3))
    y = operator.apply(natural[None], kernel)[0]
    prior, sampler = invdiff.from_denoiser(still, sigma_max=0.2), SamplerSettings(steps=6, temperature=0)
    guidance = [Proximal(ProximalSettings(noise=0.003, spread=0.3))]
    found = {
        light: Pipeline(Motion(MotionSettings(kernel_size=15, light=light)), prior, guidance, sampler).restore(
            y, kernel=kernel[0]
        )
        for light in ("encoded", "linear")
    }
    gain = psnr_rgb(found["linear"].image, natural) - psnr_rgb(found["encoded"].image, natural)
    assert gain > 1


@pytest.fixture
def natural():
    from skimage import data

    return torch.from_numpy(data.astronaut()[:128, 160:288].copy()).permute(2, 0, 1).float() / 255


def test_a_recipe_says_so(tmp_path):
    arguments = [
        "run",
        "deblur_tv",
        "-o",
        str(tmp_path / "out"),
        "--set",
        "degradation.light=linear",
        "--device",
        "cpu",
    ]
    arguments += ["--set", "input.crop=64", "--set", "sampler.steps=2", "--set", "degradation.kernel_size=9"]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["degradation"]["light"] == "linear"
    assert "in linear light" in report["images"][0]["words"]["done"]


def test_no_prior_is_trained_on_it(tmp_path):
    from invdiff.assembly import build_trainer

    with pytest.raises(InvdiffError, match=r"light.*linear is for restoring"):
        build_trainer("train_deblur_small", tmp_path, ["photos/"], ["degradation.light=linear"])


def test_what_compression_did_is_told_as_it_is_in_the_light():
    """A dark JPEG's error is small there, a bright one's large: by the slope of the curve of sRGB."""

    class Asked(Guidance):
        def refine(self, step):
            self.told = step.compression
            return Estimate(step.x0, step.theta)

    operator = Motion(MotionSettings(kernel_size=7, light="linear"))
    texture = np.random.default_rng(0).normal(0, 0.05, (96, 96, 3))
    for level, slope in ((0.3, 0.50), (0.8, 1.70)):
        buffer = io.BytesIO()
        Image.fromarray(((level + texture).clip(0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=50)
        photo, asked = Image.open(buffer), Asked()
        Pipeline(operator, ToyPrior(operator), [asked], SamplerSettings(steps=1), device="cpu").restore(photo)
        pixels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1) / 255
        gain = 2.0 ** max(int(-np.log2(float(decoded(pixels).max()))), 0)
        assert asked.told == pytest.approx(gain * slope * Jpeg.of(photo).error(pixels), rel=0.15)
