"""A real Chromium without a window, driven through its DevTools protocol over two pipes: no package is needed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
  --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe about:blank"""


class Chromium:
    """The browser; each :meth:`page` is a user of his own, with nothing shared."""

    def __init__(self, program: str, folder: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()

        def placed() -> None:  # the protocol's pipes are 3 and 4; first out of each other's way
            kept = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(kept[0], 3)
            os.dup2(kept[1], 4)

        command = [program, *FLAGS.split(), f"--user-data-dir={folder}"]
        self._process = subprocess.Popen(
            command, close_fds=False, preexec_fn=placed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._rest, self.events = 0, b"", []

    def call(self, method: str, session: str | None = None, **parameters):
        """Ask, and wait for the answer; what happens meanwhile is kept in ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                return found["result"]
            self.events.append(found)

    def _next(self):
        while b"\0" not in self._rest:
            more = os.read(self._in, 1 << 20)
            assert more, "Chromium ended"
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        return json.loads(one)

    def page(self, address: str, width: int = 1100, height: int = 900) -> Page:
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, context)
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        page.call("Page.navigate", url=address)
        page.until("document.readyState === 'complete'")
        return page

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._out)
        os.close(self._in)


class Page:
    """One page of one user."""

    def __init__(self, browser: Chromium, session: str, context: str) -> None:
        self.browser, self.session, self.context = browser, session, context

    def call(self, method: str, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def value(self, expression: str):
        """What an expression of JavaScript is, as data."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def reload(self) -> None:
        """The same page anew, not a word of the old one."""
        self.value("window.isOld = true")
        self.call("Page.reload")
        self.until("!window.isOld && document.readyState === 'complete'")

    def until(self, what: str | Callable[[], object], seconds: float = 40):
        """Wait until an expression, or a function, is true."""
        ends = time.monotonic() + seconds
        while not (found := what() if callable(what) else self.value(what)):
            if time.monotonic() > ends:
                raise AssertionError(f"{what}: not within {seconds} s; the page says: {self.text()}")
            time.sleep(0.05)
        return found

    def text(self) -> str:
        return self.value("document.body ? document.body.innerText : ''")

    def put(self, selector: str, path: Path) -> None:
        """Choose a file in an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def key(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def tab(self) -> str:
        """Go on to the next control, and return its id."""
        self.key("Tab", 9)
        return self.value("document.activeElement.id || document.activeElement.value || ''")

    def click(self, selector: str) -> None:
        """The mouse, in the middle of an element that can be seen."""
        self.until(
            f"(() => {{ const e = document.querySelector({selector!r}); return e && e.offsetParent !== null; }})()"
        )
        middle = (
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        x, y = self._settled(middle)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def _settled(self, place: str) -> list[float]:
        """A place once it stays where it is: a picture that arrives moves what lies below it."""
        found = self.value(place)
        for _ in range(100):
            time.sleep(0.05)
            before, found = found, self.value(place)
            if found == before:
                break
        return found

    def downloads_to(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.browser.call(
            "Browser.setDownloadBehavior", behavior="allow", browserContextId=self.context, downloadPath=str(folder)
        )

    def screenshot(self, path: Path, whole: bool = True) -> None:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def asked(self) -> list[str]:
        """Every address that the page asked for."""
        requests = [e for e in self.browser.events if e.get("sessionId") == self.session]
        return [e["params"]["request"]["url"] for e in requests if e["method"] == "Network.requestWillBeSent"]

    def troubles(self) -> list[str]:
        """What the browser's console says is wrong."""
        mine = [e for e in self.browser.events if e.get("sessionId") == self.session]
        found = [e["params"]["entry"]["text"] for e in mine if e["method"] == "Log.entryAdded"]
        return found + [str(e["params"]) for e in mine if e["method"] == "Runtime.exceptionThrown"]
