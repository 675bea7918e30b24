"""The page's server: what it does for a photo, and what it does for nobody."""

from __future__ import annotations

import io
import json
import socket
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'app' is not installed")

from invdiff.app import desk as desk_room
from invdiff.app.guard import is_loopback
from invdiff.app.orders import harmless
from invdiff.app.server import Intake
from invdiff.app.tasks import tasks
from invdiff.metrics.catalogue import RESIDUAL


def png(height=16, width=20, seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("task", "dial", "side"), [("enlarge", "0", 4), ("enlarge", "0.7", 4), ("shake", "0.5", 1)])
def test_does_what_the_command_does(serve, cli, two_recipes, tmp_path, task, dial, side):
    """The same bytes, metadata too, and the same report; the command is the one that the page's words name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    data = png(icc_profile=profile, dpi=(200, 200), exif=exif)
    page = serve()
    order = page.order(data, name="a cat.png", task=task, dial=dial)
    status = page.until(order, "done", "failed")
    assert status["state"] == "done", status
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a cat.png").write_bytes(data)
    recipe = two_recipes[task == "shake"]
    changes = tasks(*map(str, two_recipes))[task].dialled(float(dial))
    options = [word for change in changes for word in ("--set", change)]
    done = cli("run", recipe, tmp_path / "in" / "a cat.png", "-o", tmp_path / "out", *options, "--device", "cpu")
    assert done.code == 0, done.err
    got = page.ask("GET", f"{order}/files/picture")
    assert got.body == (tmp_path / "out" / "a cat.png").read_bytes()
    assert "a%20cat.png" in got.headers["content-disposition"]
    picture = opened(got.body)
    assert picture.size == (20 * side, 16 * side)
    assert picture.info["icc_profile"] == profile
    assert picture.info["dpi"] == pytest.approx((200 * side, 200 * side), rel=1e-3)
    assert picture.getexif()[0x010E] == "a cat"
    for name, suffix in (
        ("kernel-array", ".kernel.npy"),
        ("kernel-picture", ".kernel.png"),
        ("compare", ".compare.png"),
    ):
        assert page.ask("GET", f"{order}/files/{name}").body == (tmp_path / "out" / f"a cat{suffix}").read_bytes()
    ours = json.loads(page.ask("GET", f"{order}/files/report").body)
    theirs = json.loads((tmp_path / "out" / "report.json").read_text())
    assert ours["settings"] == theirs["settings"]
    assert ours["images"][0]["residual"] == theirs["images"][0]["residual"]
    assert ours["images"][0]["input"] == "a cat.png"
    words = {line["label"]: line for line in status["words"]}
    assert words["Residual"]["text"].startswith(f"{theirs['images'][0]['residual']:.4f}, or ")
    assert theirs["conventions"]["residual"] in words["Residual"]["meaning"]
    assert all(option in words["Again"]["text"] for option in options)
    assert words["Dial"]["text"] == dial
    assert status["glossary"]["residual"] == RESIDUAL.meaning
    assert {"seed", "recipe", "grey level", "temperature, dial"} <= set(status["glossary"])
    said = {"Found": "found", "Done": "done", "Your photo": "fit"}
    assert {name: words[label]["text"] for label, name in said.items()} == theirs["images"][0]["words"]


def test_shows_steps_on_the_way(serve, monkeypatch):
    """After each step a sharper picture and the kernel so far; the last is the result itself."""
    from invdiff.app import work

    seen, go = [], threading.Semaphore(0)
    show = work.Order.show

    def slowly(order, name, view):
        show(order, name, view)
        if name == "after":
            seen.append(view.data)
            assert go.acquire(timeout=30)

    monkeypatch.setattr(work.Order, "show", slowly)
    page = serve()
    order = page.order(png(), task="shake")
    found = []
    for step in range(3):
        ends = time.monotonic() + 30
        while len(seen) <= step:
            assert time.monotonic() < ends
            time.sleep(0.01)
        status = page.ask("GET", order).json
        found.append((status["state"], status["step"], status["steps"], status["shown"]))
        assert page.ask("GET", f"{order}/views/after").body == seen[step]
        assert opened(page.ask("GET", f"{order}/views/before").body).size == (20, 16)
        go.release()
    assert found == [("working", step, 3, step + 1) for step in range(3)]
    go.release()
    status = page.until(order, "done")
    assert (status["step"], status["progress"], status["shown"]) == (3, 1.0, 4)
    assert len(set(seen)) == 4
    result = np.asarray(opened(page.ask("GET", f"{order}/files/picture").body)).astype(float)
    shown = np.asarray(opened(page.ask("GET", f"{order}/views/after").body)).astype(float)
    assert np.abs(result - shown).mean() < 6  # JPEG, of noise
    assert opened(page.ask("GET", f"{order}/views/kernel").body).size == (207, 207)


def test_parts_of_a_large_photo_count(serve, two_recipes):
    """One step in tiles is progress too."""
    path = two_recipes[0]
    path.write_text(path.read_text().replace("steps: 1", "steps: 1\n  tile: 64\n  overlap: 16"))
    page = serve()
    shares = set()
    order = page.order(png(36, 36))
    while (status := page.ask("GET", order).json)["state"] in ("waiting", "working"):
        shares.add(status["progress"])
    assert status["state"] == "done", status
    assert len(shares - {0, 1}) >= 2
    assert all(abs(9 * share - round(9 * share)) < 1e-2 for share in shares), shares


# --- who may ask ---------------------------------------------------------------------------------------------------


OTHERS = [
    ("GET", {"Host": "evil.example"}, 403),
    ("GET", {"Host": "127.0.0.1.evil.example"}, 403),
    ("GET", {"Host": "192.0.2.7"}, 403),
    ("GET", {"Host": ""}, 403),
    ("GET", {"Host": "[::1"}, 403),
    ("GET", {"Host": "localhost:1"}, 200),
    ("GET", {"Host": "[::1]:8765"}, 200),
    ("GET", {"Sec-Fetch-Site": "cross-site"}, 200),  # a link to the page; it says nothing of anybody's order
    ("POST", {"Origin": "http://evil.example"}, 403),
    ("POST", {"Origin": "null"}, 403),
    ("POST", {"Origin": "http://127.0.0.1:1"}, 403),
    ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
    ("POST", {"Sec-Fetch-Site": "same-site"}, 403),
    ("DELETE", {"Origin": "http://evil.example"}, 403),
]


def test_other_pages_are_refused(serve):
    page = serve()
    for method, headers, status in OTHERS:
        address = "/about" if method == "GET" else "/orders?task=enlarge&name=a.png"
        answer = page.ask(method, address, png() if method == "POST" else None, headers)
        assert answer.status == status, headers
        assert page.desk.orders == {}, headers
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.body.startswith(b"refused: ") == (status == 403)


def test_the_page_itself_is_let_in(serve):
    page = serve()
    headers = {"Origin": f"http://127.0.0.1:{page.port}", "Sec-Fetch-Site": "same-origin"}
    answer = page.ask("POST", "/orders?task=enlarge&name=a.png", png(), headers)
    assert answer.status == 201


def test_everyone_is_let_in_by_an_address_only(serve):
    page = serve(everyone=True)
    asked = {
        host: page.ask("GET", "/about", headers={"Host": host}).status for host in ("192.0.2.7:8765", "evil.example")
    }
    assert asked == {"192.0.2.7:8765": 200, "evil.example": 403}
    assert page.ask("GET", "/about", headers={"Host": socket.gethostname()}).status == 200


def test_every_answer_keeps_the_browser_at_home(serve):
    page = serve()
    order = page.order(png())
    page.until(order, "done")
    for path in ("/", "/style.css", "/script.js", "/icon.svg", "/about", order, f"{order}/files/picture", "/nowhere"):
        headers = page.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["cross-origin-resource-policy"] == "same-origin", path
        assert headers["cache-control"] == "no-store", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert "server" not in headers, path
        assert "access-control-allow-origin" not in headers, path


def test_no_path_of_the_disk_is_an_address(serve, tmp_path):
    page = serve()
    order = page.order(png())
    page.until(order, "done")
    secret = page.desk.folder / "secret.txt"
    secret.write_text("TOP SECRET")
    up = ["..", "%2e%2e", "..%2f..", "%2e%2e%2f", "....//", "..%5c.."]
    paths = [f"/{u}/{u}/secret.txt" for u in up] + [f"{order}/files/{u}/secret.txt" for u in up]
    paths += [
        f"{order}/files/{secret}",
        f"{order}/files//{secret}",
        f"/{secret}",
        f"//{secret}",
        "/server.py",
        "/page/",
    ]
    paths += [f"{order}/files/photo.png", f"{order}/views/..%2fsecret.txt", f"/orders/..%2f{secret.name}", "/orders"]
    paths += [
        f"{order}/files/report.json",
        f"{order}/files/picture%00",
        "/style.css/..",
        "/.",
        "/../invdiff/__init__.py",
    ]
    for path in paths:
        answer = page.ask("GET", path)
        assert answer.status in (404, 405), path
        assert b"SECRET" not in answer.body
        assert str(page.desk.folder).encode() not in answer.body


# --- what is taken in ----------------------------------------------------------------------------------------------


def bomb(width, height):
    """A PNG of a few bytes that claims a size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


