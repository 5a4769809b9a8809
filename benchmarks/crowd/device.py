"""A device: a spool, a window of unanswered items, a slow link, and patience with a service that is overloaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from crowd.events import Events
from crowd.item import Item
from crowd.settings import Fleet
from fusion.types import ItemId, ItemState


class Device:
    """Sends in order, as `edge_node.uplink` does: an overloaded service pauses everything until RetryInfo says."""

    def __init__(self, name: str, fleet: Fleet, events: Events, deliver: Callable[[Device, Item], None]) -> None:
        self.name = name
        self.online = True
        self.delay_ns = round(fleet.delay_ms * 1e6)
        self._fleet = fleet
        self._events = events
        self._deliver = deliver
        self._waiting: deque[Item] = deque()
        self._flying: dict[ItemId, Item] = {}
        self._paused_until_ns = 0
        self._link_free_ns = 0
        self._stream = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._flying)

    def make(self, item: Item) -> None:
        """A new item; a full spool sheds one that never left."""
        self._waiting.append(item)
        if len(self) > self._fleet.spool_items:
            self._shed()
        self.pump()

    def pump(self) -> None:
        """Send while there is room."""
        if not self.online or self._events.now_ns < self._paused_until_ns:
            return
        while self._waiting and len(self._flying) < self._fleet.window:
            self._send(self._waiting.popleft())

    def answered(self, item: Item, state: ItemState, stream: int) -> None:
        """A final answer came on a stream; what a broken one carried is lost."""
        if stream == self._stream and self._flying.pop(item.id, None) is not None:
            item.state, item.answered_ns = state, self._events.now_ns
            self.pump()

    def refused(self, item: Item, retry_s: float, stream: int) -> None:
        """RESOURCE_EXHAUSTED: everything pauses, the item comes again first."""
        if stream != self._stream or self._flying.pop(item.id, None) is None:
            return
        self._waiting.appendleft(item)
        until_ns = self._events.now_ns + round(retry_s * 1e9)
        if until_ns > self._paused_until_ns:
            self._paused_until_ns = until_ns
            self._events.at(until_ns, self.pump)

    def lose(self) -> None:
        """The stream breaks: what was unanswered will be sent again."""
        self.online = False
        self._stream += 1
        self._waiting.extendleft(reversed(self._flying.values()))
        self._flying.clear()

    def come_back(self) -> None:
        """A new stream."""
        self.online = True
        self._paused_until_ns = 0
        self.pump()

    @property
    def stream(self) -> int:
        """Which stream an answer must come on."""
        return self._stream

    def _send(self, item: Item) -> None:
        now_ns = self._events.now_ns
        if self._fleet.deadline_s:
            left_ns = round(self._fleet.deadline_s * 1e9) - (now_ns - item.born_ns)
            item.limit_ns = max(1_000_000, left_ns)
        item.sent = True
        self._flying[item.id] = item
        self._link_free_ns = max(now_ns, self._link_free_ns) + round(item.size * 8e9 / self._fleet.link_bits_s)
        arrival_ns = self._link_free_ns + self.delay_ns
        self._events.at(arrival_ns, partial(self._arrive, item, self._stream))

    def _arrive(self, item: Item, stream: int) -> None:
        if stream == self._stream:
            self._deliver(self, item)

    def _shed(self) -> None:
        """Give up the oldest, or the one of lowest value, of those that never left; all left, and none is."""
        unsent = [item for item in self._waiting if not item.sent]
        if not unsent:
            return
        victim = unsent[0] if self._fleet.drop == "oldest" else min(unsent, key=lambda item: item.value)
        self._waiting.remove(victim)
        victim.state = ItemState.SHED
