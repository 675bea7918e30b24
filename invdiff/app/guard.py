"""Who may ask: the page itself, opened on this machine or by an address, and no other page in the same browser."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether an address, or ``localhost``, is this machine's own and nobody else's."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refusal(headers: Headers, method: str, *, everyone: bool) -> str:
    """Why a request is refused, or nothing.

    A page of somebody else's, in the same browser, could point a name of its own at this machine (DNS rebinding): it
    would ask with that name as the host. It could also send a form here: a browser then says where it comes from.
    ``everyone``: asked from other machines too, by this one's address or name.
    """
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        known = is_loopback(name) or (everyone and (_is_address(name) or name == socket.gethostname().lower()))
    except ValueError:
        known = False
    if not known:
        return "unknown host"
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    if method not in ("GET", "HEAD") and (
        origin not in (None, f"http://{host}") or site not in ("same-origin", "none")
    ):
        return "asked by another page"
    return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware: refuses what :func:`refusal` names, and tells browsers to load nothing from elsewhere."""

    def __init__(self, app: ASGIApp, everyone: bool = False) -> None:
        self.app, self.everyone = app, everyone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        reason = refusal(Headers(scope=scope), scope["method"], everyone=self.everyone)
        app = PlainTextResponse(f"refused: {reason}\n", 403) if reason else self.app
        await app(scope, receive, with_headers)
