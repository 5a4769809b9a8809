"""The service at a glance: what the console shows live. Everything is read on the service's event loop."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from prometheus_client.metrics import MetricWrapperBase

from cloud_node.fleet import DeviceRow, Fleet
from cloud_node.journal import Journal
from cloud_node.metrics import Metrics
from cloud_node.pipeline import Pipeline
from cloud_node.roster import Roster
from fusion.clock import Clock

PERIOD_S = 1.0
HISTORY = 300
"""Readings kept: five minutes."""

RECENT = 10
"""Readings that rates and quantiles are taken over."""


ROWS = 256
"""Rows of devices made before other work on the loop has its turn."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of the history: reviews a second since the one before, and what waited."""

    reviews_per_s: float
    queue_items: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The service at `at_ns` of its wall clock. Quantiles are as exact as the buckets they come from; None for none.

    `ends` count submissions by how they ended, `states` items by final state, both since the service started at
    `since_ns`. `trouble` says why nothing should be sent here now, empty when all is well. Of the `known` devices some
    are `connected`; `devices` are their rows, empty unless they were asked for.
    """

    at_ns: int
    since_ns: int
    queue_items: int
    queue_tokens: int
    open_items: int
    reviews_per_s: float
    p50_s: float | None
    p99_s: float | None
    ends: Mapping[str, int]
    states: Mapping[str, int]
    reviewers: tuple[str, ...]
    trouble: str
    ledger_failing: bool
    history: tuple[Moment, ...]
    connected: int
    known: int
    devices: tuple[DeviceRow, ...] = ()


@dataclass(frozen=True, slots=True)
class _Reading:
    at_ns: int
    reviewed: float
    buckets: Mapping[float, float]


class Overview:
    """Reads the parts of a service each second while `run` runs."""

    def __init__(
        self,
        roster: Roster,
        pipeline: Pipeline,
        journal: Journal,
        fleet: Fleet,
        metrics: Metrics,
        clock: Clock,
        trouble: Callable[[], str],
    ) -> None:
        self._roster = roster
        self._pipeline = pipeline
        self._journal = journal
        self._fleet = fleet
        self._metrics = metrics
        self._clock = clock
        self._trouble = trouble
        self._since_ns = clock.wall_ns()
        self._readings: deque[_Reading] = deque([self._read()], maxlen=RECENT + 1)
        self._history: deque[Moment] = deque(maxlen=HISTORY)

    async def run(self) -> None:
        """Read each second, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            self.read()

    def read(self) -> None:
        """Take one reading."""
        before, now = self._readings[-1], self._read()
        self._readings.append(now)
        self._history.append(Moment(_rate(before, now), self._pipeline.queue[0]))

    def snapshot(self) -> Snapshot:
        """How it is now, without rows of devices."""
        first, now = self._readings[0], self._read()
        buckets = {edge: count - first.buckets.get(edge, 0.0) for edge, count in now.buckets.items()}
        items, tokens = self._pipeline.queue
        connected, known = self._fleet.numbers
        return Snapshot(
            at_ns=self._clock.wall_ns(),
            since_ns=self._since_ns,
            queue_items=items,
            queue_tokens=tokens,
            open_items=self._pipeline.open_items,
            reviews_per_s=_rate(first, now),
            p50_s=quantile(buckets, 0.5),
            p99_s=quantile(buckets, 0.99),
            ends=_by_label(self._metrics.ends, "end"),
            states=_by_label(self._metrics.items, "state"),
            reviewers=tuple(reviewer.name for reviewer in self._roster.reviewers),
            trouble=self._trouble(),
            ledger_failing=self._journal.failing,
            history=tuple(self._history),
            connected=connected,
            known=known,
        )

    async def told(self, *, devices: bool = False) -> Snapshot:
        """`snapshot`, for whoever asks from another thread; with `devices` a row of each, made between other work."""
        snapshot = self.snapshot()
        return replace(snapshot, devices=await self._devices()) if devices else snapshot

    async def _devices(self) -> tuple[DeviceRow, ...]:
        open_by_device, rows, made = self._pipeline.open_by_device(), self._fleet.rows(), list[DeviceRow]()
        for first in range(0, len(rows), ROWS):
            made += [self._with_load(row, open_by_device) for row in rows[first : first + ROWS]]
            await asyncio.sleep(0)
        return tuple(made)

    def _with_load(self, row: DeviceRow, open_by_device: Mapping[str, tuple[int, int]]) -> DeviceRow:
        number, oldest_ns = open_by_device.get(row.device, (0, 0))
        lag_ns = max(0, self._clock.monotonic_ns() - oldest_ns) if number else 0
        return replace(row, open_items=number, lag_ns=lag_ns)

    def _read(self) -> _Reading:
        buckets = {
            float(sample.labels["le"]): sample.value
            for metric in self._metrics.answer_seconds.collect()
            for sample in metric.samples
            if sample.name.endswith("_bucket")
        }
        reviewed = _by_label(self._metrics.items, "state").get("reviewed", 0)
        return _Reading(self._clock.monotonic_ns(), reviewed, buckets)


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The value below which `share` of what cumulative `buckets` (upper edge: count) hold lies; None of nothing.

    Within a bucket it is taken as even; what lies beyond the last edge counts as the last edge.
    """
    total = max(buckets.values(), default=0.0)
    if total <= 0:
        return None
    low, below = 0.0, 0.0
    for edge, count in sorted(buckets.items()):
        if count >= share * total:
            if math.isinf(edge):
                return low
            return low + (edge - low) * (share * total - below) / (count - below)
        low, below = edge, count
    return low


def _rate(before: _Reading, now: _Reading) -> float:
    seconds = (now.at_ns - before.at_ns) / 1e9
    return (now.reviewed - before.reviewed) / seconds if seconds > 0 else 0.0


def _by_label(metric: MetricWrapperBase, label: str) -> dict[str, int]:
    """Totals of a counter by one of its labels, others added up."""
    totals: dict[str, int] = {}
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                key = sample.labels[label]
                totals[key] = totals.get(key, 0) + int(sample.value)
    return totals
