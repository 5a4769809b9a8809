"""The daemon's figures as a table that fits 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge_node.top.scrape import Scrape, between, quantile, rate

NOT_TOLD = "-"
_MIB = 1 << 20


def view(url: str, scrapes: Sequence[Scrape], trouble: str = "") -> RenderableType:
    """The newest of `scrapes`, with rates and latencies over all of them; `trouble` is why there is no newer one."""
    lines: list[RenderableType] = [Text(f"edge-node {url}", style="bold", overflow="ellipsis", no_wrap=True)]
    if trouble:
        lines.append(Text(trouble, style="bold red"))
    if scrapes:
        lines.append(_table(scrapes))
    return Group(*lines)


def _table(scrapes: Sequence[Scrape]) -> Table:
    now = scrapes[-1]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", width=12, no_wrap=True)
    table.add_column(overflow="fold")
    for name, told in _rows(now, scrapes):
        table.add_row(name, told)
    return table


def _rows(now: Scrape, scrapes: Sequence[Scrape]) -> list[tuple[str, Text]]:
    return [
        ("health", _health(now)),
        ("samples", Text(f"{_rate(scrapes, 'samples_total')}   {_count(now.total('samples_total'))} in all, "
                         f"{_count(now.value('gaps'))} frames in gaps")),
        ("sent", Text(f"{_rate(scrapes, 'sent_items')}   {_count(now.value('sent_items'))} in all, "
                      f"{_bytes(now.value('sent_bytes'))} of evidence")),
        ("verdicts", Text(f"{_rate(scrapes, 'verdicts')}   {_count(now.value('verdicts'))} in all")),
        ("decision", Text(_latency(scrapes, "decision_seconds"))),
        ("  engines", Text(_latency(scrapes, "engine_seconds"))),
        ("spool", Text(f"{_count(now.value('outbox_items'))} items wait, {_bytes(now.value('outbox_bytes'))}")),
        ("link", _link(now)),
        ("missed", Text(_missed(now))),
        ("power", Text(_power(now))),
        ("memory", Text(f"{_bytes(now.value('resident_bytes'))} resident")),
    ]  # fmt: skip


def _health(now: Scrape) -> Text:
    idle = now.health.get("seconds_since_progress", 0.0)
    told = "the source has ended" if now.health.get("source_ended") else f"last reading {idle:.1f} s ago"
    healthy = bool(now.health.get("healthy"))
    return Text(f"{'healthy' if healthy else 'NOT HEALTHY'}, {told}", style="green" if healthy else "bold red")


def _link(now: Scrape) -> Text:
    state, why = str(now.health.get("uplink", NOT_TOLD)), str(now.health.get("uplink_reason", ""))
    return Text(f"{state}: {why}" if why else state, style="green" if state == "connected" else "yellow")


def _missed(now: Scrape) -> str:
    share, low, high = (now.value("missed_defects_share", bound=name) for name in ("estimate", "low", "high"))
    if share is None:
        return "not known yet: the audit lottery has found too little"
    bounds = f" ({low:.1%} to {high:.1%})" if low is not None and high is not None else ""
    return f"{share:.1%}{bounds} of defects, by the audit lottery"


def _power(now: Scrape) -> str:
    watts, zones = now.value("power_watts"), now.values.get("temperature_celsius", {})
    told = str(now.health.get("power", "not measured")) if watts is None else f"{watts:.2f} W"
    if zones:
        warmest = max(zones, key=lambda labels: zones[labels])
        told += f", warmest {dict(warmest).get('zone', '')} {zones[warmest]:.0f} °C"
    gear = now.value("power_gear")
    return told if gear is None else f"{told}, gear {gear + 1:.0f}"


def _latency(scrapes: Sequence[Scrape], name: str) -> str:
    now = scrapes[-1].buckets(name)
    recent = between(now, scrapes[0].buckets(name)) if len(scrapes) > 1 else now
    p50, p99 = quantile(recent, 0.5), quantile(recent, 0.99)
    if p50 is None or p99 is None:
        return NOT_TOLD
    return f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"


def _rate(scrapes: Sequence[Scrape], name: str) -> str:
    found = rate(scrapes, name)
    return f"{NOT_TOLD if found is None else format(found, '.1f'):>6}/s"


def _count(value: float | None) -> str:
    return NOT_TOLD if value is None else f"{value:.0f}"


def _bytes(value: float | None) -> str:
    if value is None:
        return NOT_TOLD
    return f"{value / _MIB:.1f} MiB" if value >= _MIB else f"{value / 1024:.1f} KiB"
