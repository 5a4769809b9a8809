"""Lists of outcomes: the triage (most valuable first, nobody corrected them) and the search (newest first)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_node.console.query import Query, read_query
from cloud_node.console.site import Site
from cloud_node.ledger import Order
from fusion.errors import InputError
from fusion.task import Task
from fusion.types import ItemState

STATES = (ItemState.REVIEWED, ItemState.QUARANTINED, ItemState.EXPIRED, ItemState.SHED)


def routes(site: Site) -> list[Route]:
    """`/triage` and `/search`."""

    def triage(request: Request) -> Response:
        return _list(site, request, "triage", Order.VALUE, "no")

    def search(request: Request) -> Response:
        return _list(site, request, "search", Order.NEWEST, "")

    return [Route("/triage", triage), Route("/search", search)]


def _list(site: Site, request: Request, name: str, order: Order, corrected: str) -> Response:
    line, status = "", 200
    try:
        query = read_query(request.query_params.multi_items(), order=order, corrected=corrected)
        page = site.backing.reader.search(query.search, limit=query.limit, cursor=query.cursor)
    except InputError as error:
        line, status = str(error), 400
        query = read_query((), order=order, corrected=corrected)
        page = site.backing.reader.search(query.search, limit=query.limit)
    return site.render(
        request,
        "list.html",
        status,
        name=name,
        line=line,
        query=query,
        page=page,
        states=[state.value for state in STATES],
        orders=[one.value for one in Order],
        tasks=sorted(site.backing.tasks),
        slots=slot_options(site.backing.tasks),
        filtered=_filtered(query, order, corrected),
    )


def slot_options(tasks: Mapping[str, Task]) -> dict[str, list[str]]:
    """Every slot of the tasks with the options that it has in any of them."""
    found: dict[str, dict[str, None]] = {}
    for task in tasks.values():
        for slot in task.slots:
            found.setdefault(slot.name, {}).update(dict.fromkeys(slot.options))
    return {name: list(options) for name, options in found.items()}


def _filtered(query: Query, order: Order, corrected: str) -> bool:
    """Whether anything but the list's own conditions is asked for."""
    return query.pairs != read_query((), order=order, corrected=corrected).pairs