NO_PHOTOS = [
    (b"no picture", "cat.jpg", "cat.jpg: not a picture that can be read"),
    (b"", "cat.jpg", "cat.jpg: not a picture that can be read"),
    (b"no picture", "cat.heic", "cat.heic: not a picture that can be read: save it as JPEG or PNG"),
    (png()[:200], "cut.png", "cut.png: "),
    (bomb(60000, 60000), "bomb.png", "bomb.png: 60000x60000 are more than 400 pixels"),
    (png(21, 20), "large.png", "large.png: 20x21 are more than 400 pixels: make it smaller"),
    (b"%!PS-Adobe-3.0\n", "run.png", "run.png: not a picture that can be read"),
]


def test_what_is_no_photo_is_a_line(serve):
    """Which names no path, and nothing is left of it."""
    page = serve(limits=Intake(2000, 400))
    for data, name, error in NO_PHOTOS:
        answer = page.bring(data, name=name)
        assert answer.status == 422, name
        assert answer.json["error"].startswith(error), name
        assert "/" not in answer.json["error"], name
        assert list(page.desk.folder.iterdir()) == [], name


def test_no_byte_more_than_the_limit(serve):
    page = serve(limits=Intake(2000, 400))
    for body in (bytes(2001), iter([bytes(1500), bytes(1500)])):  # with its length told, and in pieces without
        answer = page.bring(body)
        assert answer.status == 413
        assert answer.json["error"].startswith("the file is larger than ")
        assert list(page.desk.folder.iterdir()) == []
    page.order(png(10, 10))


