"""Values as people read them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fusion.types import SendReason

NOT_TOLD = "not told"
NONE = "\N{EN DASH}"
REASONS = {
    SendReason.SUSPECT: "the device takes it for a defect, or cannot rule one out",
    SendReason.UNCERTAIN: "the device was not sure what it is or what condition it is in",
    SendReason.DISAGREEMENT: "the detector and the fused sensors say different things",
    SendReason.NOVEL: "it looks like nothing the device was trained on",
    SendReason.ASKED_FOR: "somebody asked about it by voice",
    SendReason.AUDIT: "drawn by the audit lottery, so that misses can be counted",
}


def reason(name: str) -> str:
    """Why something was sent, as a sentence; an unknown reason as it is."""
    return REASONS.get(SendReason(name), name) if name in list(SendReason) else name


def moment(time_ns: int) -> str:
    """A wall-clock time in UTC, to the second; a dash for none."""
    if time_ns <= 0:
        return NONE
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso(time_ns: int) -> str:
    """The same for machines."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")


def duration(nanoseconds: float | None) -> str:
    """Nanoseconds as `0.4 ms`, `31 ms`, `2.1 s`, `5 min`, `3 h` or `2 d`; a dash for none."""
    if nanoseconds is None:
        return NONE
    seconds = nanoseconds / 1e9
    if seconds < 1:
        return f"{1e3 * seconds:.1f} ms" if seconds < 0.01 else f"{1e3 * seconds:.0f} ms"
    for limit, unit, size in ((60, "s", 1), (3600, "min", 60), (86_400, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "s" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def share(value: float) -> str:
    """0..1 in percent; what is small but not 0 does not look like 0."""
    percent = 100 * value
    return "<1 %" if 0 < percent < 1 else f"{percent:.0f} %"


def short(text: str, most: int = 12) -> str:
    """A fingerprint's beginning."""
    return text if len(text) <= most else text[:most] + "…"


def number(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


FILTERS: dict[str, Callable[..., Any]] = {
    "reason": reason,
    "moment": moment,
    "iso": iso,
    "duration": duration,
    "share": share,
    "short": short,
    "number": number,
}
