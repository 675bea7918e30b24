"""``report.html``: whole, from no network, and at work in a browser, on a phone's width as well."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from invdiff.metrics.catalogue import METRICS


@pytest.fixture
def page(cli, recipe, picture, tmp_path):
    """The page of a small evaluation with everything in it, and awkward names."""
    for i, name in enumerate(("a <b>.png", "plain.png", "third.png")):
        picture(name, 64, 72, seed=i, folder=tmp_path / 'data "set"')
    options = ["--kernels", "gaussian8", "--repeat", "2", "--method", "bicubic", "--method", "oracle", "--trace"]
    variant = 'one "step" & no more: sampler.steps=1'
    done = cli("eval", recipe(), tmp_path / 'data "set"', "-o", tmp_path / "out", *options, "--variant", variant)
    assert done.code == 0, done.err
    return tmp_path / "out" / "report.html"


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "input", "br", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_one_file_from_no_network(page):
    text = page.read_text()
    tags = Tags(text)
    assert tags.open == []
    for _, attributes in tags.found:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert "@import" not in text
    assert "url(" not in text
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}
    policy = next(
        a["content"] for t, a in tags.found if t == "meta" and "content" in a and "default-src" in a["content"]
    )
    assert "default-src 'none'" in policy


def test_names_are_text(page):
    text = page.read_text()
    assert "a <b>" not in text
    assert "a &lt;b&gt;" in text
    values = {a["value"] for t, a in Tags(text).found if t == "option"}
    assert values == {"bicubic", "tiny", 'one "step" & no more', "oracle", " truth"}


def test_pictures_are_those_on_disk(page):
    """Each case shows its measurement, each method's result and the truth; JPEG, so near and not equal."""
    tags = [a for t, a in Tags(page.read_text()).found if t == "img"]
    after = [a for a in tags if a.get("class") == "after"]
    assert len([a for a in tags if a.get("class") == "before"]) == 3  # a picture once, whatever the kernels
    assert len(after) == 3 * 5
    folder = next(p for p in (page.parent / "pictures").iterdir())
    paths = {" truth": sorted((folder / "_truth").glob("*.png"))[0], "tiny": sorted((folder / "tiny").glob("*.png"))[0]}
    for name in paths:
        (tag,) = (a for a in after[:5] if a["data-method"] == name)
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(tag["src"].partition(",")[2])))).astype(float)
        errors = {n: np.abs(shown - np.asarray(Image.open(p).convert("RGB"))).mean() for n, p in paths.items()}
        assert errors[name] == min(errors.values()) < 6


def test_how_many_pictures(cli, recipe, page, tmp_path):
    options = ["--kernels", "gaussian8", "--repeat", "2", "--pictures", "1", "--quiet"]
    cli("eval", recipe(), tmp_path / 'data "set"', "-o", tmp_path / "out", *options)
    text = page.read_text()
    assert text.count('class="before"') == 1
    assert "5 more pictures and kernels are in the folder" in text


def test_the_table_is_the_summarys(page):
    text = page.read_text()
    found = re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", text)
    cells = [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in found]
    lines = (page.parent / "summary.md").read_text().splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    want = [cell.strip() for row in rows for cell in row]
    assert cells == want


PROBE = """
<script>
const out = {};
out.images = [...document.images].every(i => i.complete && (i.naturalWidth > 0));
const figure = document.querySelector(".compare"), stage = figure.querySelector(".stage");
const range = stage.querySelector("input"), select = figure.querySelector("select");
const clip = () => getComputedStyle(stage.querySelector(".after:not([hidden])")).clipPath;
out.start = clip();
range.value = 20; range.dispatchEvent(new Event("input"));
out.moved = clip();
out.shown = stage.querySelector(".after:not([hidden])").dataset.method;
out.numbers = figure.querySelector(".numbers").textContent;
select.value = " truth"; select.dispatchEvent(new Event("change"));
out.chosen = [...stage.querySelectorAll(".after:not([hidden])")].map(i => i.dataset.method);
const box = stage.getBoundingClientRect();
out.slider = range.getBoundingClientRect().width === box.width;
out.same = stage.querySelector(".before").getBoundingClientRect().width ===
  stage.querySelector(".after:not([hidden])").getBoundingClientRect().width;
out.width = document.documentElement.clientWidth;
out.scroll = document.documentElement.scrollWidth;
out.hidden = [...document.querySelectorAll(".wide")].filter(t => t.scrollWidth > t.clientWidth).length;
const name = document.querySelector("td:first-child"), line = parseFloat(getComputedStyle(name).lineHeight);
out.lines = Math.round(name.clientHeight / line);
const second = document.querySelector("td:nth-child(2)");
out.label = getComputedStyle(second, "::before").content;
out.columns = getComputedStyle(document.querySelector(".pictures")).gridTemplateColumns.split(" ").length;
out.plots = [...document.querySelectorAll(".plots svg")].map(s => s.getBoundingClientRect().width);
out.requests = performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:"));
const report = document.createElement("pre"); report.id = "probe"; report.textContent = JSON.stringify(out);
document.body.append(report);
</script></body>
"""


