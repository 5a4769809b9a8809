"""The console as an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_node.console import devices, export, item, listing, live, login, pictures
from cloud_node.console.backing import Backing
from cloud_node.console.guard import Guard
from cloud_node.console.settings import ConsoleSettings
from cloud_node.console.site import STATIC, Site, to_login
from fusion.errors import FusionError

_OPEN = ("/login", "/static/")
Next = Callable[[Request], Awaitable[Response]]


def make_app(settings: ConsoleSettings, backing: Backing, closing: Callable[[], bool]) -> ASGIApp:
    """Everything behind one address. Raises `ConfigError` for a file of users that cannot be read."""
    site = Site(settings, backing, closing)
    rooms = (live, devices, listing, item, pictures, export, login)
    app = Starlette(
        routes=[
            *(route for room in rooms for route in room.routes(site)),
            Mount("/static", _Static(directory=STATIC), name="static"),
        ],
        exception_handlers={HTTPException: site.failed, FusionError: site.failed, Exception: site.failed},
    )
    return Guard(_Login(app, site), settings)


class _Login:
    """ASGI middleware: nobody unknown gets past the login."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or ask for a login first."""
        request = Request(scope)
        if not self._site.visitor(request).known and not scope["path"].startswith(_OPEN):
            await to_login(request)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Static(StaticFiles):
    """Static files; those asked for by their version may be kept for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file."""
        response = await super().get_response(path, scope)
        versioned = scope["query_string"].startswith(b"v=")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response
