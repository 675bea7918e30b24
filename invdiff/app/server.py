"""The addresses of the page: what it is made of, orders, and what becomes of them. No path of the disk is one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ..errors import InvdiffError, explained
from ..io.decoding import TooManyPixelsError
from .desk import Desk, FullError
from .faults import Faults, Told
from .guard import Guard
from .orders import Order
from .tasks import Task
from .work import seen_first, without_place

_PAGE = {"": "text/html", "style.css": "text/css", "script.js": "text/javascript", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True)
class Intake:
    """What is taken in: bytes of a file, and pixels of the photo in it."""

    size: int = 64 * 2**20
    pixels: int = 2_000_000


class Addresses:
    """What each address answers, over one desk."""

    def __init__(self, desk: Desk, tasks: Mapping[str, Task], limits: Intake) -> None:
        self.desk, self.tasks, self.limits = desk, tasks, limits
        self._decoding = asyncio.Semaphore(1)  # of many photos at once there may be no memory

    def routes(self) -> list[Route]:
        """Everything that can be asked."""
        one = "/orders/{ident}"
        return [
            *(Route(f"/{name}", _part(name, kind)) for name, kind in _PAGE.items()),
            Route("/about", self.about),
            Route("/orders", self.order, methods=["POST"]),
            Route(one, self.status),
            Route(one, self.forget, methods=["DELETE"]),
            Route(f"{one}/stop", self.stop, methods=["POST"]),
            Route(f"{one}/views/{{name}}", self.view),
            Route(f"{one}/files/{{name}}", self.file),
        ]

    async def about(self, request: Request) -> Response:
        """What can be asked for, and the limits."""
        tasks = [
            {"name": task.name, "title": task.title, "about": task.about, "dial": task.usual()}
            for task in self.tasks.values()
        ]
        limits = {"size": self.limits.size, "pixels": self.limits.pixels}
        kept = self.desk.keep is not None
        return JSONResponse({"tasks": tasks, "limits": limits, "kept": kept, "version": version("invdiff")})

    async def order(self, request: Request) -> Response:
        """A photo, the request's body, to be restored: the address that its order has from now on."""
        task = self.tasks.get(request.query_params.get("task", ""))
        if task is None:
            raise HTTPException(422, f"task: one of {', '.join(self.tasks)} is needed")
        dial = _dial(request.query_params.get("dial", "0"))
        order = self.desk.new(task, dial, request.query_params.get("name", ""))
        try:
            await self._receive(request, order)
            async with self._decoding:
                await run_in_threadpool(seen_first, order, self.limits.pixels, "smaller" in request.query_params)
        except BaseException as error:
            self.desk.forget(order)
            if not isinstance(error, InvdiffError | OSError | MemoryError):
                raise
            line, smaller = without_place(explained(error), order), isinstance(error, TooManyPixelsError)
            return JSONResponse({"error": line, "smaller": smaller}, 422)
        self.desk.take(order)
        return JSONResponse({"order": order.ident}, 201)

    async def _receive(self, request: Request, order: Order) -> None:
        """The body into the order's file, no byte more than the limit."""
        most = self.limits.size
        too_large = HTTPException(413, f"the file is larger than {most / 2**20:g} MB", {"connection": "close"})
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise too_large
        received = 0
        with order.source.open("wb") as file:
            async for chunk in request.stream():
                received += len(chunk)
                if received > most:
                    raise too_large
                file.write(chunk)

    def _found(self, request: Request) -> Order:
        order = self.desk.find(request.path_params["ident"])
        if order is None:
            raise HTTPException(404, "this result is not here any more: results go when their page is closed")
        return order

    async def status(self, request: Request) -> Response:
        """How far an order is."""
        order = self._found(request)
        return JSONResponse(order.status(self.desk.before(order)))

    async def stop(self, request: Request) -> Response:
        """Stop an order; its photo can still be seen."""
        order = self._found(request)
        self.desk.stop(order)
        return JSONResponse(order.status(self.desk.before(order)))

    async def forget(self, request: Request) -> Response:
        """Stop an order, and remove all that there is of it."""
        self.desk.forget(self._found(request))
        return Response(status_code=204)

    async def view(self, request: Request) -> Response:
        """A picture to look at."""
        view = self._found(request).views.get(request.path_params["name"])
        if view is None:
            raise HTTPException(404, "no such picture")
        return Response(view.data, media_type=view.kind)

    async def file(self, request: Request) -> Response:
        """A file to take away, as ``invdiff run`` writes it."""
        path = self._found(request).files().get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "no such file")
        return FileResponse(path, filename=path.name)


def _part(name: str, kind: str) -> Callable[[Request], Response]:
    """One of the files that the page is made of."""
    data = (files(__package__) / "page" / (name or "index.html")).read_bytes()
    return lambda request: Response(data, media_type=kind)


def _dial(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise HTTPException(422, "dial: a number from 0 to 1 is needed")


async def _in_a_line(request: Request, error: Exception) -> Response:
    status, line, headers = 503, str(error), None
    if isinstance(error, HTTPException):
        status, line, headers = error.status_code, error.detail, error.headers
    return JSONResponse({"error": line}, status, headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def application(
    desk: Desk, tasks: Mapping[str, Task], told: Told, limits: Intake | None = None, everyone: bool = False
) -> Starlette:
    """The page over a desk, which is open as long as the application runs; ``told`` hears of its faults."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async def tidy() -> None:
            while True:
                await asyncio.sleep(5)
                await run_in_threadpool(desk.tidy)

        desk.open()
        tidying = asyncio.create_task(tidy())
        try:
            yield
        finally:
            tidying.cancel()
            await run_in_threadpool(desk.close)

    return Starlette(
        routes=Addresses(desk, tasks, limits or Intake()).routes(),
        middleware=[Middleware(Guard, everyone=everyone), Middleware(Faults, told=told)],
        exception_handlers={HTTPException: _in_a_line, FullError: _in_a_line, ClientDisconnect: _gone},
        lifespan=lifespan,
    )


def bound(host: str, port: int) -> socket.socket:
    """A socket at that address; :class:`InvdiffError` where there can be none."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvdiffError(f"--host {host} --port {port}: {why}; --port 0 takes any that is free") from None


def server_of(app: Starlette) -> uvicorn.Server:
    """What runs it: quiet, and not waiting for pages that are still open when it is to end."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False)
    return uvicorn.Server(config)