def test_an_upload_that_breaks_off_leaves_nothing(serve):
    page = serve()
    with socket.create_connection(("127.0.0.1", page.port)) as connection:
        head = ["POST /orders?task=enlarge&name=a.png HTTP/1.1", f"Host: 127.0.0.1:{page.port}", "Content-Length: 900"]
        connection.sendall("\r\n".join([*head, "", ""]).encode() + bytes(100))
        ends = time.monotonic() + 10
        while not list(page.desk.folder.iterdir()):
            assert time.monotonic() < ends
    while list(page.desk.folder.iterdir()):
        assert time.monotonic() < ends
        time.sleep(0.01)
    assert page.desk.orders == {}


def test_what_cannot_be_asked_for(serve):
    page = serve()
    for query in ("task=enlarge&dial=2", "task=enlarge&dial=nan", "task=enlarge&dial=x", "task=other", ""):
        answer = page.ask("POST", f"/orders?{query}", png())
        assert answer.status == 422, query
        assert answer.json["error"].startswith(("dial: a number", "task: one of enlarge, shake")), query


def test_a_large_photo_is_made_smaller_when_asked(serve):
    page = serve(limits=Intake(pixels=400))
    data = png(30, 60, dpi=(100, 100))
    assert page.bring(data).json["smaller"] is True
    order = page.order(data, task="shake", more="&smaller=yes")
    status = page.until(order, "done", "failed")
    assert status["state"] == "done", status
    picture = opened(page.ask("GET", f"{order}/files/picture").body)
    assert picture.size == (28, 14)
    assert picture.info["dpi"] == pytest.approx((100 * 28 / 60,) * 2, rel=1e-3)  # printed, as large as it was
    words = {line["label"]: line["text"] for line in status["words"]}
    assert words["Size"] == "60x30 to 28x14"
    assert "Again" not in words


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cat.jpg", "cat.jpg"),
        ("Größe 3.JPG", "Größe 3.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\cat.png", "cat.png"),
        (".hidden.png", "hidden.png"),
        ("..", "photo"),
        ("", "photo"),
        ("a\0b\n\u202egnp.exe", "a_b__gnp.exe"),
        ("x" * 300 + ".tiff", "x" * 60 + ".tiff"),
        ("-rf.png", "-rf.png"),
        ("<b>.p/ng", "ng"),
        ("tar.gz.png", "tar_gz.png"),
    ],
)
def test_names_are_harmless(given, name):
    assert harmless(given) == name


