"""The daemon's working threads: one reads and decodes, another thinks; the disk has its own (`SpoolWorker`).

Queues between them are bounded, so a slow stage slows the one before it and memory stays flat.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from edge_node.config import LIVE, SourceSettings
from edge_node.lateness import LIMIT_S, Lateness
from edge_node.pacing import Pacer
from edge_node.pipeline import Pipeline
from edge_node.sources import Source
from edge_node.spool import Record, Resume, Spool, SpoolWorker
from fusion.clock import Clock
from fusion.types import Reading

READ_AHEAD = 16
"""Readings decoded ahead of the pipeline."""


@dataclass(frozen=True, slots=True, eq=False)
class _Delivery:
    """One reading, what it took, and when it was due (0: at once). Without a reading: the end, or why."""

    cursor: int = 0
    reading: Reading | None = None
    source_ns: int = 0
    due_ns: int = 0
    error: Exception | None = None


@dataclass(slots=True)
class Runner:
    """Plays `source` through pipelines made by `make_pipeline(resume, sequence, store)`, one a lap.

    `done` is called once, from its thread, when the source ended, failed (`error`) or was stopped, and
    everything is committed. `hold` says of a reference frame's capture time why it is to be skipped, empty when it
    is not. `progress_ns` is when a reading was last taken (monotonic), `lateness` how far behind their pace they are.
    """

    source: Source
    settings: SourceSettings
    reference: str
    worker: SpoolWorker
    clock: Clock
    make_pipeline: Callable[[Resume, int, Callable[[Record], object]], Pipeline]
    done: Callable[[], None]
    hold: Callable[[int], str] = lambda _: ""
    error: Exception | None = None
    ended: bool = False
    progress_ns: int = 0
    lateness: Lateness = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _last: Future[None] | None = None

    def __post_init__(self) -> None:
        self.lateness = Lateness(self.settings.drop_late_s or LIMIT_S)

    def start(self) -> None:
        """Start the threads."""
        self.progress_ns = self.clock.monotonic_ns()
        self._threads.append(threading.Thread(target=self._run, name="pipeline", daemon=True))
        self._threads[0].start()

    def stop(self) -> None:
        """Take no further reading; what is begun is finished and committed."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads; whether they ended."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            resume, sequence = self.worker.call(self._begin).result()
            while not resume.finished:
                self._lap(resume, sequence)
                if self._stop.is_set() or not self.settings.loop:
                    break
                resume, sequence = self.worker.call(self._next_lap).result()
            if self._last:
                self._last.result()
            self.ended = not self._stop.is_set()
        except Exception as error:  # noqa: BLE001 the daemon ends with it
            self.error = error
        finally:
            self._stop.set()
            self.done()

    def _begin(self, spool: Spool) -> tuple[Resume, int]:
        resume = spool.resume(self.source.content, self.settings.run)
        if resume.finished and self.settings.loop:
            resume = spool.next_lap(self.source.content, self.settings.run)
        return resume, spool.next_sequence

    def _next_lap(self, spool: Spool) -> tuple[Resume, int]:
        return spool.next_lap(self.source.content, self.settings.run), spool.next_sequence

    def _lap(self, resume: Resume, sequence: int) -> None:
        pipeline = self.make_pipeline(resume, sequence, self._store)
        deliveries: queue.Queue[_Delivery] = queue.Queue(maxsize=READ_AHEAD)
        reader = threading.Thread(target=self._read, args=(resume, deliveries), name="source", daemon=True)
        self._threads = [self._threads[0], reader]
        reader.start()
        try:
            self._play(pipeline, deliveries)
        finally:
            pipeline.close()

    def _play(self, pipeline: Pipeline, deliveries: queue.Queue[_Delivery]) -> None:
        idle_ns = 0  # time spent at work does not count: what a frame waits for may have come meanwhile
        while not self._stop.is_set():
            began_ns = self.clock.monotonic_ns()
            delivery = _next(deliveries)
            now_ns = self.clock.monotonic_ns()
            idle_ns += now_ns - began_ns
            if delivery:
                self.progress_ns = now_ns
                if delivery.error:
                    raise delivery.error
                if delivery.reading is None:
                    pipeline.finish()
                    return
                self._feed(pipeline, delivery.cursor, delivery.reading, delivery)
            if self.settings.kind == LIVE:
                pipeline.tick(idle_ns)

    def _feed(self, pipeline: Pipeline, cursor: int, reading: Reading, delivery: _Delivery) -> None:
        new = reading.sensor == self.reference and cursor > pipeline.resume.cursor
        began_ns = self.clock.monotonic_ns()
        if new and (reason := self._reason_to_skip(reading, delivery.due_ns)):
            pipeline.skip(cursor, reading, reason)
        else:
            pipeline.feed(cursor, reading, delivery.source_ns)
        if due_ns := delivery.due_ns:
            took_ns = self.clock.monotonic_ns() - began_ns
            self.lateness.taken(due_ns, began_ns - due_ns, delivery.source_ns, took_ns, frame=new)

    def _reason_to_skip(self, frame: Reading, due_ns: int) -> str:
        held = self.hold(frame.capture_time_ns)  # asked about every frame: who holds keeps count of them
        behind_ns = self.clock.monotonic_ns() - due_ns if due_ns else 0
        limit_s = self.settings.drop_late_s
        if limit_s and behind_ns > limit_s * 1e9:
            return f"more than {limit_s:g} s behind"
        return held

    def _store(self, record: Record) -> None:
        if self.worker.failure:
            raise self.worker.failure
        self._last = self.worker.store(record)

    def _read(self, resume: Resume, deliveries: queue.Queue[_Delivery]) -> None:
        try:
            pacer = Pacer(self.settings.pace, self.clock)
            began = self.clock.monotonic_ns()
            for cursor, reading in self.source.readings(resume.warm_cursor):
                took = self.clock.monotonic_ns() - began
                due = pacer.due_ns(reading.capture_time_ns) if cursor > resume.cursor else 0
                if due and self._stop.wait(max(0.0, (due - self.clock.monotonic_ns()) / 1e9)):
                    return
                if not self._put(deliveries, _Delivery(cursor, reading, took, due)):
                    return
                began = self.clock.monotonic_ns()
            self._put(deliveries, _Delivery())
        except Exception as error:  # noqa: BLE001 told by the pipeline's thread
            self._put(deliveries, _Delivery(error=error))

    def _put(self, deliveries: queue.Queue[_Delivery], delivery: _Delivery) -> bool:
        while not self._stop.is_set():
            try:
                deliveries.put(delivery, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False


def _next(deliveries: queue.Queue[_Delivery]) -> _Delivery | None:
    """The next one; None where none comes within a fifth of a second."""
    try:
        return deliveries.get(timeout=0.2)
    except queue.Empty:
        return None
