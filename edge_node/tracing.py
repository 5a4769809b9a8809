"""The device's part of an item's trace, made from the spool's own record when the item is closed.

The spool keeps every duration of a sample, so an item that is answered after a kill, days later, has its whole way
told; only the stages inside the decision, and when it was first sent, die with the process. Nothing is made while
samples are screened.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from edge_node.spool import Marks, Record, SampleRecord, Spool, SpoolWorker
from fusion.clock import Clock, OffsetEstimate
from fusion.tracing import Kind, Span, TraceContext, Tracer, root_span_id, span_id, submit_span_id, trace_id
from fusion.tracing.span import Value
from fusion.types import ItemId, ItemState

K = TypeVar("K")
V = TypeVar("V")
REMEMBERED = 4096
"""Samples and sent items whose details are held; of older ones the spool's record has to do."""

_QUERY = """
SELECT s.time_ns, s.source_ns, s.edge_ns, s.engine_ns, s.evidence_ns, s.wait_ns, coalesce(s.commit_ns, 0),
  i.decided_ns, i.answered_ns, i.state, i.reasons, i.note, i.label, i.evidence_bytes, i.pixels_sent
FROM samples s JOIN items i ON i.sequence = s.sequence WHERE s.sequence = ? AND i.item = ?
"""


@dataclass(frozen=True, slots=True)
class Way:
    """What the spool knows of a closed item. `committing_ns` and `closed_ns` are on the monotonic clock."""

    capture_ns: int
    source_ns: int
    edge_ns: int
    engine_ns: int
    evidence_ns: int
    wait_ns: int
    commit_ns: int
    committing_ns: int
    closed_ns: int
    state: ItemState
    reasons: str
    note: str
    label: str
    evidence_bytes: int
    pixels_sent: int

    @classmethod
    def of(cls, spool: Spool, item: ItemId) -> Way | None:
        """Read it; None where the item is not closed, or folded away already."""
        found = spool.query(_QUERY, (item.sample.sequence, item.item))
        if not found or found[0][8] is None:
            return None
        row = list(found[0])
        row[7:10] = spool.monotonic_of(row[7]), spool.monotonic_of(row[8]), ItemState(row[9])
        return cls(*row)


class Journeys:
    """Tells the tracer of every item that was to be sent, once it is closed.

    `offset` is the service's clock minus ours.
    """

    def __init__(
        self, tracer: Tracer, worker: SpoolWorker, clock: Clock, offset: Callable[[], OffsetEstimate | None]
    ) -> None:
        self._tracer, self._worker, self._clock, self._offset = tracer, worker, clock, offset
        self._marks: OrderedDict[int, Marks] = OrderedDict()
        self._sent: OrderedDict[ItemId, tuple[int, int]] = OrderedDict()
        self._closing: set[ItemId] = set()

    def observe(self, record: Record) -> None:
        """Remember a sample's moments; from the pipeline's thread."""
        if isinstance(record, SampleRecord) and any(item.blobs for item in record.items):
            _remember(self._marks, record.sequence, record.marks)

    def sent(self, item: ItemId, now_ns: int) -> TraceContext:
        """An item leaves: where what the service does belongs. From the uplink's thread."""
        trace = trace_id(item)
        first_ns, times = self._sent.get(item, (now_ns, 0))
        _remember(self._sent, item, (first_ns, times + 1))
        return TraceContext(trace, submit_span_id(item), self._tracer.samples(trace))

    def closed(self, item: ItemId) -> None:
        """An item gets its final state; from the spool's thread, perhaps more than once where a commit failed."""
        if item in self._closing or not self._tracer.samples(trace_id(item)):
            self._sent.pop(item, None)
            return
        self._closing.add(item)
        self._worker.call(lambda spool: Way.of(spool, item)).add_done_callback(lambda way: self._tell(item, way))

    def _tell(self, item: ItemId, read: Future[Way | None]) -> None:
        self._closing.discard(item)
        way = None if read.cancelled() or read.exception() else read.result()
        if way is not None:
            marks, sent = self._marks.get(item.sample.sequence), self._sent.pop(item, None)
            wall_ns = self._clock.wall_ns() - self._clock.monotonic_ns()
            self._tracer.exporter.emit(_Journey(item, way, marks, sent, self._offset(), wall_ns).spans())


