"""The page with tiny priors: its server in a thread, asked over HTTP as a browser would."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
import torch

from invdiff.components.weights import save_prior
from invdiff_mcformer.prior import MCFormerPrior
from invdiff_mcformer.settings import MCFormerSettings

SHAKE = """\
name: tiny_shake
degradation: {kind: motion, kernel_size: 9}
prior: {kind: mcformer, weights: WEIGHTS}
guidance:
  - {kind: kernel_update, iterations: 5}
  - {kind: proximal, iterations: 5}
sampler: {steps: 3, temperature: 0.5}
"""


@pytest.fixture(scope="session")
def shake_weights(tmp_path_factory):
    network = {"preset": "small", "kernel_size": 9, "channels": (8, 8, 8, 8), "heads": (1, 1, 1, 1)}
    network |= {"blocks": (1, 1, 1, 1), "estimator": {"kind": "spectral", "channels": 8, "maps": 2}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = MCFormerSettings(network=network, scale=1, preconditioning="residual", value_range=(-1, 1))
        prior = MCFormerPrior(settings)
    path = tmp_path_factory.mktemp("weights") / "shake.safetensors"
    save_prior(prior, "mcformer", path)
    return path


@pytest.fixture
def two_recipes(recipe, shake_weights):
    """Paths of the recipes of the two tasks; the first has the bundled one's single step."""
    enlarge = recipe(("steps: 2", "steps: 1\n  temperature: 0"), name="enlarge.yaml")
    return enlarge, recipe(text=SHAKE, name="shake.yaml", weights=shake_weights)


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    json: dict = field(default_factory=dict)


@dataclass
class Served:
    """A page that is open, and its desk."""

    port: int
    desk: object

    def ask(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        data = response.read()
        connection.close()
        kind = response.headers.get("content-type", "")
        return Answer(response.status, dict(response.headers.items()), data, json.loads(data) if "json" in kind else {})

    def bring(self, data, name="photo.png", task="enlarge", dial="0", more=""):
        return self.ask("POST", f"/orders?task={task}&dial={dial}&name={quote(name)}{more}", data)

    def order(self, *arguments, **named):
        """Bring a photo, and return its order's address."""
        answer = self.bring(*arguments, **named)
        assert answer.status == 201, answer.body
        return f"/orders/{answer.json['order']}"

    def until(self, order, *states, seconds=60):
        """Ask until an order is in one of these states."""
        ends = time.monotonic() + seconds
        while (status := self.ask("GET", order).json)["state"] not in states:
            assert time.monotonic() < ends, status
            time.sleep(0.02)
        return status


@pytest.fixture
def serve(two_recipes):
    """Opens pages; keywords are those of the desk, and ``limits`` or ``everyone`` of the application.

    What it says in the terminal is in ``told``.
    """
    pytest.importorskip("starlette", reason="the extra 'app' is not installed")
    pytest.importorskip("uvicorn", reason="the extra 'app' is not installed")
    from invdiff.app.desk import Desk
    from invdiff.app.server import application, bound, server_of
    from invdiff.app.tasks import tasks

    opened, told = [], []

    def build(limits=None, everyone=False, **named):
        desk = Desk("cpu", **named)
        server = server_of(application(desk, tasks(*map(str, two_recipes)), told.append, limits, everyone))
        listening = bound("127.0.0.1", 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        opened.append((server, thread, listening))
        ends = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < ends
            time.sleep(0.01)
        return Served(listening.getsockname()[1], desk)

    def close():
        for server, thread, listening in opened:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
            listening.close()
        opened.clear()

    build.close, build.told = close, told
    yield build
    close()
