"""A grid in words: a sentence a variant, and a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fusion.evaluation.proportion import Proportion
from replay.report.wording import SPACE, UNKNOWN, figure, share, size
from replay.results.records import Fate
from replay.whatif.grid.records import Difference, Grid, GridRow

FATES: Mapping[Fate, str] = {
    Fate.FOUND: "found",
    Fate.SENT: "sent",
    Fate.DISMISSED: "called fine by the reviewer",
    Fate.WAITING: "still unanswered",
    Fate.EXPIRED: "answered too late",
    Fate.QUARANTINED: "unreadable",
    Fate.SHED: "given up for want of room",
    Fate.ELSEWHERE: "taken for something else",
    Fate.PASSED: "not sent",
    Fate.UNSEEN: "not detected",
}
_POINTS = frozenset({"missed_share", "verdict_accuracy"})


def sentence(row: GridRow, base: GridRow) -> str:
    """What a variant came to, in one line a person understands."""
    return f"{row.name}: " + "; ".join(filter(None, (_misses(row, base), _cost(row, base), _verdicts(row, base))))


def interval(of: Proportion) -> str:
    """`21 % [5, 51]`."""
    return f"{100 * of.value:.0f}{SPACE}% [{100 * of.low:.0f}, {100 * of.high:.0f}]"


def told(name: str, difference: Difference) -> str:
    """A difference with its interval, in the figure's unit: points of per cent, bytes, or a count a pair."""
    one = difference.interval
    if name in _POINTS:
        return f"{100 * one.value:+.1f} points [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
    if name == "bytes_sent":
        return f"{_signed(one.value)} [{_signed(one.low)}, {_signed(one.high)}]"
    return f"{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"


def _signed(count: float) -> str:
    return f"{'-' if count < 0 else '+'}{size(abs(count))}"


def missing(fates: Mapping[Fate, int]) -> str:
    """`2 not sent, 1 not detected`."""
    return ", ".join(f"{number} {FATES[fate]}" for fate, number in fates.items() if fate.missed)


def _misses(row: GridRow, base: GridRow) -> str:
    if row.missed is None:
        return "no defect is known in these recordings"
    words = f"missed {row.missed.part} of {row.missed.of} defects ({interval(row.missed)})"
    if row is base or base.missed is None:
        return f"{words}{_why(row)}"
    beside = f", {base.missed.part} in {base.name}" if base.missed.of == row.missed.of else ""
    return f"{words}{beside}{_chance(row, 'missed_share')}{_why(row)}"


def _why(row: GridRow) -> str:
    words = missing(row.fates)
    return f": {words}" if words else ""


def _chance(row: GridRow, name: str) -> str:
    difference = row.differences.get(name)
    if difference is None or difference.clear or not difference.interval.value:
        return ""
    return ", which may be chance"


def _cost(row: GridRow, base: GridRow) -> str:
    sent, reviews = _sent(row), _reviews(row)
    if row is base or (sent, reviews) == (_sent(base), _reviews(base)):
        return f"sent {sent} for {reviews}" + ("" if row is base else f", as {base.name}")
    words = f"sent {_instead(sent, _sent(base))} for {_instead(reviews, _reviews(base))}"
    return words.removesuffix(",")


def _instead(now: str, before: str) -> str:
    return f"{now}, as before," if now == before else f"{now} instead of {before.removesuffix(' reviews')}"


def _sent(row: GridRow) -> str:
    return size(row.number("bytes_sent"))


def _reviews(row: GridRow) -> str:
    return f"{figure('reviews', row.figures['reviews'])} reviews"


def _verdicts(row: GridRow, base: GridRow) -> str:
    if row.right is None:
        return ""
    words = f"{share(row.right.value)} of {row.right.of} verdicts right"
    difference = row.differences.get("verdict_accuracy")
    if row is base or difference is None or not difference.clear:
        return words
    return f"{words}, on the same items {told('verdict_accuracy', difference)}"


COLUMNS: Mapping[str, str] = {
    "missed_share": "missed",
    "defects_dismissed": "dismissed",
    "bytes_sent": "sent",
    "evidence_bytes_p50": "an item",
    "reviews": "reviews",
    "shed": "shed",
    "expired": "expired",
    "verdict_accuracy": "verdicts right",
    "detector_map50": "mAP50",
    "edge_ms_p50": "edge, median",
    "edge_ms_p99": "edge, p99",
}
"""Figures of the table, with what heads them."""
_ALWAYS = frozenset({"missed_share", "bytes_sent", "reviews"})
"""The others are left out on a terminal where they are the same for all."""


def cell(row: GridRow, name: str) -> str:
    """One figure of the table; a share of defects with its interval."""
    if name == "missed_share" and row.missed:
        return f"{row.missed.part}/{row.missed.of} {interval(row.missed)}"
    value = row.figures[name]
    return UNKNOWN if value is None else figure(name, value)


def table(grid: Grid) -> str:
    """Rows and columns for a terminal: `*` marks what nothing beats in misses, bytes and reviews at once, `!` a figure
    that differs from the base by more than chance.
    """
    names = [name for name in COLUMNS if name in _ALWAYS or len({row.figures[name] for row in grid.rows}) > 1]
    head = ["", "variant", *(COLUMNS[name] for name in names)]
    lines = [head, *(["*" if row.best else "", row.name, *(_marked(row, name) for name in names)] for row in grid.rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "\n".join("  ".join(_padded(line, widths)).rstrip() for line in lines)


def _marked(row: GridRow, name: str) -> str:
    difference = row.differences.get(name)
    return f"{cell(row, name)}{'!' if difference and difference.clear else ' '}"


def _padded(line: Iterable[str], widths: Iterable[int]) -> list[str]:
    return [
        word.ljust(width) if place < 2 else word.rjust(width)
        for place, (word, width) in enumerate(zip(line, widths, strict=True))
    ]
