"""The figures that decide, each with its 95 % interval and the way that was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusion.evaluation.bootstrap import mean_interval
from replay.report.wording import UNKNOWN, count, interval, share, size
from replay.results import intervals
from replay.results.answers import Answerer, clusters, lead
from replay.results.intervals import Share
from replay.results.records import RunResults


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table, written out."""

    name: str
    value: str
    interval: str
    n: str
    method: str


def figures(results: RunResults) -> list[Figure]:
    """Those that the run can tell."""
    items = results.items
    shares = (
        ("defects missed", "defects", intervals.missed_share(results.defects)),
        ("whole verdict right: reviewer", "items", intervals.accuracy(items, Answerer.REVIEWER)),
        ("whole verdict right: device, fused", "items", intervals.accuracy(items, Answerer.DEVICE)),
        ("whole verdict right: detector only", "items", intervals.accuracy(items, Answerer.DETECTOR)),
        ("reviews of what needs nothing done", "items", intervals.needless(items)),
    )
    told = [_share(name, of, found) for name, of, found in shares if found]
    return [*told, *_leads(results), *_bytes(results)]


def slot_intervals(results: RunResults) -> Mapping[str, str]:
    """The reviewer's 95 % interval of each slot's row, and of the whole verdict's."""
    names = {slot.name: slot.name for slot in results.task.slots} | {"whole verdict": ""}
    found = {row: intervals.accuracy(results.items, Answerer.REVIEWER, slot) for row, slot in names.items()}
    return {row: interval(one.low, one.high) for row, one in found.items() if one}


def _share(name: str, of: str, found: Share) -> Figure:
    return Figure(name, share(found.value), interval(found.low, found.high), f"{count(found.n)} {of}", found.method)


def _leads(results: RunResults) -> list[Figure]:
    told = []
    for by, words in ((Answerer.DEVICE, "device's fused model"), (Answerer.DETECTOR, "detector")):
        found = lead(results.items, by)
        if found:
            apart = f"{100 * found.low:+.1f} to {100 * found.high:+.1f} points"
            name = f"reviewer's lead over the {words}"
            told.append(Figure(name, f"{100 * found.value:+.1f} points", apart, "the same items", "paired bootstrap"))
    return told


def _bytes(results: RunResults) -> list[Figure]:
    sent = [item for item in results.items if item.evidence_bytes]
    if not sent:
        return []
    weights = np.array([item.evidence_bytes for item in sent], np.float64)
    found = mean_interval(weights, clusters(sent), draws=intervals.DRAWS)
    apart = f"{size(found.low)}{UNKNOWN}{size(found.high)}"
    return [Figure("evidence of one item, mean", size(found.value), apart, f"{count(len(sent))} items",
                   "bootstrap over things shown")]  # fmt: skip
