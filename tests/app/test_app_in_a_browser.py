"""``invdiff app`` as people meet it: the real command, in a real Chromium, wide, on a phone, by mouse and by keys."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chromium import Chromium

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'app' is not installed")

DONE = (
    "!document.querySelector('#result').hidden && document.querySelector('#heading').textContent.startsWith('Restored')"
)
READY = "!document.querySelector('#start').disabled"
LINE = "getComputedStyle(document.querySelector('#after')).clipPath"


@pytest.fixture(scope="module")
def chromium(browser, tmp_path_factory):
    running = Chromium(browser, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def command(arguments, two_recipes):
    """Starts the command and returns its address and process."""
    started = []

    def start(*options):
        own = ["--enlarge", two_recipes[0], "--shake", two_recipes[1], "--port", "0", "--no-browser", "--device", "cpu"]
        call, environment = arguments("app", *own, *options)
        started.append(
            subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        line = started[-1].stdout.readline()
        assert line.startswith("http://127.0.0.1:"), started[-1].communicate()
        return line.split()[0], started[-1]

    yield start
    for process in started:
        process.terminate()  # so that it removes its folder
        process.communicate()


def chosen(page, photo, task="enlarge"):
    page.until("document.querySelectorAll('.task').length === 2")
    page.put("#photo", photo)
    page.until(READY)
    page.click(f".task input[value={task}]")


def scrolls(page):
    return page.value("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_a_photo_from_drop_to_download(chromium, command, picture, tmp_path):
    """Choose, restore, slide, take away; then a file that is no photo; then the end, which leaves nothing."""
    address, process = command("--max-pixels", "1000")
    page = chromium.page(address)
    page.downloads_to(tmp_path / "downloads")
    photo = picture("my photo.png", 24, 32)
    chosen(page, photo, "shake")
    assert page.value("document.querySelector('#dial').value") == "0.5"  # the recipe's own
    page.click("#start")
    page.until(DONE)
    page.until("document.querySelector('#after').naturalWidth === 32")
    assert page.value("document.querySelector('#heading').textContent") == "Restored: my photo.png"
    assert "The shake that was found" in page.text()
    assert page.value("document.querySelector('#kernel').naturalWidth") == 207
    assert "of 255 grey levels" in page.text()
    assert "one step of brightness" not in page.text()
    page.click("#glossary summary")
    assert "one step of brightness" in page.text()
    assert page.value(LINE) == "inset(0px 0px 0px 50%)"
    same = "['#before', '#after'].map(i => JSON.stringify(document.querySelector(i).getBoundingClientRect()))"
    assert len(set(page.value(same))) == 1  # one lies on the other
    slider = "document.querySelector('#slider')"
    page.value(f"{slider}.value = 20; {slider}.dispatchEvent(new Event('input'))")
    assert page.value(LINE) == "inset(0px 0px 0px 20%)"
    page.click("#download")
    saved = tmp_path / "downloads" / "my photo.png"
    page.until(saved.exists)
    with Image.open(saved) as result:
        assert result.size == (32, 24)
        assert np.asarray(result).std() > 5
    page.reload()
    page.until(DONE)  # the result is still there
    page.until("document.querySelector('#after').naturalWidth === 32")
    page.click("#again")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    page.put("#photo", bad)
    page.until(READY)
    page.click("#start")
    page.until("!document.querySelector('#error').hidden")
    assert page.value("document.querySelector('#error').textContent").startswith("bad.jpg: not a picture that can")
    chosen(page, picture("large.png", 40, 50), "shake")
    page.click("#start")
    page.click("#smaller")
    page.until(DONE)
    assert "50x40 to 35x28" in page.text()
    assert all(asked.startswith((address, f"blob:{address}", "data:")) for asked in page.asked())
    assert [line for line in page.troubles() if "422" not in line] == []  # that refusal is the browser's to log
    mine = f"invdiff-app-{process.pid}-*"
    (folder,) = Path(tempfile.gettempdir()).glob(mine)
    assert list(folder.rglob("*.png"))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stderr.read() == ""
    assert not folder.exists()


@pytest.fixture
def address(serve):
    """The same page from a thread of this process, which need not import torch again."""
    return f"http://127.0.0.1:{serve().port}/"


def test_two_users_at_once(chromium, address, picture, two_recipes):
    """The second sees its place in the line, the first stops, the second is served; neither sees the other's."""
    two_recipes[1].write_text(two_recipes[1].read_text().replace("steps: 3", "steps: 900"))
    first, second = chromium.page(address), chromium.page(address)
    chosen(first, picture("first.png", 24, 24), "shake")
    first.click("#start")
    first.until("/Step \\d+ of 900/.test(document.querySelector('#said').textContent)")
    first.until("document.querySelector('#after').naturalWidth > 0")  # already a preview
    chosen(second, picture("second.png", 16, 16))
    second.click("#start")
    second.until("document.querySelector('#said').textContent === 'One photo is before yours.'")
    assert "first" not in second.text()
    began = time.monotonic()
    first.click("#stop")
    first.until("document.querySelector('#heading').textContent === 'Stopped: first.png'")
    assert time.monotonic() - began < 5
    second.until(DONE)
    second.until("document.querySelector('#after').naturalWidth === 64")


