"""Logging in and out."""

from __future__ import annotations

import asyncio
import math

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cloud_node.console.site import Site

_MAX_NAME = 100
_AT_ONCE = 2
"""Logins that are checked at once: each takes 32 MiB and a thread, and counts before the next is let try."""


def routes(site: Site) -> list[Route]:
    """`/login` and `/logout`."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def show(request: Request) -> Response:
        if site.visitor(request).known:
            return RedirectResponse(_place(request.query_params.get("next", "")), 303)
        return _page(site, request, next=request.query_params.get("next", ""))

    async def enter(request: Request) -> Response:
        fields = await site.form(request)
        name, password = fields.get("name", "")[:_MAX_NAME], fields.get("password", "")
        address = site.door.address(request)
        if not site.door.guarded:
            return RedirectResponse("/", 303)
        async with turns:
            if (wait_s := site.door.wait_s(address, name)) > 0:
                line = f"too many failed logins; try again in {math.ceil(wait_s)} s"
                response = _page(site, request, 429, line, name=name, next=fields.get("next", ""))
                response.headers["retry-after"] = str(math.ceil(wait_s))
                return response
            visitor = await run_in_threadpool(site.door.log_in, address, name, password)
        if visitor is None:
            return _page(site, request, 403, "wrong name or password", name=name, next=fields.get("next", ""))
        response = RedirectResponse(_place(fields.get("next", "")), 303)
        site.door.remember(response, visitor)
        return response

    async def leave(request: Request) -> Response:
        await site.form(request)
        if site.door.guarded:
            site.door.log_out(site.visitor(request))
        return RedirectResponse("/login", 303)

    return [
        Route("/login", show, methods=["GET"]),
        Route("/login", enter, methods=["POST"]),
        Route("/logout", leave, methods=["POST"]),
    ]


def _page(site: Site, request: Request, status: int = 200, line: str = "", *, name: str = "", **shown: str) -> Response:
    return site.render(request, "login.html", status, line=line, name=name, **shown)


def _place(wanted: str) -> str:
    """Where to go after the login: a path of this site, never another."""
    inside = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if inside else "/"
