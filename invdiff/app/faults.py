"""The last guard of the page: what nobody foresaw is a line for who asked and one in the terminal; the page goes on."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import is_foreseen, reason

Told = Callable[[Exception], object]
"""Says an error in the terminal, in one line."""


class Faults:
    """ASGI middleware: an error on the way to an answer is told, and answered in a line that names no place."""

    def __init__(self, app: ASGIApp, told: Told) -> None:
        self.app, self.told = app, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if scope["type"] != "http":
                raise
            self.told(error)
            if not begun:
                line = reason(error) if is_foreseen(error) else "a fault of invdiff: the terminal says which"
                await JSONResponse({"error": line}, 500)(scope, receive, send)
