"""The last word on a result: coarse colours are the photo's, and what is flat there stays flat."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff import Pipeline, SamplerSettings
from invdiff.blur import downsample_bicubic
from invdiff.degradation import BoxSpace
from invdiff.prior import Output
from invdiff.testing import check_guidance
from invdiff.testing.subjects import ToyPrior
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_kernel_guidance.as_measured import AsMeasured, AsMeasuredSettings
from invdiff_motion.operator import Motion, MotionSettings


class Tinted(ToyPrior):
    """Finds the lifted photo, with a tint that no photo of its colours would have, and specks."""

    def forward(self, x_t, t, condition, told=None):
        tint = torch.tensor([0.04, -0.02, 0.03])[:, None, None]
        specks = 0.05 * torch.randn(condition.shape[1:], generator=torch.Generator().manual_seed(0))
        low, high = self.spec.value_range
        return Output(condition + (high - low) * (tint + specks), super().forward(x_t, t, condition).parameters)


def restored(photo, operator=None, **settings):
    operator = BlindSR(BlindSRSettings(kernel_size=7)) if operator is None else operator
    prior = Tinted(operator)
    guidance = [AsMeasured(AsMeasuredSettings(**settings))]
    sampler = SamplerSettings(steps=1, temperature=0)
    return tuple(Pipeline(operator, prior, g, sampler, device="cpu").restore(photo).image for g in ([], guidance))


@pytest.mark.parametrize("operator", [BlindSR(BlindSRSettings(scale=s, kernel_size=7)) for s in (2, 3, 4)])
def test_coarse_colours_are_those_of_the_photo(operator):
    """A sixth of the tint at most is left anywhere, when the result is seen from afar; the specks are still there."""
    rows, cols = torch.meshgrid(torch.linspace(0, 6, 40), torch.linspace(0, 6, 48), indexing="ij")
    photo = (0.5 + 0.2 * torch.sin(rows) * torch.cos(cols)).expand(3, -1, -1)
    photo = photo + 0.01 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(1))
    plain, found = restored(photo, operator)
    far = [downsample_bicubic(image[None], 8 * operator.scale)[0] for image in (plain, found)]
    truth = downsample_bicubic(photo[None], 8)[0]
    assert float((far[0] - truth).mean((1, 2)).abs().max()) > 0.03
    assert float((far[1] - truth).mean((1, 2)).abs().max()) < 0.03 / 6
    rough = [float(image.diff(dim=-1).std()) for image in (plain, found)]
    assert rough[1] == pytest.approx(rough[0], rel=0.1)


@pytest.mark.parametrize("level", [(255, 255, 255), (0, 0, 0), (200, 30, 30), (1, 128, 254)])
def test_flat_stays_flat(level):
    photo = Image.new("RGB", (25, 21), level)
    plain, found = (np.asarray(image).reshape(-1, 3) for image in restored(photo))
    assert (found == level).all()
    assert (plain != level).any()


def test_white_beside_ink_is_white():
    """From two pixels of the photo beside it on; and ink is as it was found."""
    photo = np.full((24, 24, 3), 255, np.uint8)
    photo[8:12, 6:18] = 20
    plain, found = restored(photo)
    white = np.ones((24, 24), bool)
    white[5:15, 3:21] = False
    white = np.kron(white, np.ones((4, 4), bool))
    assert (found[white] == 255).all()
    assert (plain[white] != 255).any()
    assert found[36:44, 40:56].mean() < 60


def test_blocks_of_a_jpeg_are_not_taken_for_flat():
    """But for white, which a JPEG keeps: elsewhere its blocks are flat where their texture was left out."""
    buffer = io.BytesIO()
    halves = np.full((32, 64, 3), 255, np.uint8)
    halves[:, :32] = 128
    Image.fromarray(halves).save(buffer, "JPEG", quality=50)
    photo = Image.open(buffer)
    assert (np.asarray(photo)[:, 40:] == 255).all()
    plain, found = (np.asarray(image) for image in restored(photo))
    assert (found[:, 180:] == 255).all()
    assert (plain[:, 180:] != 255).any()
    assert found[:, :80].std() > 5  # the specks


def test_half_the_brightness_is_half_the_result():
    photo = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(2))
    photo[:, :10] = 1
    whole, half = (restored(share * photo)[1] for share in (1, 0.5))
    torch.testing.assert_close(half, 0.5 * whole, atol=1e-6, rtol=0)
    assert (whole[:, :28] == 1).all()


@pytest.mark.parametrize("padding", ["reflect", "valid", "circular"])
def test_at_full_resolution(padding):
    photo = torch.full((3, 30, 34), 0.7)
    plain, found = restored(photo, Motion(MotionSettings(kernel_size=7, padding=padding)))
    torch.testing.assert_close(found, torch.full_like(found, 0.7), atol=1e-6, rtol=0)
    assert float((plain - 0.7).abs().max()) > 0.1


def test_it_conforms():
    check_guidance(AsMeasured(), operator=BlindSR(BlindSRSettings(kernel_size=7, quantize=False)))


def test_it_is_for_blurs():
    operator = Motion(MotionSettings(kernel_size=5))
    assert AsMeasured().unfit(operator) is None
    operator.parameters = BoxSpace(("gain",), (0.0,), (2.0,))
    assert AsMeasured().unfit(operator) == "it is for operators that blur"


@pytest.mark.parametrize("pace", [None, "fast"])
@pytest.mark.parametrize("recipe", ["blindsr_x4", "blindsr_x4_photo"])
def test_white_paper_and_plain_colours_of_the_bundled_recipes(recipe, pace):
    """Real-ESRGAN issue 246, white that becomes #FEFEFE: a page's ground is 255, a flat picture has one colour."""
    pipe = invdiff.load(recipe, pace=pace)
    for level in ((255, 255, 255), (200, 30, 30)):
        found = np.asarray(pipe.restore(Image.new("RGB", (24, 24), level)).image)
        assert (found.reshape(-1, 3) == level).all()


def test_dark_texture_is_not_flat_in_light():
    """There one of 255 levels is less than a thousandth of the light; flat is what is the same."""
    rows = torch.arange(24) % 2
    photo = ((8 + 3 * rows) / 255).view(1, -1, 1).expand(3, 24, 24).clone()
    photo[..., 12:] = 200 / 255
    operator = BlindSR(BlindSRSettings(kernel_size=7, light="linear"))
    _, found = restored(photo, operator)
    bare = operator.from_light(operator.on_light.lift(operator.to_light(photo)[None]))[0]
    same = (found - bare).abs().amax(0) < 1e-4
    assert float(same[12:-12, 12:36].float().mean()) < 0.5
    assert bool(same[12:-12, 60:-8].all())
