"""What a what-if run adds to `summary.json`: figures of link, service and power that only the run itself knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusion.config import from_overrides
from fusion.types import ItemState
from replay.results.records import ItemResult, Number
from replay.results.summary import percentile
from replay.running.plan import Variant
from replay.whatif.world import WorldSettings

HEADLINES = (
    ("expired", "expired"),
    ("shed", "shed"),
    ("link_bytes_per_s", "link, bytes a second"),
    ("link_bytes", "bytes over the link"),
    ("link_busy_share", "link busy, share of the time"),
    ("waiting_at_end", "items waiting when the recording ended"),
    ("verdict_latency_ms_p50", "verdict latency, ms (median)"),
    ("verdict_latency_ms_p99", "verdict latency, ms (p99)"),
    ("power_w_mean", "power, W"),
    ("frames_held", "frames held back by the governor"),
)
"""Figures to print and what to call them, where there are any."""


def loses_readings(variant: Variant) -> bool:
    """Whether frames of the recording may never have reached the device."""
    return bool(from_overrides(WorldSettings, variant.split()["world"]).sensors)


def told(summary: Mapping[str, Number]) -> tuple[tuple[str, str], ...]:
    """Those of `HEADLINES` that are about this run; none where the world was as recorded."""
    simulated = "link_bytes" in summary or "frames_held" in summary
    return tuple(line for line in HEADLINES if line[0] in summary) if simulated else ()


def world_figures(facts: Sequence[Mapping[str, Any]], items: Sequence[ItemResult]) -> dict[str, Number]:
    """`facts` are one recording's each. Latencies are of reviewed items, from decision to stored verdict, in recorded
    time; nothing of what was not simulated.
    """
    links = [one["link"] for one in facts if "link" in one]
    power = [one["power"] for one in facts if "power" in one]
    return (_link(links, items) if links else {}) | (_power(power) if power else {})


def _link(links: Sequence[Mapping[str, Any]], items: Sequence[ItemResult]) -> dict[str, Number]:
    def total(key: str) -> float:
        return float(sum(one[key] for one in links))

    waits = [item.verdict_latency_ms for item in items if item.state is ItemState.REVIEWED]
    rates = [one["rate_bytes_per_s"] for one in links if one["rate_bytes_per_s"]]
    recorded_s, seconds = total("recorded_s"), total("seconds")
    return {
        "link_bytes_per_s": round(sum(rates) / len(rates), 1) if rates else None,
        "link_bytes": int(total("bytes")),
        "link_busy_share": round(total("busy_s") / seconds, 4) if seconds else None,
        "link_mean_bytes_per_s": round(total("bytes") / recorded_s, 1) if recorded_s else None,
        "link_outage_s": round(total("outage_s"), 3),
        "cloud_outage_s": round(total("cloud_outage_s"), 3),
        "link_streams": int(total("streams")),
        "sent_again": int(total("sent_again")),
        "refused_for_now": int(total("refused_for_now")),
        "waiting_at_end": int(total("waiting_at_end")),
        "after_recording_s": round(seconds - recorded_s, 3),
        "verdict_latency_ms_p50": percentile(waits, 50),
        "verdict_latency_ms_p99": percentile(waits, 99),
    }


def _power(power: Sequence[Mapping[str, Any]]) -> dict[str, Number]:
    """Watts over the time of all recordings; a mean of their means where an earlier program kept no times."""
    lower = sum(count for one in power for count in one["samples_by_gear"][1:])
    known = [one for one in power if one["power_w_mean"] is not None]
    timed = all("seconds" in one for one in known)
    seconds = [one["seconds"] if timed else 1.0 for one in known]
    joules = sum(past * one["power_w_mean"] for past, one in zip(seconds, known, strict=True))
    return {
        "power_w_mean": round(joules / sum(seconds), 3) if known else None,
        "frames_held": sum(one["frames_held"] for one in power),
        "samples_in_lower_gears": lower,
    }