# --- the line ------------------------------------------------------------------------------------------------------


class Slow:
    """Work that ends when it is told to, and counts how much of it goes on at once."""

    def __init__(self):
        self.go, self.now, self.most, self.order = threading.Semaphore(0), 0, 0, []

    def __call__(self, order, device):
        self.now += 1
        self.most = max(self.most, self.now)
        self.order.append(order.name)
        while not self.go.acquire(timeout=0.02):
            if order.stop.is_set():
                self.now -= 1
                raise desk_room.Stopped
        self.now -= 1
        order.state = "done"


def test_one_at_a_time_in_the_order_they_came(serve):
    slow = Slow()
    page = serve(work=slow)
    orders = [page.order(png(), name=f"{i}.png") for i in range(4)]
    page.until(orders[0], "working")
    assert [page.ask("GET", order).json["before"] for order in orders] == [0, 1, 2, 3]
    assert page.ask("POST", f"{orders[1]}/stop").json["state"] == "stopped"
    assert [page.ask("GET", order).json["before"] for order in orders] == [0, 0, 1, 2]
    page.ask("POST", f"{orders[0]}/stop")
    page.until(orders[2], "working")
    assert page.ask("GET", orders[0]).json["state"] == "stopped"
    for _ in range(2):
        slow.go.release()
    page.until(orders[3], "done")
    assert slow.most == 1
    assert slow.order == ["0.png", "2.png", "3.png"]


def test_the_line_has_an_end(serve, monkeypatch):
    monkeypatch.setattr(desk_room, "MOST_WAITING", 2)
    page = serve(work=Slow())
    for _ in range(3):
        page.order(png())
    answer = page.bring(png())
    assert answer.status == 503
    assert answer.json["error"] == "2 photos are waiting already: try again later"


def test_stop_stops_at_once_and_the_next_goes_on(serve, two_recipes):
    """In the middle of a long restoring, not only between pictures."""
    path = two_recipes[1]
    path.write_text(path.read_text().replace("steps: 3", "steps: 900"))
    page = serve()
    long, next_one = page.order(png(), task="shake"), page.order(png())
    page.until(long, "working")
    while (status := page.ask("GET", long).json)["step"] < 2:
        assert status["state"] == "working", status
        time.sleep(0.01)
    began = time.monotonic()
    page.ask("POST", f"{long}/stop")
    assert page.until(long, "stopped")["files"] == []
    assert time.monotonic() - began < 3
    assert page.until(next_one, "done", "failed")["state"] == "done"


def test_a_fault_is_told_and_the_next_goes_on(serve):
    def work(order, device):
        if order.name == "bad.png":
            raise RuntimeError(f"broken at {order.source}")
        order.state = "done"

    page = serve(work=work)
    bad, good = page.order(png(), name="bad.png"), page.order(png())
    failure = page.until(bad, "failed")["failure"]
    assert failure.startswith("RuntimeError at ")
    assert failure.endswith("broken at bad.png")
    page.until(good, "done")


def test_a_fault_on_the_way_to_an_answer_is_a_line_and_the_page_goes_on(serve, monkeypatch, capfd):
    """One for whoever asked, which names nothing, and the error itself for the terminal; no traceback there."""
    page = serve()
    order = page.order(png())

    def broken(order):
        raise ArithmeticError(f"odd, at {order.source}")

    with monkeypatch.context() as patch:
        patch.setattr(page.desk, "before", broken)
        answer = page.ask("GET", order)
    assert (answer.status, answer.json) == (500, {"error": "a fault of invdiff: the terminal says which"})
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert [type(error) for error in serve.told] == [ArithmeticError]
    assert capfd.readouterr().err == ""
    assert page.until(order, "done", "failed")["state"] == "done"


def test_a_full_disk_is_a_line(serve, monkeypatch):
    page = serve()

    def full(**place):
        raise OSError(28, "No space left on device", str(place["dir"] / "x"))

    with monkeypatch.context() as patch:
        patch.setattr(desk_room.tempfile, "mkdtemp", full)
        answer = page.bring(png())
    assert (answer.status, answer.json) == (500, {"error": "No space left on device"})
    page.order(png())


