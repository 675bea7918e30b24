"""The desk: orders in a line, one worked on at a time, and none kept longer than its page is open."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ..errors import InvdiffError, explained
from .orders import Order, harmless
from .tasks import Task
from .work import Stopped, without_place, work_on

MOST_WAITING, MOST_KEPT = 20, 20
FORGOTTEN = 600.0
"""Seconds after which an order that no page asks about is stopped and its files are removed."""


class FullError(InvdiffError):
    """So many wait already that another one would wait for very long."""


class Desk:
    """Takes orders and works on them in turn, in a thread of its own, from :meth:`open` to :meth:`close`.

    All files lie in a temporary folder that goes with the desk; with ``keep`` results go there instead, a folder each,
    and stay.
    """

    def __init__(self, device: str = "auto", keep: Path | None = None, work: Callable[[Order, str], None] = work_on):
        self.device, self.keep, self.work = device, keep, work
        self.orders: dict[str, Order] = {}
        self._line: list[Order] = []
        self._changed = threading.Condition()
        self._closing = False

    def open(self) -> None:
        """Make the temporary folder and begin to work."""
        self.folder = Path(tempfile.mkdtemp(prefix=f"invdiff-app-{os.getpid()}-"))
        self._thread = threading.Thread(target=self._work, name="invdiff-app", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop what is worked on, and remove every file that was not asked to be kept."""
        with self._changed:
            self._closing = True
            for order in self.orders.values():
                order.stop.set()
            self._changed.notify()
        self._thread.join(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def new(self, task: Task, dial: float, name: str) -> Order:
        """An order that is not yet in line, with a place for its photo; :class:`FullError` if the line is long."""
        if len(self._line) > MOST_WAITING:
            raise FullError(f"{MOST_WAITING} photos are waiting already: try again later")
        name = harmless(name)
        scratch = Path(tempfile.mkdtemp(dir=self.folder))
        results = scratch / "out"
        if self.keep is not None:
            stamp = datetime.now().strftime("%Y-%m-%d_%H.%M.%S.%f")
            results = self.keep / f"{stamp[:-3]}_{Path(name).stem}"
        return Order(task, dial, name, scratch / name, results)

    def take(self, order: Order) -> None:
        """Put it in line."""
        with self._changed:
            self.orders[order.ident] = order
            self._line.append(order)
            self._changed.notify()

    def find(self, ident: str) -> Order | None:
        """The order of that address, which is asked about now."""
        order = self.orders.get(ident)
        if order is not None:
            order.asked = time.monotonic()
        return order

    def before(self, order: Order) -> int:
        """How many come before it, the one that is worked on among them."""
        with self._changed:
            return self._line.index(order) if order in self._line else 0

    def stop(self, order: Order) -> None:
        """Stop it where it is; one that waits leaves the line."""
        order.stop.set()
        with self._changed:
            if order.state == "waiting" and order in self._line:
                self._line.remove(order)
                order.state = "stopped"

    def forget(self, order: Order) -> None:
        """Stop it if it came into line, and remove its files."""
        self.stop(order)
        with self._changed:
            self.orders.pop(order.ident, None)
            working = order in self._line
        if not working:  # else the worker removes them
            self._remove(order)

    def tidy(self) -> None:
        """Forget orders whose page is gone, and the oldest of too many that are over."""
        now = time.monotonic()
        orders = list(self.orders.values())
        over = [order for order in orders if order.over]
        old = [order for order in orders if now - order.asked > FORGOTTEN]
        for order in dict.fromkeys([*old, *over[: max(0, len(over) - MOST_KEPT)]]):
            self.forget(order)

    def _remove(self, order: Order) -> None:
        shutil.rmtree(order.source.parent, ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line or self._closing)
                if self._closing:
                    return
                order = self._line[0]
                order.state = "working"
            try:
                self.work(order, self.device)
            except Stopped:
                order.state = "stopped"
            except Exception as error:  # of one order, told to its page: the others go on
                order.failure, order.state = without_place(explained(error), order), "failed"
            with self._changed:
                self._line.remove(order)
                gone = order.ident not in self.orders
            with suppress(OSError):  # whatever becomes of files, the next order is worked on
                order.source.unlink(missing_ok=True)
                order.folder.rmdir()  # where nothing came of it
            if gone:
                self._remove(order)