@pytest.fixture
def opened(browser, page, tmp_path):
    """Opens the page at a width and returns what a probe in it found."""

    def open_at(width):
        probed = tmp_path / "probed.html"
        # A frame, because a browser's window cannot be as narrow as a phone.
        inner = page.read_text().replace("</body>", PROBE)
        frame = (
            f'<iframe style="border:0;width:{width}px;height:800px" srcdoc="{html.escape(inner, quote=True)}"></iframe>'
        )
        take = """<script>onload = () => { const f = document.querySelector("iframe");
          document.body.append(Object.assign(document.createElement("pre"),
            {id: "taken", textContent: f.contentDocument.querySelector("#probe").textContent})); }</script>"""
        probed.write_text(f"<!doctype html><body>{frame}{take}</body>", encoding="utf-8")
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        flags += " --disable-component-update --disable-sync --virtual-time-budget=10000 --window-size=1400,1000"
        command = [browser, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", probed.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        taken = re.search(r'<pre id="taken">(.*?)</pre>', done.stdout)
        assert taken, done.stderr[-2000:]
        return json.loads(html.unescape(taken[1]))

    return open_at


def test_in_a_browser(opened):
    found = opened(1100)
    assert found["images"]
    assert found["start"] == "inset(0px 0px 0px 50%)"
    assert found["moved"] == "inset(0px 0px 0px 20%)"
    assert found["shown"] == "tiny"
    assert re.match(r"PSNR-Y ↑ \d+\.\d\d", found["numbers"])
    assert found["chosen"] == [" truth"]
    assert found["slider"]
    assert found["same"]
    assert found["requests"] == []
    assert found["columns"] > 1
    assert found["scroll"] <= found["width"]
    assert found["hidden"] == 0  # every column of every table is on the page
    assert found["lines"] == 1  # no name is cut in the middle of a word
    assert found["label"] == "none"


def test_on_a_phone(opened):
    found = opened(375)
    assert 350 <= found["width"] <= 375  # less a scroll bar
    assert found["scroll"] <= found["width"]  # tables scroll inside, the page does not
    assert found["hidden"] == 0
    assert "PSNR-Y" in found["label"]  # a line is a card, each number beside its heading
    assert found["columns"] == 1
    assert all(250 < width <= 375 for width in found["plots"])
    assert found["moved"] == "inset(0px 0px 0px 20%)"


def test_begins_with_what_was_measured(cli, recipe, picture, tmp_path):
    """What is left out is said, behind the tables: in a line before them if something failed."""
    folder = tmp_path / "set"
    picture("a.png", 64, 64, folder=folder)
    (folder / "broken.png").write_text("no picture")
    assert cli("eval", recipe(), folder, "-o", tmp_path / "out", "--quiet").code == 1
    text = (tmp_path / "out" / "report.html").read_text()
    table, words, left = (text.index(mark) for mark in ("<table>", '<dl class="words">', '<h2 id="left-out">'))
    assert table < words < left < text.index("broken.png")
    assert "lpips_vgg" not in text[:left]
    assert '<a href="#left-out">1 failed</a>' in text[:table]


def test_every_metric_is_explained(page):
    text = html.unescape(page.read_text())
    with (page.parent / "results.csv").open() as table:
        rows = list(csv.DictReader(table))
    shown = [metric for name, metric in METRICS.items() if any(row[name] for row in rows)]
    assert len(shown) > 8
    for metric in shown:
        assert re.search(rf'<dt id="[^"]*">{re.escape(metric.title)}</dt><dd>{re.escape(metric.meaning)} \(', text)


def test_words_are_linked_to_what_they_mean(page):
    """A metric's heading tells at once and leads to its line; methods and words beside pictures have lines too."""
    found = Tags(page.read_text()).found
    targets = {a["id"] for tag, a in found if tag == "dt"}
    links = [a for tag, a in found if a.get("class") == "word"]
    assert {METRICS["psnr_y"].meaning, METRICS["residual_own_rms"].meaning} <= {a["title"] for a in links}
    assert {a["href"] for a in links} <= {f"#{target}" for target in targets}
    text = html.unescape(page.read_text())
    for word in ("oracle", "kernel", "truth", "baseline, bicubic"):
        assert f">{word}</dt><dd>" in text
    assert ">bicubic</dt><dd>bicubic upsampling, for super-resolution</dd>" in text  # by whom it is registered
    assert ">variant</dt>" not in text  # no such word is there
