"""What every request must keep, and every response carries, whatever the page."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_node.console.settings import LOOPBACK_NAMES, ConsoleSettings, name_of

MAX_BODY = 64 * 1024
MAX_QUERY = 8 * 1024
FORM = "application/x-www-form-urlencoded"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware around everything: host, origin, size and kind of what comes; safe headers on what goes."""

    def __init__(self, app: ASGIApp, settings: ConsoleSettings) -> None:
        self._app = app
        self._hosts = _allowed(settings)
        self._headers = dict(_HEADERS)
        if settings.encrypted:
            self._headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it in one line."""
        if scope["type"] != "http":
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send_safely)
            return
        await self._app(scope, _bounded(receive), send_safely)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and name_of(host) not in self._hosts:
            return _refuse(400, f"this console is not called {host[:100]!r}; see console.hosts")
        if len(scope.get("query_string", b"")) > MAX_QUERY:
            return _refuse(414, "the address is too long")
        if scope["method"] in ("GET", "HEAD"):
            return None
        return _unfit_form(headers, host)


def _unfit_form(headers: Headers, host: str) -> PlainTextResponse | None:
    origin = headers.get("origin")
    if origin is not None and _place_of(origin) != host.lower():
        return _refuse(403, "this form was sent from another site")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return _refuse(415, f"forms are sent as {FORM}")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= MAX_BODY):
        return _refuse(413, f"a form may have {MAX_BODY} bytes")
    return None


def _place_of(origin: str) -> str | None:
    """HOST:PORT of `Origin` in small letters; None of what is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _bounded(receive: Receive) -> Receive:
    """`receive` that refuses to go on when a body without a length is larger than allowed."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY:
            raise HTTPException(413, f"a form may have {MAX_BODY} bytes")
        return message

    return bounded


def _allowed(settings: ConsoleSettings) -> frozenset[str]:
    """Names that `Host` may say, against DNS rebinding; empty for any, which needs users: their cookies are bound to
    the name.
    """
    if settings.users is not None and not settings.hosts:
        return frozenset()
    loopback = LOOPBACK_NAMES if settings.loopback else frozenset()
    return frozenset({*loopback, name_of(settings.host), *settings.hosts})


def _refuse(status: int, line: str) -> PlainTextResponse:
    return PlainTextResponse(line + "\n", status)
