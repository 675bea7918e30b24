"""What a run says of each photo, in words, in numbers, and as a certificate that anybody can verify from the files."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff.io.decoding import load
from invdiff.testing.subjects import ToyBlur


def test_words_everywhere(recipe, cli, picture, tmp_path, report):
    """The terminal, the report, the result of Python and its view in a notebook say the same."""
    Image.open(picture("a.png", 24, 20)).save(tmp_path / "a.jpg", quality=62)
    result = cli("run", recipe(), tmp_path / "a.jpg", "-o", tmp_path / "out")
    entry = report(tmp_path / "out")["a"]
    words = entry["words"]
    assert list(words) == ["found", "done", "fit"]
    assert words["found"].startswith(("a soft blur, about ", "hardly any blur"))
    assert words["found"].endswith("; JPEG quality about 62")
    assert words["done"] == "enlarged 4 times by tiny, in 2 steps"
    assert result.out.startswith(f"a: {words['found']}\n")
    assert words["fit"] in result.out
    assert entry["findings"]["jpeg_quality"] == 62
    assert entry["findings"]["residual_times_floor"] == pytest.approx(
        entry["residual"] / entry["findings"]["residual_floor"], rel=1e-4
    )
    out = invdiff.load(recipe()).restore(Image.open(tmp_path / "a.jpg"))
    assert out.findings.words == words
    for text in words.values():
        assert text in out._repr_html_()


def test_quiet_and_json(recipe, cli, picture, tmp_path):
    photo = picture("a.png")
    assert cli("run", recipe(), photo, "-o", tmp_path / "a", "--quiet").out == ""
    (image,) = json.loads(cli("run", recipe(), photo, "-o", tmp_path / "b", "--json").out)["images"]
    assert image["words"]["done"].startswith("enlarged 4 times")


def test_a_kernel_that_was_told_is_not_found(recipe, cli, picture, tmp_path, report):
    np.save(tmp_path / "k.npy", np.ones((3, 3)))
    photo = picture("a.png")
    assert cli("run", recipe(), photo, "-o", tmp_path / "out", "--kernel", tmp_path / "k.npy").code == 0
    entry = report(tmp_path / "out")["a"]
    assert "blur" not in entry["words"]["found"]
    assert entry["certificate"]["consistency"] > 0


def test_the_certificate(recipe, cli, picture, tmp_path, report):
    """From the files alone: the picture's hash, and the picture degraded with the kernel against the photo."""
    photo, out = picture("a.png", 24, 20), tmp_path / "out"
    cli("run", recipe(), photo, "-o", out)
    found = report(out)["a"]["certificate"]
    assert found["sha256"] == hashlib.sha256((out / "a.png").read_bytes()).hexdigest()
    x, kernel = load(out / "a.png").pixels, torch.from_numpy(np.load(out / "a.kernel.npy"))
    again = invdiff.load(recipe()).degradation.apply(x[None], kernel[None])[0]
    assert found["consistency"] == pytest.approx(
        -10 * float((again - load(photo).pixels).square().mean().log10()), abs=0.01
    )
    assert found["noise"] > 20


def test_an_operator_without_words(picture, tiny_prior):
    """Somebody else's, which describes nothing: no sentence about its blur, and all the others."""
    operator = ToyBlur()
    x = load(picture("a.png", 32, 32)).pixels
    kernel = operator.sample_parameters(1, torch.Generator().manual_seed(0))[0]
    prior = invdiff.from_denoiser(lambda x, sigma: x, sigma_max=0.2)
    pipe = invdiff.Pipeline(operator, prior, [], invdiff.SamplerSettings(steps=2, temperature=0))
    found = pipe.restore(x, parameters=kernel).findings
    assert found.blur == ""
    assert found.words["done"] == "restored at its own size, in 2 steps"
    assert found.found.startswith(("noise", "no noise"))
    nothing = pipe.restore(x)  # nor any parameters
    assert nothing.findings.fit.startswith("not known")
