"""One service process and its share of the devices, simulated item by item. Everything follows from the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from crowd.demand import draw
from crowd.device import Device
from crowd.events import Events
from crowd.item import Item
from crowd.service import Service
from crowd.settings import Fleet, Node, Trouble
from fusion.types import ItemId, ItemState, SampleId

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Moment:
    """The state at `s` seconds: items before the event loop, admitted, unanswered on devices; reviews done so far."""

    s: float
    before_loop: int
    queue: int
    spools: int
    reviewed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. Rates are a second; `p50_s`, `p99_s` from an item's birth to its verdict, None without any.

    `late` items were reviewed but answered after their deadline. `recovery_s` is how long after its return a lost
    region still had unanswered items of before: None when none was lost, infinite when they outlast the run.
    """

    devices: int
    load: float
    capacity: float
    offered: float
    goodput: float
    p50_s: float | None
    p99_s: float | None
    items: int
    states: dict[str, int]
    late: int
    refusals: int
    recovery_s: float | None
    moments: tuple[Moment, ...]


class Simulation:
    """`load` is the offered rate by the capacity of the node; so many devices it gets."""

    def __init__(self, node: Node, fleet: Fleet, trouble: Trouble, load: float, seconds: float, seed: int) -> None:
        self._fleet, self._trouble, self._load, self._seconds = fleet, trouble, load, seconds
        self._capacity = node.capacity(fleet.items_per_hour)
        self._events = Events()
        rng = np.random.default_rng([seed, 1])
        self._service = Service(node, node.item_ms(fleet.items_per_hour), self._events, rng)
        count = max(fleet.regions, round(load * self._capacity * 3600 / fleet.items_per_hour))
        self._devices = [Device(f"d-{n}", fleet, self._events, self._service.receive) for n in range(count)]
        self._demand = draw(fleet, trouble, count, seconds, seed)
        self._back = rng.uniform(0.5, 1.0, count) * fleet.backoff_s
        self._items: list[Item] = []
        self._moments: list[Moment] = []

    def run(self) -> Outcome:
        """To the end of the time; what is unanswered then is pending."""
        self._plan_items()
        self._plan_trouble()
        for second in range(int(self._seconds) + 1):
            self._events.at(second * SECOND_NS, self._look)
        self._events.run(round(self._seconds * SECOND_NS))
        return self._outcome()

    def _plan_items(self) -> None:
        demand, epoch = self._demand, "0" * 16
        rows = zip(demand.time_ns.tolist(), demand.device.tolist(), demand.value, demand.size.tolist(), strict=True)
        for number, (time_ns, who, value, size) in enumerate(rows, 1):
            device = self._devices[who]
            item = Item(ItemId(SampleId(device.name, epoch, number), 1), time_ns, float(value), size)
            self._items.append(item)
            self._events.at(time_ns, partial(device.make, item))

    def _plan_trouble(self) -> None:
        lost_s, back_s = self._trouble.lost_s, self._trouble.back_s
        if lost_s is None or back_s is None:
            return
        for number in range(0, len(self._devices), self._fleet.regions):
            device = self._devices[number]
            self._events.at(round(lost_s * SECOND_NS), device.lose)
            self._events.at(round((back_s + self._back[number]) * SECOND_NS), device.come_back)

    def _look(self) -> None:
        now_s, service = self._events.now_ns / SECOND_NS, self._service
        spools = sum(map(len, self._devices))
        self._moments.append(Moment(now_s, service.in_loop, service.admission.items, spools, service.reviewed))

    def _outcome(self) -> Outcome:
        reviewed = [item for item in self._items if item.state is ItemState.REVIEWED]
        waits = np.array([item.answered_ns - item.born_ns for item in reviewed]) / SECOND_NS
        states = Counter(item.state.value for item in self._items)
        return Outcome(
            devices=len(self._devices),
            load=self._load,
            capacity=self._capacity,
            offered=len(self._items) / self._seconds,
            goodput=self._service.reviewed / self._seconds,
            p50_s=float(np.percentile(waits, 50)) if reviewed else None,
            p99_s=float(np.percentile(waits, 99)) if reviewed else None,
            items=len(self._items),
            states={state.value: states[state.value] for state in ItemState if states[state.value]},
            late=int((waits > self._fleet.deadline_s).sum()) if self._fleet.deadline_s else 0,
            refusals=self._service.refusals,
            recovery_s=self._recovery_s(self._items),
            moments=tuple(self._moments),
        )

    def _recovery_s(self, items: Sequence[Item]) -> float | None:
        back_s = self._trouble.back_s
        if back_s is None:
            return None
        names = {device.name for device in self._devices[:: self._fleet.regions]}
        back_ns = round(back_s * SECOND_NS)
        old = [item for item in items if item.born_ns < back_ns and item.id.sample.device in names]
        if any(item.state is ItemState.PENDING for item in old):
            return float("inf")
        return max(0.0, max((item.answered_ns for item in old), default=0) / SECOND_NS - back_s)
