"""The devices: those the service saw since it started, then those the ledger alone remembers."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_node.console.site import Site
from cloud_node.console.wording import NOT_TOLD, duration
from cloud_node.fleet import DeviceRow
from cloud_node.ledger import DeviceReport
from fusion.types import DeviceStatus


def routes(site: Site) -> list[Route]:
    """`/devices`."""

    async def show(request: Request) -> Response:
        snapshot = await site.backing.watched(devices=True) if site.backing.watched else None
        rows = snapshot.devices if snapshot else ()
        reports = remembered(rows, await run_in_threadpool(site.backing.reader.reports))
        now_ns = snapshot.at_ns if snapshot else 0
        return site.render(
            request, "devices.html", rows=[(row, status_cells(row)) for row in rows], reports=reports, now_ns=now_ns
        )

    return [Route("/devices", show)]


def remembered(rows: Iterable[DeviceRow], reports: Iterable[DeviceReport]) -> list[DeviceReport]:
    """The last report of each device that is not among `rows`."""
    known = {row.device for row in rows}
    last: dict[str, DeviceReport] = {}
    for report in reports:
        if report.device not in known and report.received_ns >= last.get(report.device, report).received_ns:
            last[report.device] = report
    return [last[name] for name in sorted(last)]


def status_cells(row: DeviceRow) -> dict[str, str]:
    """What a device says of itself, by column; `NOT_TOLD` where it says nothing."""
    told = row.status or DeviceStatus()
    waits = NOT_TOLD if told.outbox_items is None else f"{told.outbox_items} items"
    if told.outbox_items and told.oldest_outbox_s is not None:
        waits += f", the oldest for {duration(told.oldest_outbox_s * 1e9)}"
    return {
        "Power": NOT_TOLD if told.power_w is None else f"{told.power_w:.1f} W",
        "Temperature": NOT_TOLD if told.temperature_c is None else f"{told.temperature_c:.0f} \N{DEGREE SIGN}C",
        "Decision p50, p99": _latency(told.latency_p50_ms, told.latency_p99_ms),
        "Waits on the device": waits,
        "Software": told.software or NOT_TOLD,
    }


def _latency(p50_ms: float | None, p99_ms: float | None) -> str:
    return NOT_TOLD if p50_ms is None or p99_ms is None else f"{p50_ms:.0f}, {p99_ms:.0f} ms"
