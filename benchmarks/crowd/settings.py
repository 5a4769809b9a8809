"""What is simulated: a service process with its reviewer and ledger, its share of devices, what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloud_node.config import BatchSettings, QueueSettings
from cloud_node.journal import MAX_GROUP

PING_S = 10.0
"""How often a device asks for the service's clock (`uplink.ping_s`)."""


@dataclass(frozen=True, slots=True)
class Line:
    """Milliseconds of something: `base_ms` + `each_ms` a unit."""

    base_ms: float
    each_ms: float

    def ms(self, units: float) -> float:
        """How long so many units take together."""
        return self.base_ms + self.each_ms * units


SQLITE = Line(3.4, 0.22)
"""A group's commit and look-up, a row: measured (docs/results.md)."""

POSTGRESQL = Line(4.5, 0.57)
"""The same of PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Node:
    """One service process. `loop_ms` of its event loop goes into an item, `ping_ms` into a ping.

    `review` is a batch's duration over its tokens, of which an item has `tokens`; `ledger` a group's over its rows.
    Durations of batches and groups vary log-normally by `jitter`. `measured` says where the figures come from.
    """

    name: str
    review: Line
    tokens: int
    measured: str
    loop_ms: float = 0.97
    ping_ms: float = 0.14
    ledger: Line = SQLITE
    jitter: float = 0.15
    batch: BatchSettings = field(default_factory=BatchSettings)
    queue: QueueSettings = field(default_factory=QueueSettings)

    def item_ms(self, items_per_hour: float) -> float:
        """Event loop's time for an item, with the pings of its device until the next one."""
        return self.loop_ms + self.ping_ms * 3600 / (PING_S * items_per_hour)

    def stages(self, items_per_hour: float) -> dict[str, float]:
        """The most reviews a second that each stage does, in full batches and groups."""
        rows = min(self.batch.items, self.batch.tokens // self.tokens)
        return {
            "event loop": 1e3 / self.item_ms(items_per_hour),
            "reviewer": 1e3 * rows / self.review.ms(rows * self.tokens),
            "ledger": 1e3 * MAX_GROUP / self.ledger.ms(MAX_GROUP),
        }

    def capacity(self, items_per_hour: float) -> float:
        """Reviews a second of the slowest stage."""
        return min(self.stages(items_per_hour).values())


NODES = {
    node.name: node
    for node in (
        Node("cpu", Line(8.0, 0.32), 30, "bundled yard reviewer, one thread, measured"),
        Node("gpu", Line(15.0, 0.0427), 44, "a 3B model's third of one H200, estimated"),
        Node("gpu-alone", Line(5.0, 0.0142), 44, "a 3B model on one H200 behind one process, estimated"),
    )
}
"""What can be simulated by name. Estimates are the roofline's at 50 % of peak plus 5 ms a batch, which is assumed."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Devices. Rates over devices are log-normal with `sigma`; evidence with `bytes_sigma` about its mean."""

    items_per_hour: float = 60.0
    sigma: float = 1.5
    day_swing: float = 0.0
    day_s: float = 86_400.0
    regions: int = 4
    evidence_bytes: float = 2274.0
    bytes_sigma: float = 0.47
    link_bits_s: float = 1e6
    delay_ms: float = 40.0
    window: int = 64
    spool_items: int = 118_000
    drop: str = "value"
    deadline_s: float = 30.0
    backoff_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Region 0 sees an event at `event_s`, a share of its devices with `event_items` each; it is lost at `lost_s`."""

    event_s: float | None = None
    event_share: float = 0.2
    event_items: int = 5
    event_spread_s: float = 10.0
    lost_s: float | None = None
    lost_for_s: float = 60.0

    @property
    def back_s(self) -> float | None:
        """When the lost region is there again, seconds; None when none is lost."""
        return None if self.lost_s is None else self.lost_s + self.lost_for_s
