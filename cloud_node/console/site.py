"""What all pages share: templates, who is looking, forms that were really theirs, and how errors look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from cloud_node.console import wording
from cloud_node.console.backing import Backing
from cloud_node.console.settings import ConsoleSettings
from cloud_node.console.visitor import Door, Visitor
from fusion.errors import FusionError, InputError, SpoolError, UnavailableError
from fusion.types import ItemId

MAX_FIELDS = 200
_NO_ITEM = "there is no item of that name"
_MOST_DIGITS = 19
_HERE = Path(str(resources.files("cloud_node.console")))
STATIC = _HERE / "static"
_STATUS: dict[type[FusionError], int] = {InputError: 400, UnavailableError: 503, SpoolError: 503}


class Site:
    """One console. `closing` says that the server ends, so that streams end too."""

    def __init__(self, settings: ConsoleSettings, backing: Backing, closing: Callable[[], bool]) -> None:
        self.backing = backing
        self.closing = closing
        self.door = Door(settings)
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(wording.FILTERS)
        self._templates.globals["static"] = _versions()

    def render(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A page; every value in it is escaped."""
        visitor = self.visitor(request)
        shared = {
            "path": request.url.path,
            "visitor": visitor,
            "guarded": self.door.guarded,
            "token": self.door.token(visitor),
            "live": self.backing.watched is not None,
        }
        response = HTMLResponse(self._templates.get_template(template).render(**shared, **context), status)
        if not visitor.known:
            self.door.remember(response, visitor)
        return response

    def visitor(self, request: Request) -> Visitor:
        """Who sends `request`, looked up once."""
        if not hasattr(request.state, "visitor"):
            request.state.visitor = self.door.visitor(request)
        found: Visitor = request.state.visitor
        return found

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of a form that this visitor was given; raises `HTTPException` for any other."""
        try:
            fields = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except (ValueError, ClientDisconnect):
            raise HTTPException(400, "the form cannot be read") from None
        if not self.door.token_fits(self.visitor(request), fields.get("token", "")):
            raise HTTPException(403, "this form is too old or was not given to you; go back, reload and send it again")
        return fields

    async def failed(self, request: Request, error: Exception) -> Response:
        """The page (or JSON) of what went wrong, in one line."""
        status, line = _told(error)
        if request.url.path.endswith(".json"):
            return JSONResponse({"error": line}, status)
        return self.render(request, "error.html", status, number=status, line=line)


def item_of(request: Request) -> ItemId:
    """The item that a path names; raises `HTTPException` (404) for a name that no item has."""
    part = request.path_params
    if max(len(part["sequence"]), len(part["item"])) > _MOST_DIGITS:
        raise HTTPException(404, _NO_ITEM)
    try:
        return ItemId.parse(f"{part['device']}/{part['epoch']}/{part['sequence']}#{part['item']}")
    except (InputError, ValueError):
        raise HTTPException(404, _NO_ITEM) from None


def to_login(request: Request) -> RedirectResponse:
    """Log in first, then come back."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = urlencode({"next": wanted}) if request.method == "GET" and wanted != "/" else ""
    return RedirectResponse(f"/login?{query}" if query else "/login", 303)


def json_response(told: Any, status: int = 200) -> Response:
    """JSON for machines, indented for people."""
    return Response(json.dumps(told, indent=1) + "\n", status, media_type="application/json")


def _told(error: Exception) -> tuple[int, str]:
    if isinstance(error, HTTPException):
        return error.status_code, error.detail
    if isinstance(error, FusionError):
        status = next((number for kind, number in _STATUS.items() if isinstance(error, kind)), 500)
        return status, str(error)
    return 500, "a defect in the program; the service's log tells more"


def _versions() -> dict[str, str]:
    """Addresses of the static files by name; they change with the content, so browsers may keep them for good."""
    return {
        path.name: f"/static/{path.name}?v={hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        for path in STATIC.iterdir()
        if path.is_file()
    }
