"""What of the outbox is on its way: a pure account of sent, answered and put-off items. Times are monotonic."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_node.spool import OutboxRow
from fusion.types import ItemId


@dataclass(slots=True)
class _Flight:
    row: OutboxRow
    sent_ns: int


@dataclass(slots=True)
class Window:
    """At most `size` submissions of one stream without an answer. A new stream begins with a new window.

    `cursor` is the outbox id up to which rows were taken. A refused item leaves the flight and comes back when
    its pause is over; a service that is overloaded pauses everything.
    """

    size: int
    cursor: int = 0
    _flying: dict[ItemId, _Flight] = field(default_factory=dict)
    _put_off: dict[ItemId, tuple[int, OutboxRow]] = field(default_factory=dict)
    _paused_until_ns: int = 0

    @property
    def unanswered(self) -> int:
        """Items sent or to be sent again on this stream."""
        return len(self._flying) + len(self._put_off)

    def room(self, now_ns: int) -> int:
        """How many new rows may be sent now."""
        if now_ns < self._paused_until_ns:
            return 0
        return max(0, self.size - self.unanswered)

    def sent(self, row: OutboxRow, now_ns: int) -> None:
        """A row was handed to the stream."""
        self._put_off.pop(row.item, None)
        self._flying[row.item] = _Flight(row, now_ns)
        self.cursor = max(self.cursor, row.id)

    def answered(self, item: ItemId) -> None:
        """An item has its final answer."""
        self._flying.pop(item, None)
        self._put_off.pop(item, None)

    def refused(self, item: ItemId, until_ns: int, *, all_wait: bool) -> None:
        """The service will not take an item before `until_ns`; `all_wait` when it takes nothing before then."""
        if all_wait:
            self._paused_until_ns = max(self._paused_until_ns, until_ns)
        if flight := self._flying.pop(item, None):
            self._put_off[item] = (until_ns, flight.row)

    def due(self, now_ns: int) -> list[OutboxRow]:
        """Put-off rows whose time has come, oldest first."""
        if now_ns < self._paused_until_ns:
            return []
        return sorted((row for at, row in self._put_off.values() if at <= now_ns), key=lambda row: row.id)

    def next_due_ns(self, now_ns: int) -> int | None:
        """When `due` has something, or `room` opens; None when only an answer or a new row can change that."""
        times = [max(at, self._paused_until_ns) for at, _ in self._put_off.values()]
        if now_ns < self._paused_until_ns and self.unanswered < self.size:
            times.append(self._paused_until_ns)
        return min(times, default=None)

    def oldest_wait_ns(self, now_ns: int) -> int:
        """How long the oldest submission has waited for its answer."""
        return max((now_ns - flight.sent_ns for flight in self._flying.values()), default=0)
