"""Plain words and figures for people: reasons, states, sizes, durations, and what the summary's keys mean."""

from __future__ import annotations

import re
from collections.abc import Callable

from fusion.types import ItemState
from replay.results.records import Fate

REASONS = {
    "suspect": "The device takes it for a defect, or cannot rule one out",
    "uncertain": "The device was not sure what it is or what condition it is in",
    "disagreement": "The detector and the fused sensors say different things",
    "novel": "It looks like nothing the device was trained on",
    "asked_for": "Somebody asked about it by voice",
    "audit": "Drawn by the audit lottery, so that misses can be counted",
}
SHORT_REASONS = {
    "suspect": "maybe a defect",
    "uncertain": "not sure",
    "disagreement": "sensors disagree",
    "novel": "never seen",
    "asked_for": "asked for",
    "audit": "audit",
}
STATES = {
    ItemState.PENDING: "still waits for an answer",
    ItemState.PASSED: "not suspicious, stayed on the device",
    ItemState.REVIEWED: "answered by the reviewer",
    ItemState.DEDUPLICATED: "already asked in another item",
    ItemState.SHED: "given up when short of room, with a reason",
    ItemState.EXPIRED: "no answer before its deadline",
    ItemState.QUARANTINED: "could not be read, put aside",
}
FATES = {
    Fate.FOUND: "reviewed, and not dismissed",
    Fate.SENT: "sent, and no reviewer was part of the run",
    Fate.DISMISSED: "reviewed, and each time called fine",
    Fate.WAITING: "sent, no answer yet",
    Fate.EXPIRED: "no answer before the deadline",
    Fate.QUARANTINED: "its evidence could not be read",
    Fate.SHED: "given up when short of room",
    Fate.ELSEWHERE: "taken for something already asked",
    Fate.PASSED: "seen by the device, and not sent",
    Fate.UNSEEN: "the detector never saw it",
}
SUMMARY = {
    "recordings": "recordings run",
    "seconds": "recorded time, first sample to last",
    "samples": "samples processed",
    "gaps": "samples declared a gap",
    "items": "items seen",
    "passed": "items not suspicious",
    "reviewed": "items answered by the reviewer",
    "deduplicated": "items already asked in another",
    "shed": "items given up, with a reason",
    "expired": "items without an answer in time",
    "quarantined": "items put aside as unreadable",
    "waiting": "items whose answer is still to come",
    "lost": "items without an end",
    "duplicates": "items answered twice",
    "edge_ms_p50": "decoded sample to decision, median",
    "edge_ms_p99": "decoded sample to decision, 99th percentile",
    "engine_ms_p50": "of which engine calls, median",
    "beside_engine_ms_p50": "of which anything else, median",
    "decode_ms_p50": "reading and decoding before it, median",
    "commit_ms_p50": "durable commit after it, median",
    "evidence_bytes_p50": "evidence of one item, median",
    "evidence_bytes_p95": "evidence of one item, 95th percentile",
    "maps_bytes_p50": "of which feature maps, median",
    "pixels_sent": "items whose pixels were asked back",
    "jpeg_bytes_p50": "its whole frame as JPEG, median",
    "webp_bytes_p50": "its whole frame as WebP, median",
    "webp_crop_bytes_p50": "its region as WebP, median",
    "verdict_accuracy_n": "reviewed items with a known truth",
    "verdict_accuracy": "reviewer, on escalated items",
    "verdict_accuracy_edge_fused": "device's fused heads, on the same items",
    "verdict_accuracy_detector_only": "detector alone, on the same items",
    "defects": "defects that came into clear view",
    "defects_missed": "of which not found, however that came",
    "defects_dismissed": "of which a reviewer called fine",
    "defects_missed_share": "share of defects not found",
    "detector_map50": "detector, mean average precision at IoU 0.5",
    "reviews_per_s": "reviews a second",
    "review_batch_mean": "reviews in one forward pass, mean",
    "lag_ms_p50": "frame due to frame looked at, median",
    "lag_ms_p99": "frame due to frame looked at, 99th percentile",
    "behind_pace": "frames looked at too late for a live sensor",
    "would_drop": "frames that a live sensor's buffer would have dropped",
    "gap_reasons": "frames in declared gaps, by reason",
    "edge_rss_mb": "edge daemon, resident memory",
    "edge_rss_peak_mb": "edge daemon, resident memory at most",
    "edge_start_s": "edge daemon, start to ready",
}

