"""One service process: an event loop, the project's own admission, batcher and cost model, a reviewer and a ledger.

The ways are those of `cloud_node.pipeline`, `lane` and `journal`; what takes time is replaced by how long it takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from cloud_node.admission import Admission
from cloud_node.journal import MAX_GROUP
from cloud_node.lanes.batcher import Batcher, Entry
from cloud_node.lanes.cost import CostModel
from crowd.device import Device
from crowd.events import Events
from crowd.item import Item
from crowd.settings import Line, Node
from fusion.errors import OverloadedError
from fusion.types import ItemId, ItemState


class Service:
    """Takes items of devices and answers them. `item_ms` is the event loop's time for a new one, pings included."""

    def __init__(self, node: Node, item_ms: float, events: Events, rng: np.random.Generator) -> None:
        self.refusals = 0
        self.reviewed = 0
        self.in_loop = 0
        self._node, self._events, self._rng = node, events, rng
        self._item_ns, self._again_ns = round(item_ms * 1e6), round(node.loop_ms * 1e6)
        self._loop_free_ns = 0
        self._cost = CostModel()
        self._batcher = Batcher(
            max_tokens=node.batch.tokens,
            max_items=node.batch.items,
            max_delay_ns=round(node.batch.max_delay_ms * 1e6),
            predict_ns=self._cost.predict_ns,
        )
        self.admission = Admission(node.queue, self._drain_ns)
        self._open: dict[ItemId, tuple[Item, Device, int]] = {}
        self._reviewing = False
        self._wake_ns: int | None = None
        self._to_store: deque[tuple[Item, ItemState]] = deque()
        self._storing = False

    def receive(self, device: Device, item: Item) -> None:
        """An item's bytes are here; the event loop takes it when its turn comes."""
        self.in_loop += 1
        work_ns, item.came = self._again_ns if item.came else self._item_ns, True
        self._loop_free_ns = max(self._events.now_ns, self._loop_free_ns) + work_ns
        self._events.at(self._loop_free_ns, partial(self._submit, device, item, device.stream))

    def _submit(self, device: Device, item: Item, stream: int) -> None:
        self.in_loop -= 1
        if item.stored.final:
            self._tell(device, partial(device.answered, item, item.stored, stream))
            return
        if item.id in self._open:
            self._open[item.id] = (item, device, stream)
            return
        try:
            self._admit(device)
        except OverloadedError as error:
            self.refusals += 1
            self._tell(device, partial(device.refused, item, error.retry_after_s, stream))
            return
        now_ns = self._events.now_ns
        self._open[item.id] = (item, device, stream)
        item.deadline_ns = None if item.limit_ns is None else now_ns + item.limit_ns
        self._batcher.add(Entry(item.id, device.name, self._node.tokens, now_ns, item.deadline_ns))
        self._decide()

    def _admit(self, device: Device) -> None:
        self.admission.open(device.name)
        try:
            self.admission.enter(self._node.tokens)
        except OverloadedError:
            self.admission.close(device.name)
            raise

    def _decide(self) -> None:
        """What a lane does when it is free."""
        if self._reviewing:
            return
        decision = self._batcher.decide(self._events.now_ns)
        self._leave(decision.expired, ItemState.EXPIRED)
        if decision.batch:
            tokens = sum(entry.tokens for entry in decision.batch)
            duration_ns = self._duration_ns(self._node.review, tokens)
            self._reviewing = True
            self._events.at(self._events.now_ns + duration_ns, partial(self._done, decision.batch, tokens, duration_ns))
        elif decision.wake_ns is not None and decision.wake_ns != self._wake_ns:
            self._wake_ns = decision.wake_ns
            self._events.at(decision.wake_ns, self._wake)

    def _wake(self) -> None:
        self._wake_ns = None
        self._decide()

    def _done(self, batch: Sequence[Entry], tokens: int, duration_ns: int) -> None:
        self._reviewing = False
        self._cost.observe(tokens, duration_ns)
        self._leave(batch, ItemState.REVIEWED)
        self._decide()

    def _leave(self, entries: Sequence[Entry], state: ItemState) -> None:
        for entry in entries:
            self.admission.leave(entry.tokens)
            self._to_store.append((self._open[entry.item][0], state))
        self._store()

    def _store(self) -> None:
        """While one group commits, the next gathers."""
        if self._storing or not self._to_store:
            return
        group = [self._to_store.popleft() for _ in range(min(MAX_GROUP, len(self._to_store)))]
        self._storing = True
        duration_ns = self._duration_ns(self._node.ledger, len(group))
        self._events.at(self._events.now_ns + duration_ns, partial(self._stored, group))

    def _stored(self, group: Sequence[tuple[Item, ItemState]]) -> None:
        self._storing = False
        for item, state in group:
            _, device, stream = self._open.pop(item.id)
            item.stored = state
            self.reviewed += state is ItemState.REVIEWED
            self.admission.close(device.name)
            self._tell(device, partial(device.answered, item, state, stream))
        self._store()

    def _tell(self, device: Device, message: Callable[[], None]) -> None:
        self._events.at(self._events.now_ns + device.delay_ns, message)

    def _duration_ns(self, line: Line, units: int) -> int:
        jitter = self._node.jitter
        return round(line.ms(units) * 1e6 * self._rng.lognormal(-(jitter**2) / 2, jitter))

    def _drain_ns(self) -> int:
        """As `cloud_node.lanes.lane.Lane.drain_ns`."""
        most, tokens = self._node.batch.tokens, self._batcher.tokens
        return self._cost.predict_ns(min(tokens, most)) * max(1, -(-tokens // most))
