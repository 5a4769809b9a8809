"""Forms batches. A pure decision object: it knows entries, tokens and a clock's readings, and touches nothing else.

Whose turn it is, is decided in three steps:

1. The oldest entry of all goes first when it has waited longer than `patience_ns`: nothing starves.
2. Entries whose deadline would not survive another batch, earliest deadline first. A device pays for this with
   its share, and may owe at most one batch.
3. Deficit round robin over the devices, in tokens (Shreedhar and Varghese, 1995), the largest credit first, so
   that who did not fit into the rest of one batch begins the next; within a device the earliest due entry, a
   higher priority counting as an earlier due time, equal ones in order of arrival.

No batch costs more than its budget, or is predicted to end after the deadline of one of its entries. What cannot
make its deadline even alone is reported as expired; so is what a full batch would make late, while others fill one.
When that goes on (`Overload`), only what fills the next batch of every replica and one more is kept of what has a
deadline: as many are done, sooner after they came, and who is given up learns it earlier.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from cloud_node.lanes.overload import Overload
from fusion.types import ItemId

PATIENCE_NS = 5_000_000_000
PRIORITY_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One waiting row: its cost in tokens and, on the monotonic clock, when it came and when it is useless."""

    item: ItemId
    device: str
    tokens: int
    arrival_ns: int
    deadline_ns: int | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now: review `batch`, give up `expired`, ask again at `wake_ns` (None when nothing waits)."""

    batch: tuple[Entry, ...]
    expired: tuple[Entry, ...]
    wake_ns: int | None


class Batcher:
    """Waiting entries of one reviewer. `predict_ns` says how long a batch of so many tokens takes, `replicas` how many
    are at work at once.
    """

    def __init__(
        self,
        *,
        max_tokens: int,
        max_items: int,
        max_delay_ns: int,
        predict_ns: Callable[[int], int],
        patience_ns: int = PATIENCE_NS,
        replicas: Callable[[], int] = lambda: 1,
    ) -> None:
        self._max_tokens = max_tokens
        self._max_items = max_items
        self._max_delay_ns = max_delay_ns
        self._predict_ns = predict_ns
        self._patience_ns = patience_ns
        self._replicas = replicas
        self._overload = Overload()
        self._quantum = max(1, max_tokens // 8)
        self._waiting: dict[ItemId, Entry] = {}
        self._order: dict[ItemId, int] = {}
        self._queues: dict[str, list[tuple[int, int, Entry]]] = {}
        self._credit: dict[str, int] = {}
        self._tokens = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def tokens(self) -> int:
        """Cost of everything that waits."""
        return self._tokens

    @property
    def overloaded(self) -> bool:
        """See `Overload`."""
        return self._overload.standing

    def items(self) -> tuple[ItemId, ...]:
        """Everything that waits."""
        return tuple(self._waiting)

    def add(self, entry: Entry) -> None:
        """Let `entry` wait. Its cost must be 1..max_tokens and its item new."""
        if not 1 <= entry.tokens <= self._max_tokens or entry.item in self._waiting:
            raise ValueError(f"entry {entry.item} costs {entry.tokens} of {self._max_tokens} tokens or waits already")
        self._count += 1
        self._waiting[entry.item] = entry
        self._order[entry.item] = self._count
        self._tokens += entry.tokens
        heapq.heappush(self._queues.setdefault(entry.device, []), (self._due_ns(entry), self._count, entry))

    def remove(self, item: ItemId) -> bool:
        """Forget an entry; False when it does not wait."""
        entry = self._waiting.pop(item, None)
        if entry is None:
            return False
        del self._order[item]
        self._tokens -= entry.tokens
        return True

    def decide(self, now_ns: int) -> Decision:
        """What to do at `now_ns`, given that the reviewer, or one of its replicas, is free."""
        expired = self._drop(e for e in self._waiting.values() if self._late(e, now_ns))
        expired += self._drop(self._in_the_way(now_ns))
        self._overload.observe(now_ns, (e.arrival_ns for e in expired), backlog=self._full(self._waiting.values()))
        if self._overload.standing:
            expired += self._drop(self._beyond_use())
        wake_ns = self._wake_ns(now_ns)
        if wake_ns is None or wake_ns > now_ns:
            return Decision((), expired, wake_ns)
        batch = self._fill(now_ns)
        return Decision(batch, expired, self._wake_ns(now_ns))

    def _due_ns(self, entry: Entry) -> int:
        latest = entry.arrival_ns + self._patience_ns
        due = latest if entry.deadline_ns is None else min(latest, entry.deadline_ns)
        return due - entry.priority * PRIORITY_NS

    def _late(self, entry: Entry, now_ns: int) -> bool:
        return entry.deadline_ns is not None and now_ns + self._predict_ns(entry.tokens) > entry.deadline_ns

    def _drop(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        dropped = tuple(entries)
        for entry in dropped:
            self.remove(entry.item)
        return dropped

    def _in_the_way(self, now_ns: int) -> list[Entry]:
        """Entries that could only be made by a batch smaller than what waits would fill.

        Under overload the most urgent are always those about to be late. Batches made small for their sake do less a
        second, so that more become late, until every batch has one row. So they are given up while others, of no lesser
        priority, fill a whole batch: the number of rows that come too late is then the least there can be.
        """
        count = len(self._waiting)
        if self._tokens < self._max_tokens and count < self._max_items:
            return []
        end_ns = now_ns + self._predict_ns(min(self._max_tokens, self._tokens * self._max_items // count))
        tight = [e for e in self._waiting.values() if e.deadline_ns is not None and e.deadline_ns < end_ns]
        if not tight:
            return []
        whose = {entry.item for entry in tight}
        others = [entry for entry in self._waiting.values() if entry.item not in whose]
        given_up = {p for p in {e.priority for e in tight} if self._full([o for o in others if o.priority >= p])}
        return [entry for entry in tight if entry.priority in given_up]

    def _beyond_use(self) -> list[Entry]:
        """Entries with a deadline beyond those that fill a batch for everybody and one more: the least of priority, and
        of those the most urgent.
        """
        batches = max(1, self._replicas()) + 1
        items, tokens = batches * self._max_items, batches * self._max_tokens
        ranked = sorted(
            (e for e in self._waiting.values() if e.deadline_ns is not None),
            key=lambda e: (-e.priority, -(e.deadline_ns or 0)),
        )
        beyond = []
        for entry in ranked:
            items, tokens = items - 1, tokens - entry.tokens
            if items < 0 or tokens < 0:
                beyond.append(entry)
        return beyond

    def _full(self, entries: Collection[Entry]) -> bool:
        """Whether they are a whole batch at least."""
        return len(entries) >= self._max_items or sum(entry.tokens for entry in entries) >= self._max_tokens

    def _wake_ns(self, now_ns: int) -> int | None:
        """When the next batch should leave: now if it is full, else when the oldest or most urgent wants to."""
        if not self._waiting:
            return None
        if self._tokens >= self._max_tokens or len(self._waiting) >= self._max_items:
            return now_ns
        duration = self._predict_ns(self._tokens)
        entries = self._waiting.values()
        latest = min(entry.arrival_ns for entry in entries) + self._max_delay_ns
        return min([latest, *(e.deadline_ns - duration for e in entries if e.deadline_ns is not None)])

    def _fill(self, now_ns: int) -> tuple[Entry, ...]:
        filling = _Filling(now_ns, self._max_tokens, self._max_items, self._predict_ns)
        self._take_oldest(filling)
        self._take_urgent(filling)
        self._take_turns(filling)
        return tuple(filling.chosen)

    def _take_oldest(self, filling: _Filling) -> None:
        oldest = min(self._waiting.values(), key=lambda e: (e.arrival_ns, self._order[e.item]))
        if oldest.arrival_ns + self._patience_ns <= filling.now_ns:
            self._take(oldest, filling)

    def _take_urgent(self, filling: _Filling) -> None:
        horizon = filling.now_ns + 2 * self._predict_ns(self._max_tokens)
        urgent = [
            (e.deadline_ns, self._order[e.item], e)
            for e in self._waiting.values()
            if e.deadline_ns is not None and e.deadline_ns <= horizon
        ]
        passed_over: set[str] = set()
        for _, _, entry in sorted(urgent, key=lambda row: row[:2]):
            broke = self._credit.get(entry.device, 0) <= -self._max_tokens
            if broke or entry.device in passed_over or not filling.fits(entry):
                passed_over.add(entry.device)
                continue
            self._take(entry, filling)

    def _take_turns(self, filling: _Filling) -> None:
        """Rounds while anyone's next entry fits. Everyone earns in every round, also who is too large for the rest."""
        while any(head is not None and filling.fits(head) for head in map(self._head, self._queues)):
            for device in sorted(self._queues, key=lambda name: -self._credit.get(name, 0)):
                self._turn(device, filling)

    def _turn(self, device: str, filling: _Filling) -> None:
        self._credit[device] = min(2 * self._max_tokens, self._credit.get(device, 0) + self._quantum)
        head = self._head(device)
        while head is not None and head.tokens <= self._credit[device] and filling.fits(head):
            self._take(head, filling)
            head = self._head(device)
        if head is None:
            del self._queues[device]
            if self._credit[device] >= 0:  # credit is lost with the backlog, a debt is not
                del self._credit[device]

    def _head(self, device: str) -> Entry | None:
        queue = self._queues[device]
        while queue and self._order.get(queue[0][2].item) != queue[0][1]:
            heapq.heappop(queue)
        return queue[0][2] if queue else None

    def _take(self, entry: Entry, filling: _Filling) -> None:
        self._credit[entry.device] = self._credit.get(entry.device, 0) - entry.tokens
        self.remove(entry.item)
        filling.add(entry)


class _Filling:
    """A batch while it is filled."""

    def __init__(self, now_ns: int, max_tokens: int, max_items: int, predict_ns: Callable[[int], int]) -> None:
        self.now_ns = now_ns
        self.chosen: list[Entry] = []
        self._tokens_left = max_tokens
        self._tokens = 0
        self._max_items = max_items
        self._predict_ns = predict_ns
        self._deadline_ns: int | None = None

    def fits(self, entry: Entry) -> bool:
        if entry.tokens > self._tokens_left or len(self.chosen) == self._max_items:
            return False
        deadlines = [d for d in (self._deadline_ns, entry.deadline_ns) if d is not None]
        return not deadlines or self.now_ns + self._predict_ns(self._tokens + entry.tokens) <= min(deadlines)

    def add(self, entry: Entry) -> None:
        self.chosen.append(entry)
        self._tokens += entry.tokens
        self._tokens_left -= entry.tokens
        deadlines = [d for d in (self._deadline_ns, entry.deadline_ns) if d is not None]
        self._deadline_ns = min(deadlines, default=None)
