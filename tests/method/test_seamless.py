"""Textures whose opposite borders meet come back so: wherever the picture is cut, the same picture comes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff.blur import downsample_bicubic, downsample_bicubic_adjoint, upsample_bicubic
from invdiff.blur.resize import wrapped
from invdiff.seamless import SeamlessPrior

CIRCULAR = "degradation.padding=circular"


@pytest.fixture
def texture():
    """Waves that go on beyond each border, ``(3, 24, 36)``: no multiple of what the prior wants."""
    rows, cols = torch.meshgrid(torch.arange(24) / 24, torch.arange(36) / 36, indexing="ij")
    waves = [
        torch.sin(2 * np.pi * (a * rows + b * cols) + c) for a, b, c in ((1, 0, 0), (2, 3, 1), (5, 7, 2), (0, 9, 4))
    ]
    return (0.5 + 0.1 * sum(waves)).expand(3, -1, -1) * torch.tensor([1.0, 0.9, 0.8])[:, None, None]


@pytest.mark.parametrize("name", ["blindsr_x4_photo", "blindsr_x4"])
@pytest.mark.parametrize("by", [(8, 4), (16, -12)])
def test_cut_elsewhere_it_is_the_same(texture, name, by):
    """At temperature 0 nothing is drawn: the result is rolled as the picture is; without wrapping it is not."""
    changes = ["instead=null"] if name == "blindsr_x4" else []
    still = ["sampler.temperature=0", "sampler.steps=2", *changes]
    pipe, plain = invdiff.load(name, overrides=[CIRCULAR, *still]), invdiff.load(name, overrides=still)
    rolled = texture.roll(by, (-2, -1))

    def off(pipe):
        there, back = pipe.restore(texture), pipe.restore(rolled)
        differ = (back.image - there.image.roll((4 * by[0], 4 * by[1]), (-2, -1))).abs()
        return float(differ.max()), float((back.parameters - there.parameters).abs().sum())

    picture, kernel = off(pipe)
    assert picture < 0.05
    assert kernel < 0.05
    assert off(plain)[0] > 5 * picture


def test_what_is_drawn_meets_as_well(texture):
    """Steps across the border are no larger than elsewhere."""
    pipe = invdiff.load("blindsr_x4", overrides=[CIRCULAR, "instead=null", "sampler.steps=2", "sampler.temperature=1"])
    image = pipe.restore(texture).image
    for dim in (-2, -1):
        steps = (image - image.roll(1, dim)).abs().mean((0, -1 if dim == -2 else -2))
        assert float(steps[0]) < 2 * float(steps.mean())


def test_motion(texture):
    """Of a shake that goes round the border, too; every guidance of the recipe at work: copies stay copies."""
    twice = texture.repeat(1, 3, 2)
    y = (twice + twice.roll(3, -1) + twice.roll(5, -1)) / 3
    pipe = invdiff.load("deblur_ffhq", overrides=[CIRCULAR])
    assert isinstance(pipe.prior, SeamlessPrior)

    def off(image):
        assert image.shape == y.shape
        return max(float((image - image.roll(by, dim)).abs().max()) for by, dim in ((24, -2), (36, -1)))

    assert off(pipe.restore(y).image) < 0.02
    assert off(invdiff.load("deblur_ffhq").restore(y).image) > 0.2


def test_halving_wraps(cli, texture, tmp_path):
    """A texture that is cut elsewhere and halved comes back the same, cut elsewhere."""
    results = []
    for name, image in (("as_it_is", texture), ("rolled", texture.roll((8, 4), (-2, -1)))):
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(tmp_path / f"{name}.png")
        changes = ["-o", tmp_path / "out", "--halve", "--set", CIRCULAR]
        assert cli("run", "blindsr_x4_photo", tmp_path / f"{name}.png", *changes).code == 0
        results.append(np.asarray(Image.open(tmp_path / "out" / f"{name}.png")).astype(int))
    assert np.abs(np.roll(results[1], (-16, -8), (0, 1)) - results[0]).max() <= 5


def test_smaller_results_wrap(cli, texture, tmp_path):
    Image.fromarray((texture * 255).round().byte().permute(1, 2, 0).numpy()).save(tmp_path / "texture.png")
    changes = ["-o", tmp_path / "out", "--scale", "2", "--set", CIRCULAR]
    assert cli("run", "blindsr_x4_photo", tmp_path / "texture.png", *changes).code == 0
    whole, found = (
        torch.from_numpy(np.asarray(Image.open(tmp_path / "out" / f"texture{end}.png")).copy()).permute(2, 0, 1) / 255
        for end in ("", ".x2")
    )
    wanted, plain = (downsample_bicubic(whole[None], 2, wraps=wraps)[0].clamp(0, 1) for wraps in (True, False))
    assert float((found - wanted).abs().max()) < 1.1 / 255
    assert float((found - plain).abs().max()) > 2 / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("sides", [(24, 36), (12, 12), (600, 24)])
def test_resizing_wraps(scale, sides):
    """Rolled by whole blocks in, rolled by pixels out; the adjoint is the adjoint; far from borders nothing differs."""
    x = torch.rand(2, *sides, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.rand(2, sides[0] // scale, sides[1] // scale, generator=torch.Generator().manual_seed(1)).double()
    down = downsample_bicubic(x, scale, wraps=True)
    rolled = downsample_bicubic(x.roll((2 * scale, scale), (-2, -1)), scale, wraps=True)
    torch.testing.assert_close(rolled, down.roll((2, 1), (-2, -1)))
    back = downsample_bicubic_adjoint(y, scale, wraps=True)
    torch.testing.assert_close((down * y).sum(), (x * back).sum())
    up = upsample_bicubic(y[None], scale, wraps=True)
    torch.testing.assert_close(upsample_bicubic(y[None].roll(1, -1), scale, wraps=True), up.roll(scale, -1))
    if min(sides) // scale > 8:
        inner = (..., slice(4, -4), slice(4, -4))
        torch.testing.assert_close(down[inner], downsample_bicubic(x, scale)[inner])


def test_a_picture_smaller_than_what_is_seen_beyond_it():
    x = torch.arange(6.0).view(1, 2, 3)
    wide = wrapped(x, 4, 5)
    assert wide.shape == (1, 11, 12)
    assert torch.equal(wide[0, 4:6, 4:7], x[0])
    assert torch.equal(wide[..., 2:, :], wide.roll(-2, -2)[..., :-2, :][..., :9, :])