@dataclass(frozen=True, slots=True)
class _Journey:
    """An item's spans. `sent` is when first and how often in this process; `wall_ns` is the wall's clock at 0."""

    item: ItemId
    way: Way
    marks: Marks | None
    sent: tuple[int, int] | None
    offset: OffsetEstimate | None
    wall_ns: int

    def spans(self) -> list[Span]:
        """All of them, the root first."""
        way, root = self.way, root_span_id(self.item)
        coded = way.committing_ns - way.wait_ns
        decided = coded - way.evidence_ns
        began = decided - way.edge_ns
        stored = min(way.committing_ns + way.commit_ns, way.closed_ns)  # what a commit took is known only afterwards
        seen = span_id(self.item, "perceive")
        reviewed = way.state is ItemState.REVIEWED
        return [
            Span("item", trace_id(self.item), root, "", self.wall_ns + began - way.source_ns,
                 self.wall_ns + way.closed_ns, self._attributes(),
                 error="" if reviewed else f"{way.state.value}: {way.note}"),
            self._span("capture", root, began - way.source_ns, began, {"fusion.capture_time_ns": way.capture_ns}),
            self._span("perceive", root, began, decided, {"fusion.engine_ms": round(way.engine_ns / 1e6, 3)}),
            *self._stages(seen, began, decided),
            self._span("encode", root, decided, coded, {"fusion.evidence.bytes": way.evidence_bytes}),
            self._span("spool", root, coded, stored, {"fusion.spool.wait_ms": round(way.wait_ns / 1e6, 3)}),
            *self._submission(root, stored),
        ]  # fmt: skip

    def _stages(self, seen: str, began: int, decided: int) -> Iterator[Span]:
        """The parts of a decision, where this process made it."""
        marks = self.marks
        if marks is None or not began <= marks.detected_ns <= marks.fusing_ns <= marks.fused_ns <= decided:
            return
        yield self._span("detect", seen, began, marks.detected_ns)
        yield self._span("fuse", seen, marks.fusing_ns, marks.fused_ns)
        yield self._span("screen", seen, marks.fused_ns, decided)

    def _submission(self, root: str, stored: int) -> Iterator[Span]:
        """Waiting in the outbox, and the way to the service and back."""
        closed = self.way.closed_ns
        if self.sent is None:
            yield self._span("outbox", root, stored, closed)
            return
        first, times = self.sent
        yield self._span("outbox", root, stored, first)
        told: dict[str, Value] = {"fusion.sent": times, "fusion.pixels_sent": bool(self.way.pixels_sent)}
        if self.offset:
            told["fusion.service_clock.offset_ms"] = round(self.offset.offset_ns / 1e6, 3)
            told["fusion.service_clock.error_ms"] = round(self.offset.error_ns / 1e6, 3)
        yield self._span("submit", root, first, closed, told, Kind.CLIENT)

    def _span(
        self, name: str, parent: str, began: int, ended: int, told: dict[str, Value] | None = None,
        kind: Kind = Kind.INTERNAL,
    ) -> Span:  # fmt: skip
        trace, own = trace_id(self.item), span_id(self.item, name)
        return Span(name, trace, own, parent, self.wall_ns + began, self.wall_ns + max(began, ended), told or {}, kind)

    def _attributes(self) -> dict[str, Value]:
        return {
            "fusion.item": str(self.item),
            "fusion.device": self.item.sample.device,
            "fusion.state": self.way.state.value,
            "fusion.label": self.way.label,
            "fusion.reasons": [reason for reason in self.way.reasons.split(",") if reason],
            "fusion.note": self.way.note,
        }


def _remember(book: OrderedDict[K, V], key: K, value: V) -> None:
    book[key] = value
    while len(book) > REMEMBERED:
        book.popitem(last=False)
