"""The first page: queue, throughput and latency as they are now, told again each second."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from cloud_node.console.site import Site
from cloud_node.console.wording import duration, number
from cloud_node.overview import HISTORY, PERIOD_S, Snapshot
from fusion.errors import FusionError

MOST_STREAMS = 32
STREAM_S = 600.0
"""A browser asks again after it, and is looked at again: a session that ended is not told for ever."""

WIDTH, HEIGHT = 300, 60
ENDS = ("reviewed", "quarantined", "expired", "shed", "refused", "repeated", "gone")


def routes(site: Site) -> list[Route]:
    """`/` and the stream behind its numbers, `/live`."""
    streams = 0
    shared = Shared(site)

    async def show(request: Request) -> Response:
        watched = site.backing.watched
        if watched is None:
            counts = await run_in_threadpool(site.backing.reader.counts)
            told = {state.value: count for state, count in counts.items()}
            return site.render(request, "ledger.html", counts=told)
        snapshot = await watched()
        return site.render(
            request, "live.html", snapshot=snapshot, values=values(snapshot), width=WIDTH, height=HEIGHT, ends=ENDS
        )

    async def stream(request: Request) -> Response:
        del request
        if site.backing.watched is None or streams >= MOST_STREAMS:
            raise HTTPException(503, "too many browsers watch, or no service runs here")
        return StreamingResponse(events(), media_type="text/event-stream")

    async def events() -> AsyncIterator[str]:
        nonlocal streams
        streams += 1
        until = time.monotonic() + STREAM_S
        try:
            yield f"data: {json.dumps(await _told(site))}\n\n"
            await asyncio.sleep(PERIOD_S)
            while not site.closing() and time.monotonic() < until:
                yield f"data: {json.dumps(await shared.told())}\n\n"
                await asyncio.sleep(PERIOD_S)
        finally:
            streams -= 1

    return [Route("/", show), Route("/live", stream)]


class Shared:
    """`values` of one snapshot a second, whoever and however many ask for them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._asked: asyncio.Task[dict[str, str]] | None = None
        self._asked_s = -PERIOD_S

    async def told(self) -> dict[str, str]:
        """The values, at most `PERIOD_S` old when the service answers at once."""
        now_s = time.monotonic()
        if self._asked is None or (self._asked.done() and now_s - self._asked_s >= PERIOD_S):
            self._asked, self._asked_s = asyncio.create_task(_told(self._site)), now_s
        return await asyncio.shield(self._asked)


async def _told(site: Site) -> dict[str, str]:
    assert site.backing.watched is not None
    try:
        return values(await site.backing.watched())
    except FusionError as error:
        return {"trouble": str(error)}


def values(snapshot: Snapshot) -> dict[str, str]:
    """Everything on the page that changes, by the name of its place there."""
    rates = [moment.reviews_per_s for moment in snapshot.history]
    queues = [float(moment.queue_items) for moment in snapshot.history]
    return {
        "trouble": snapshot.trouble or "all is well",
        "ledger": "does not take rows" if snapshot.ledger_failing else "takes rows",
        "reviews_per_s": f"{snapshot.reviews_per_s:.1f}",
        "queue_items": number(snapshot.queue_items),
        "queue_tokens": number(snapshot.queue_tokens),
        "open_items": number(snapshot.open_items),
        "p50": _seconds(snapshot.p50_s),
        "p99": _seconds(snapshot.p99_s),
        "connected": f"{snapshot.connected} of {snapshot.known}",
        "uptime": duration(snapshot.at_ns - snapshot.since_ns),
        "rate_line": polyline(rates),
        "rate_most": f"{max(rates, default=0.0):.1f}",
        "queue_line": polyline(queues),
        "queue_most": f"{max(queues, default=0.0):.0f}",
        **{f"end_{end}": number(snapshot.ends.get(end, 0)) for end in ENDS},
    }


def polyline(readings: Sequence[float]) -> str:
    """The points of an SVG polyline, WIDTH x HEIGHT, the newest at the right, from 0 to the largest reading."""
    most = max(readings, default=0.0) or 1.0
    step = WIDTH / (HISTORY - 1)
    first = WIDTH - step * (len(readings) - 1)
    return " ".join(
        f"{first + step * place:.1f},{HEIGHT - 2 - (HEIGHT - 4) * reading / most:.1f}"
        for place, reading in enumerate(readings)
    )


def _seconds(seconds: float | None) -> str:
    return duration(None if seconds is None else 1e9 * seconds)
