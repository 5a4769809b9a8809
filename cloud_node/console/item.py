"""One item: what was sent, what was answered, and the form to confirm or correct it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cloud_node.console.correcting import correction_of, entered, slot_forms
from cloud_node.console.export import as_json
from cloud_node.console.query import Query, read_query
from cloud_node.console.scene import read_scene
from cloud_node.console.site import Site, item_of, json_response
from cloud_node.ledger import Correction, LedgerReader, Order, Record
from fusion.errors import InputError, SpoolError
from fusion.types import ItemId

PATH = "/item/{device}/{epoch}/{sequence}/{item}"
LISTS = {"triage": (Order.VALUE, "no"), "search": (Order.NEWEST, "")}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An item as it stands: its record, everything said about it, and why its evidence is not there, if it is not."""

    record: Record
    corrections: list[Correction]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """The list that an item was come to by: addresses of its neighbours there, empty where there is none."""

    back: str
    previous: str
    following: str
    query: str


def routes(site: Site) -> list[Route]:
    """The page of an item, its form, and its JSON."""

    def show(request: Request) -> Response:
        item = item_of(request)
        return _page(site, request, load(site.backing.reader, item), way_of(site, request, item))

    def machine(request: Request) -> Response:
        loaded = load(site.backing.reader, item_of(request), with_evidence=False)
        return json_response(as_json(loaded.record, loaded.corrections))

    async def correct(request: Request) -> Response:
        fields = await site.form(request)
        item = item_of(request)
        if not site.visitor(request).may_correct:
            raise HTTPException(403, "viewers cannot correct; ask for the role reviewer")
        loaded = await run_in_threadpool(load, site.backing.reader, item)
        way = await run_in_threadpool(way_of, site, request, item)
        if fields.get("seen") != str(len(loaded.corrections)):
            line = "Somebody else said something about this item meanwhile. Look at it, then save again to add yours."
            return await run_in_threadpool(_page, site, request, loaded, way, 409, line, fields)
        try:
            forms = slot_forms(loaded.record, site.backing.tasks)
            author, confirmed = site.visitor(request).name, fields.get("action") == "confirm"
            correction = correction_of(item, author, fields, forms, confirmed=confirmed)
        except InputError as error:
            return await run_in_threadpool(_page, site, request, loaded, way, 400, str(error), fields)
        await site.backing.correct(correction)
        return RedirectResponse(way.following or f"{_address(item)}{way.query}", 303)

    return [
        Route(PATH + ".json", machine, methods=["GET"]),
        Route(PATH, show, methods=["GET"]),
        Route(PATH, correct, methods=["POST"]),
    ]


def load(reader: LedgerReader, item: ItemId, *, with_evidence: bool = True) -> Loaded:
    """An item; damaged evidence is left out and said. Raises `HTTPException` (404) for an unknown item."""
    fault = ""
    try:
        record = reader.one(item, with_evidence=with_evidence)
    except SpoolError as error:
        if not with_evidence:
            raise
        record, fault = reader.one(item), f"The evidence is damaged: {error}"
    if record is None:
        raise HTTPException(404, f"the ledger has no outcome of {item}")
    return Loaded(record, reader.corrections(item), fault)


def way_of(site: Site, request: Request, item: ItemId) -> Way:
    """The neighbours of an item on the page of the list it was come to by, then the first of the page after it.

    An item that is no longer in the list (it was corrected) is followed by the first that is.
    """
    told = request.query_params
    name = told.get("list", "triage")
    order, corrected = LISTS.get(name, LISTS["triage"])
    name = name if name in LISTS else "triage"
    try:
        query = read_query(told.multi_items(), order=order, corrected=corrected)
        page = site.backing.reader.search(query.search, limit=query.limit, cursor=query.cursor)
    except InputError:
        return Way(f"/{name}", "", "", f"?list={name}")
    here = _within(name, query)
    items = [record.outcome.item for record in page.records]
    place = items.index(item) if item in items else -1
    previous = f"{_address(items[place - 1])}{here}" if place > 0 else ""
    following = ""
    if place + 1 < len(items):
        following = f"{_address(items[place + 1])}{here}"
    elif page.cursor:
        beyond = site.backing.reader.search(query.search, limit=query.limit, cursor=page.cursor).records
        following = f"{_address(beyond[0].outcome.item)}{_within(name, query, page.cursor)}" if beyond else ""
    return Way(f"/{name}?{query.url(cursor=query.cursor)}", previous, following, here)


def _within(name: str, query: Query, cursor: str | None = None) -> str:
    return f"?{query.url(list=name, cursor=query.cursor if cursor is None else cursor)}"


def _address(item: ItemId) -> str:
    return f"/item/{item.sample}/{item.item}"


def _page(
    site: Site,
    request: Request,
    loaded: Loaded,
    way: Way,
    status: int = 200,
    line: str = "",
    fields: Mapping[str, str] | None = None,
) -> Response:
    record = loaded.record
    return site.render(
        request,
        "item.html",
        status,
        outcome=record.outcome,
        header=record.outcome.header or {},
        correction=record.correction,
        corrections=loaded.corrections,
        scene=read_scene(record.outcome, site.backing.profiles, loaded.fault),
        forms=slot_forms(record, site.backing.tasks, entered(fields) if fields is not None else None),
        note=(fields or {}).get("note", ""),
        address=_address(record.outcome.item),
        way=way,
        line=line,
    )
