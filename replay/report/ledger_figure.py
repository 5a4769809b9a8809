"""The closed ledger as a picture and a sum: where every item of one side ended, and that the numbers add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fusion.types import ItemState, LedgerCounts
from replay.report.plots import svg, text
from replay.report.wording import STATES, count, share
from replay.results.records import RunResults

ENDS = (
    ItemState.PASSED,
    ItemState.REVIEWED,
    ItemState.DEDUPLICATED,
    ItemState.SHED,
    ItemState.EXPIRED,
    ItemState.QUARANTINED,
)
_WIDTH, _HEIGHT = 560.0, 230.0
_NODE, _FROM, _TO = 16.0, 88.0, 340.0
_MARGIN, _GAP, _LEAST = 14.0, 14.0, 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold between the books, and whether it does."""

    words: str
    holds: bool


def states(counts: LedgerCounts) -> list[tuple[ItemState, int]]:
    """Every final state with its count, zeros included; pending only when something still waits."""
    ends = [(state, counts.items.get(state, 0)) for state in ENDS]
    pending = counts.items.get(ItemState.PENDING, 0)
    return [*ends, (ItemState.PENDING, pending)] if pending else ends


def figure(title: str, counts: LedgerCounts) -> Markup:
    """All items on the left, flowing into the states they ended in; a band is as thick as its share."""
    total = counts.item_total
    shown = [(state, number) for state, number in states(counts) if number]
    if not shown:
        return Markup('<p class="none">{}</p>').format("No item.")
    heights = _heights([number for _, number in shown], _HEIGHT - 2 * _MARGIN - _GAP * (len(shown) - 1))
    left = (_HEIGHT - sum(heights)) / 2
    parts = [
        _block(_FROM, left, sum(heights), "node"),
        text(_FROM - 10, _HEIGHT / 2 - 2, count(total), "big", "end"),
        text(_FROM - 10, _HEIGHT / 2 + 15, "items", "label", "end"),
    ]
    right = _MARGIN
    for height, (state, number) in zip(heights, shown, strict=True):
        tip = f"{count(number)} {state.value}: {STATES[state]}"
        parts += [
            _band(left, right, height, f"flow {state.value}", tip),
            _block(_TO, right, height, f"node {state.value}"),
            text(_TO + _NODE + 9, right + height / 2 + 4.5, f"{state.value} {count(number)}", "end"),
            text(_WIDTH - 4, right + height / 2 + 4.5, share(number / total), "label", "end"),
        ]
        left, right = left + height, right + height + _GAP
    return svg(_WIDTH, _HEIGHT, title, *parts)


def _heights(numbers: Sequence[int], room: float) -> list[float]:
    """Thickness of each band: its share, but never less than can be seen or read."""
    free = room - _LEAST * len(numbers)
    return [_LEAST + free * number / sum(numbers) for number in numbers]


def _block(x: float, y: float, height: float, style: str) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="3" class="{}"/>').format(
        x, round(y, 1), _NODE, round(height, 1), style
    )


def _band(left: float, right: float, height: float, style: str, tip: str) -> Markup:
    start, end = _FROM + _NODE, _TO
    middle = (start + end) / 2
    path = (
        f"M{start} {left:.1f}C{middle} {left:.1f} {middle} {right:.1f} {end} {right:.1f}"
        f"V{right + height:.1f}C{middle} {right + height:.1f} {middle} {left + height:.1f} {start} {left + height:.1f}Z"
    )
    return Markup('<path d="{}" class="{}"><title>{}</title></path>').format(path, style, tip)


def nobody_asked(results: RunResults) -> bool:
    """Whether the run had no service: what was to be sent waits, as it should."""
    return results.cloud_ledger is None and not any(item.verdict for item in results.items)


def checks(results: RunResults) -> list[Check]:
    """Whether the books agree: each side with itself, with the other side, with the items and with the summary."""
    edge, cloud, summary = results.edge_ledger, results.cloud_ledger, results.summary
    found = [
        _all_answered(results),
        *(_both_sides(edge, cloud) if cloud else ()),
        Check(
            f"{count(len(results.items))} items in this report = {count(edge.item_total)} in the device's ledger",
            len(results.items) == edge.item_total,
        ),
        Check(
            f"{count(len(results.samples))} samples in this report = {count(edge.samples)} in the device's ledger",
            len(results.samples) == edge.samples,
        ),
    ]
    told = {"samples": edge.samples, "gaps": edge.gaps, "items": edge.item_total}
    told |= {state.value: edge.items.get(state, 0) for state in ENDS}
    differing = [key for key, number in told.items() if summary.get(key, number) != number]
    agreed = "summary.json tells the same numbers" + (f", but not {', '.join(differing)}" if differing else "")
    found.append(Check(agreed, not differing))
    losses = [(key, summary[key]) for key in ("lost", "duplicates") if summary.get(key) is not None]
    return [*found, *(Check(f"{key}: {number}", number == 0) for key, number in losses)]


def _all_answered(results: RunResults) -> Check:
    edge = results.edge_ledger
    waiting = results.waiting or (edge.items.get(ItemState.PENDING, 0) if nobody_asked(results) else 0)
    if not waiting:
        return Check("no item on the device still waits for an answer", edge.closed)
    words = f"{count(waiting)} items wait in evidence files for a service: none was part of this run"
    return Check(words, waiting == edge.items.get(ItemState.PENDING, 0))


def _both_sides(edge: LedgerCounts, cloud: LedgerCounts) -> list[Check]:
    reviewed, answered = edge.items.get(ItemState.REVIEWED, 0), cloud.items.get(ItemState.REVIEWED, 0)
    told = f"{count(reviewed)} reviewed on the device = {count(answered)} verdicts in the cloud"
    return [
        Check("no item in the cloud still waits for a verdict", cloud.closed),
        Check(told, reviewed == answered),
    ]