def test_a_photo_that_cannot_be_removed_does_not_end_the_work(serve, monkeypatch):
    page = serve()

    def kept(path, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", kept)
        page.until(page.order(png()), "done")
        page.until(page.order(png()), "done")


def test_a_photo_that_cannot_be_restored_is_a_line(serve, two_recipes):
    """Here one that was damaged while it waited."""
    path = two_recipes[1]
    path.write_text(path.read_text().replace("steps: 3", "steps: 900"))
    page = serve()
    long, order = page.order(png(), task="shake"), page.order(png(), name="mine.png")
    source = page.desk.orders[order.rpartition("/")[2]].source
    source.write_bytes(source.read_bytes()[:200])
    page.ask("POST", f"{long}/stop")
    status = page.until(order, "done", "failed")
    assert status["state"] == "failed"
    assert status["failure"].startswith("mine.png: ")
    assert str(page.desk.folder) not in status["failure"]
    assert status["files"] == []


# --- what is kept --------------------------------------------------------------------------------------------------


def test_nothing_is_kept(serve):
    """While it runs: the results, not the photos. Forgotten: nothing. At the end: no folder."""
    page = serve()
    one, other = page.order(png(), name="mine.png"), page.order(png(seed=1))
    for order in (one, other):
        page.until(order, "done")
    folder = page.desk.folder
    ends = time.monotonic() + 10  # the photo goes just after its page is told
    while (kept := {p.name for p in folder.glob("*/*")}) != {"out"}:
        assert time.monotonic() < ends, kept
        time.sleep(0.01)
    assert page.ask("DELETE", one).status == 204
    gone = page.ask("GET", one)
    assert gone.status == 404
    assert gone.json["error"].startswith("this result is not here any more")
    assert len(list(folder.iterdir())) == 1
    serve.close()
    assert not folder.exists()


def test_results_stay_where_they_were_asked_to(serve, tmp_path):
    page = serve(keep=tmp_path / "kept")
    assert page.ask("GET", "/about").json["kept"] is True
    order = page.order(png(), name="mine.png")
    page.until(order, "done")
    page.ask("DELETE", order)
    serve.close()
    (folder,) = (tmp_path / "kept").iterdir()
    assert folder.name.endswith("_mine")
    assert {"mine.png", "mine.kernel.npy", "report.json"} <= {p.name for p in folder.iterdir()}
    assert not page.desk.folder.exists()


def test_orders_whose_page_is_gone_are_dropped(serve, monkeypatch):
    slow = Slow()
    page = serve(work=slow)
    working, waiting = page.order(png(), name="a.png"), page.order(png(), name="b.png")
    page.until(working, "working")
    page.desk.tidy()
    assert len(page.desk.orders) == 2
    monkeypatch.setattr(desk_room, "FORGOTTEN", -1.0)
    page.desk.tidy()
    monkeypatch.undo()
    for order in (working, waiting):
        assert page.ask("GET", order).status == 404
    ends = time.monotonic() + 10
    while list(page.desk.folder.iterdir()):
        assert time.monotonic() < ends
        time.sleep(0.01)
    assert slow.order == ["a.png"]


def test_old_results_make_room(serve, monkeypatch):
    monkeypatch.setattr(desk_room, "MOST_KEPT", 2)

    def work(order, device):
        order.state = "done"

    page = serve(work=work)
    orders = [page.order(png()) for _ in range(4)]
    page.until(orders[-1], "done")
    page.desk.tidy()
    assert [page.ask("GET", order).status for order in orders] == [404, 404, 200, 200]


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.0.1", "localhost", "::1", "[::1]")),
        *((host, False) for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", "")),
    ],
)
def test_which_addresses_are_this_machines_own(host, own):
    assert is_loopback(host) is own


def test_the_command_refuses_in_a_line(refused, two_recipes):
    own = ["--enlarge", two_recipes[0], "--shake", two_recipes[1], "--no-browser"]
    assert "add --let-others-in" in refused("app", "--host", "0.0.0.0", *own)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port {port}: " in refused("app", "--port", port, *own)
    assert "no such recipe" in refused("app", "--enlarge", "nowhere.yaml")
    assert "degradation.padding: " in refused("app", *own[:2], "--shake", two_recipes[0])