Number = float | int | str | None
UNKNOWN = "\N{EN DASH}"
SPACE = "\N{NO-BREAK SPACE}"
_THOUSANDS = "\N{NARROW NO-BREAK SPACE}"


def reason_words(reason: str) -> str:
    """One sentence for a reason to send; an unknown reason as it is."""
    return REASONS.get(reason, reason)


def short_reason(reason: str) -> str:
    """A reason in two words."""
    return SHORT_REASONS.get(reason, reason)


def size(count: float | None) -> str:
    """Bytes as `812 B`, `2.1 KB` or `3.4 MB` (of 1000)."""
    if count is None:
        return UNKNOWN
    if count < 1000:
        return f"{count:.0f}{SPACE}B"
    return f"{count / 1000:.1f}{SPACE}KB" if count < 999_950 else f"{count / 1e6:.1f}{SPACE}MB"


def interval(low: float, high: float) -> str:
    """A 95 % interval of a share, in per cent: `3.1–9.8 %`."""
    return f"{100 * low:.1f}{UNKNOWN}{100 * high:.1f}{SPACE}%"


def duration(milliseconds: float | None) -> str:
    """Milliseconds as `0.4 ms`, `31 ms` or `2.1 s`."""
    if milliseconds is None:
        return UNKNOWN
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.1f}{SPACE}s"
    return f"{milliseconds:.1f}{SPACE}ms" if milliseconds < 100 else f"{milliseconds:.0f}{SPACE}ms"


def tick_duration(milliseconds: float) -> str:
    """Milliseconds for an axis: no more digits than the value has."""
    return f"{milliseconds / 1000:g}{SPACE}s" if milliseconds >= 1000 else f"{milliseconds:g}{SPACE}ms"


def tick_size(count: float) -> str:
    """Bytes for an axis: no more digits than the value has."""
    return (
        f"{count:g}{SPACE}B"
        if count < 1000
        else f"{count / 1000:g}{SPACE}KB"
        if count < 1e6
        else f"{count / 1e6:g}{SPACE}MB"
    )


def share(part: float | None) -> str:
    """A share of 1 in per cent; never rounded up to 100 or down to 0."""
    if part is None:
        return UNKNOWN
    text = f"{100 * part:.1f}"
    if (text == "100.0" and part < 1) or (text == "0.0" and part > 0):
        text = f">{SPACE}99.9" if part > 0.5 else f"<{SPACE}0.1"
    return f"{text.removesuffix('.0')}{SPACE}%"


def count(number: Number) -> str:
    """A whole number with thin spaces between thousands; `–` for None."""
    if number is None or isinstance(number, str):
        return number or UNKNOWN
    return f"{number:,.0f}".replace(",", _THOUSANDS)


def figure(key: str, value: Number) -> str:
    """A value of the summary as its key's name suggests: bytes, milliseconds, shares, counts."""
    if value is None or isinstance(value, str):
        return value or UNKNOWN
    for part, write in _FIGURES.items():
        if re.search(part, key):
            return write(value)
    return count(value) if float(value).is_integer() else f"{value:.2f}"


_FIGURES: dict[str, Callable[[float], str]] = {
    "bytes": size,
    "_ms(_|$)": duration,
    "accuracy(?!_n$)|map50|_rate$|_share$": share,
    "(?<!_per)_s$": lambda seconds: duration(1000 * seconds),
    "_mb$": lambda megabytes: f"{megabytes:.0f}{SPACE}MB",
}
