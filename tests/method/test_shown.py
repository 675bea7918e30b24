"""What a restoration shows of itself: in a notebook, as a picture, as a figure; and every step, if it was asked for."""

from __future__ import annotations

import base64
import io
import re
import sys
import types
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff.errors import InvdiffError
from invdiff.io.notebook import Bar, as_array


@pytest.fixture
def pipe(recipe):
    return invdiff.load(recipe(("steps: 2", "steps: 3")))


@pytest.fixture
def photo(picture):
    return Image.open(picture("photo.png", 20, 24)).copy()


class Pictures(HTMLParser):
    """Every picture of a page by its name, decoded; and that the page is well formed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = {}, []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            data = dict(attrs)["src"].partition("base64,")[2]
            self.found[dict(attrs)["alt"]] = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_in_a_notebook(pipe, photo):
    out = pipe.restore(photo)
    text = out._repr_html_()
    found = Pictures(text).found
    assert list(found) == ["before", "restored", "kernel"]
    np.testing.assert_array_equal(found["before"], np.asarray(photo))
    np.testing.assert_array_equal(found["restored"], np.asarray(out.image))
    brightest = np.unravel_index(found["kernel"].argmax(), found["kernel"].shape)
    peak = np.unravel_index(int(out.parameters.argmax()), out.parameters.shape)
    assert [side // (found["kernel"].shape[0] // 21) for side in brightest] == list(peak)
    assert f"residual {out.residual:.4f}: what of the photo" in text
    assert "3 evaluations" in text
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_as_a_picture(pipe, photo):
    out = pipe.restore(photo)
    shown = np.asarray(Image.open(io.BytesIO(out._repr_png_())))
    height, width = out.image.size[::-1]
    assert shown.shape == (height, 2 * width + 8, 3)
    after = shown[:, -width:]
    same = (after == np.asarray(out.image)).all(-1)
    assert same[height // 3 :].all()  # below the kernel in the corner
    assert not same.all()


@pytest.mark.parametrize("kind", ["array", "grey", "tensor", "batch", "alpha"])
def test_whatever_came_in(pipe, photo, kind):
    given = {
        "array": np.asarray(photo),
        "grey": np.asarray(photo.convert("L")),
        "tensor": torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1) / 255,
        "batch": torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        "alpha": photo.convert("RGBA"),
    }[kind]
    out = pipe.restore(given)
    found = Pictures(out._repr_html_()).found
    assert list(found) == (["restored 1", "restored 2"] if kind == "batch" else ["before", "restored", "kernel"])
    assert Image.open(io.BytesIO(out._repr_png_())).height == (64 if kind == "batch" else 80)
    assert "before" not in repr(out)  # which would be pages of numbers


def test_parameters_that_are_numbers():
    out = invdiff.Restoration(torch.zeros(3, 8, 8), torch.tensor([1.25, 0.5]), 0.01, 4)
    assert "parameters 1.25, 0.5" in out._repr_html_()
    assert list(Pictures(out._repr_html_()).found) == ["restored"]


# --- every step


def test_a_trace(pipe, photo):
    """As many steps as there are, the last of them the result; and a trace changes nothing."""
    seen = []
    out = pipe.restore(photo, trace=True, callback=seen.append)
    assert len(out.trace) == len(seen) == 3
    for step, record in zip(out.trace, seen, strict=True):
        torch.testing.assert_close(step.image, record.x0[0].clamp(0, 1), rtol=0, atol=0)
        torch.testing.assert_close(step.parameters, record.theta[0], rtol=0, atol=0)
        again = pipe.degradation.apply(step.image[None], step.parameters[None])[0]
        y = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1) / 255
        assert step.residual == pytest.approx(float((y - again).square().mean().sqrt()), rel=1e-4)
    np.testing.assert_array_equal(np.asarray(pipe.restore(photo).image), np.asarray(out.image))
    assert pipe.restore(photo).trace == ()
    with pytest.raises(InvdiffError, match="one by one"):
        pipe.restore(torch.rand(2, 3, 16, 16), trace=True)


def test_a_figure(pipe, photo):
    pytest.importorskip("matplotlib")
    out = pipe.restore(photo, trace=True)
    titles = [axes.get_title() for axes in out.plot().axes]
    assert titles == ["before", "restored", "kernel", *2 * ["step 1", "step 2", "step 3"], ""]
    curve = out.plot().axes[-1].lines[0].get_ydata()
    assert list(curve) == [step.residual for step in out.trace]
    np.testing.assert_array_equal(out.plot().axes[1].images[0].get_array(), np.asarray(out.image))
    assert len(pipe.restore(photo).plot().axes) == 3
    out.plot().savefig(io.BytesIO())


def test_a_figure_without_matplotlib(pipe, photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvdiffError, match=r"pip install 'invdiff\[plot\]'"):
        pipe.restore(photo).plot()


# --- a bar


def test_a_bar_in_a_notebook(pipe, photo, monkeypatch):
    """A stand-in for IPython, as a kernel has it loaded: the bar is one output, updated at each step."""
    shown = []

    class Handle:
        update = shown.append

    def display(html, display_id):
        shown.append(html)
        return Handle

    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(HTML=str, display=display))
    pipe.restore(photo, progress=True)
    assert [text.split("> ")[-1] for text in shown] == [f"step {n} of 3" for n in range(4)]
    Pictures(shown[-1])
    shown.clear()
    pipe.restore(torch.rand(2, 3, 16, 16), progress=True)
    assert shown[-1].endswith("step 6 of 6")


def test_no_bar_where_nobody_looks(pipe, photo, capsys):
    pipe.restore(photo, progress=True)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with Bar(2) as bar:
        bar.step()
        bar.step()
    assert sys.stderr.getvalue() == "\rstep 1 of 2\rstep 2 of 2\r\033[K"


def test_palettes_and_deep_pictures_are_shown():
    assert as_array(Image.new("P", (3, 2))).shape == (2, 3, 3)
    assert as_array(np.full((2, 3), 65535, np.uint16)).tolist() == [[255] * 3] * 2
