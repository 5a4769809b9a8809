"""A recording through the daemon's own pipeline and spool, one thing after another, with a clock beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from edge_node.config import SourceSettings
from edge_node.factory import PipelineFactory
from edge_node.power import Power
from edge_node.process import resident_mib
from edge_node.sources import Source
from edge_node.spool import Record, SampleRecord, Spool, Timing
from fusion.clock import Clock
from fusion.types import Reading

WARM = 3
"""Samples at the beginning that are not counted: caches fill, kernels are chosen."""


@dataclass(slots=True)
class Measured:
    """Durations in nanoseconds: a `Timing` a sample, `commit` a batch. `wall` and `cpu` seconds of all counted work."""

    timings: list[Timing] = field(default_factory=list)
    commits_ns: list[int] = field(default_factory=list)
    items: int = 0
    sent: int = 0
    gaps: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    resident_mib: float = 0.0
    peak_mib: float = 0.0

    @property
    def samples_per_s(self) -> float:
        """Decoding, deciding and committing in one thread."""
        return len(self.timings) / self.wall_s if self.wall_s else 0.0

    @property
    def cpu_share(self) -> float:
        """Processor time of this process by wall time; 1 is one core."""
        return self.cpu_s / self.wall_s if self.wall_s else 0.0


@dataclass(slots=True)
class Bench:
    """Plays `source` once. `most` samples are counted, all with 0; `progress` is called after each."""

    settings: SourceSettings
    source: Source
    factory: PipelineFactory
    spool: Spool
    power: Power
    clock: Clock
    most: int = 0
    batch: int = 8
    progress: Callable[[], object] = lambda: None
    found: Measured = field(default_factory=Measured)
    _seen: int = 0
    _pending: list[Record] = field(default_factory=list)
    _began: tuple[float, float] = (0.0, 0.0)

    def run(self) -> Measured:
        """Measure. Raises `FusionError`; a recording of at most `WARM` samples counts none."""
        resume = self.spool.resume(self.source.content, self.settings.run)
        pipeline = self.factory.make(resume, self.spool.next_sequence, self.spool.epoch, self._store)
        for cursor, reading, took_ns in self._decoded(self.source.readings(0)):
            pipeline.feed(cursor, reading, took_ns)
            if self.most and len(self.found.timings) >= self.most:
                break
        else:
            pipeline.finish()
        self._commit()
        if self._seen >= WARM:
            self.found.wall_s = self.clock.monotonic_ns() / 1e9 - self._began[0]
            self.found.cpu_s = time.process_time() - self._began[1]
        self.found.resident_mib, self.found.peak_mib = resident_mib()
        return self.found

    def _decoded(self, readings: Iterable[tuple[int, Reading]]) -> Iterable[tuple[int, Reading, int]]:
        began = self.clock.monotonic_ns()
        for cursor, reading in readings:
            yield cursor, reading, self.clock.monotonic_ns() - began
            began = self.clock.monotonic_ns()

    def _store(self, record: Record) -> None:
        self._pending.append(record)
        if not isinstance(record, SampleRecord):
            self.found.gaps += 1
            return
        self._seen += 1
        if self._seen > WARM:
            self.found.timings.append(record.timing)
            self.found.items += len(record.items)
            self.found.sent += sum(item.blobs is not None for item in record.items)
            self.power.observe(record)
            self.progress()
        if len(self._pending) >= self.batch or self._seen == WARM:
            self._commit()
        if self._seen == WARM:
            self._began = self.clock.monotonic_ns() / 1e9, time.process_time()
            self.power.start(lambda: 0)

    def _commit(self) -> None:
        if not self._pending:
            return
        began = self.clock.monotonic_ns()
        self.spool.commit(self._pending)
        if self._seen > WARM:
            self.found.commits_ns.append(self.clock.monotonic_ns() - began)
        self._pending.clear()