def test_on_a_phone(chromium, address, picture):
    page = chromium.page(address, width=360, height=700)
    page.until("document.querySelectorAll('.task').length === 2")
    assert not scrolls(page)
    chosen(page, picture("a very long name of a photo that somebody gave it.png", 20, 90))
    assert not scrolls(page)
    page.click("#start")
    page.until(DONE)
    page.until("document.querySelector('#after').naturalWidth === 360")
    assert not scrolls(page)
    low = "[...document.querySelectorAll('button, .button')].filter(b => b.offsetParent && b.offsetHeight < 44).length"
    assert page.value(low) == 0  # large enough for a thumb
    assert 300 < page.value("document.querySelector('#stage').getBoundingClientRect().width") <= 328
    page.click("#actual")
    assert page.value("document.querySelector('#stage').getBoundingClientRect().width") == 360
    assert page.value("document.querySelector('#scroll').scrollWidth > document.querySelector('#scroll').clientWidth")
    assert not scrolls(page)  # the picture scrolls, the page does not


def test_by_keys_and_for_a_screen_reader(chromium, address, picture):
    """Every control is reached, has a name, and shows that it is where one is; the slider moves by arrows."""
    page = chromium.page(address)
    page.until("document.querySelectorAll('.task').length === 2")
    page.call("Page.bringToFront")
    photo = picture("photo.png", 16, 16)
    assert [page.tab() for _ in range(3)] == ["photo", "enlarge", "dial"]
    page.key("ArrowRight", 39)
    assert page.value("document.querySelector('#dial').value") == "0.05"
    assert "Between" in page.value("document.querySelector('#dial').getAttribute('aria-valuetext')")
    page.put("#photo", photo)
    page.until(READY)
    assert page.tab() == "start"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.value(outline) != "none"
    page.key("Enter", 13, "\r")
    page.until("!document.querySelector('#result').hidden")
    assert page.value("document.activeElement.id") == "heading"  # so that what is new is read from its beginning
    page.until(DONE)
    assert page.tab() == "slider"
    page.key("ArrowLeft", 37)
    assert page.value(LINE) == "inset(0px 0px 0px 49%)"
    assert page.value("document.querySelector('#slider').getAttribute('aria-valuetext')").startswith("left 49 percent")
    assert page.value("getComputedStyle(document.querySelector('#stage')).outlineStyle") != "none"
    assert [page.tab() for _ in range(3)] == ["actual", "download", "again"]
    named = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"slider", "button", "link", "checkbox", "radio", "image", "heading", "progressbar"}
    found = [(n["role"]["value"], n.get("name", {}).get("value")) for n in named if not n["ignored"]]
    found = [(role, name) for role, name in found if role in roles]
    assert len(found) > 8
    assert [role for role, name in found if not name] == []
    assert page.value("document.querySelector('#said').getAttribute('role')") == "status"
    assert page.value("document.documentElement.lang") == "en"
    page.key("Enter", 13, "\r")
    page.until("document.activeElement.id === 'photo'")  # the beginning again
