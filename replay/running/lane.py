"""One recording under one variant: the device's pipeline and spool, and the service its evidence goes to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from edge_node.calibration.file import calibrated
from edge_node.pipeline import Pipeline, Stages
from edge_node.screener import Screener
from edge_node.spool import Record, SampleRecord, Spool
from edge_node.tracker import Tracker
from fusion.errors import InputError
from fusion.geometry import Rig
from fusion.synchronization import Synchronizer
from fusion.task import Task
from fusion.types import Reading
from replay.running.plan import Job, Prepared
from replay.running.sharing import LaneClock, LanePerception, SharedModels
from replay.whatif.power import TimedPower
from replay.whatif.timing import VirtualTime

COMMIT_EVERY = 32
"""Samples that share one commit."""


class Delivery(Protocol):
    """What becomes of the evidence in a lane's spool."""

    def advance(self, now_ns: int) -> None:
        """Everything up to recorded time `now_ns` is committed."""

    def finish(self) -> None:
        """The recording is over."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What a lane must know of the recording: what ids hang on, whether frames follow each other, where sensors sit."""

    content: str
    continuous: bool
    rig: Rig | None


class Lane:
    """Feed it the readings of one recording, in order. `deliver` makes what takes evidence out of its spool.

    With `time` every sample is committed at its own moment of virtual time; `power` holds frames back.
    """

    def __init__(
        self,
        task: Task,
        job: Job,
        prepared: Prepared,
        heard: Heard,
        models: SharedModels,
        spool: Path,
        deliver: Callable[[Spool], Delivery],
        time: VirtualTime | None = None,
        power: TimedPower | None = None,
    ) -> None:
        self.prepared = prepared
        self._time, self._power = time, power
        self._clock = LaneClock()
        perception = LanePerception(models, prepared.edge.evidence, self._clock)
        edge = calibrated(prepared.edge, task, perception.models)
        tracking = edge.tracker.tracks(continuous=heard.continuous)
        stages = Stages(
            Synchronizer.of_task(task, edge.synchronizer),
            perception,
            Tracker(edge.tracker, enabled=tracking),
            Screener(edge.screening, tracking=tracking),
        )
        remove_database(spool)
        self._spool = Spool.open(
            spool, edge.device, task.name, settings=edge.spool, clock=time.clock if time else self._clock,
            epoch=epoch_of(heard.content, job),
        )  # fmt: skip
        self._spool.note_audit_rate(edge.screening.audit_rate)
        self._records: list[Record] = []
        self._pipeline = Pipeline(
            stages, self._spool.resume(heard.content, edge.source.run), self._store, self._clock,
            device=edge.device, epoch=self._spool.epoch, sequence=self._spool.next_sequence, rig=heard.rig,
        )  # fmt: skip
        self._delivery = deliver(self._spool)

    def feed(self, cursor: int, reading: Reading, source_ns: int) -> None:
        """See `Pipeline.feed`."""
        if self._power and (why := self._power.hold(reading)):
            self._pipeline.skip(cursor, reading, why)
        else:
            self._pipeline.feed(cursor, reading, source_ns)

    def finish(self) -> None:
        """Nothing more comes: screen what still waits, and deliver everything."""
        self._pipeline.finish()
        self._commit()
        self._delivery.finish()

    def close(self) -> None:
        """Close the spool."""
        self._spool.close()

    def _store(self, record: Record) -> None:
        if self._power:
            self._power.observe(record)
        if self._time and isinstance(record, SampleRecord):
            self._time.reach(record.time_ns)
            record = replace(record, handed_ns=0)  # of the host's clock, which the spool does not go by
        self._records.append(record)
        if self._time or len(self._records) >= COMMIT_EVERY:
            self._commit()

    def _commit(self) -> None:
        if not self._records:
            return
        self._spool.commit(self._records)
        times = [record.time_ns for record in self._records if isinstance(record, SampleRecord)]
        self._records.clear()
        if times:
            self._delivery.advance(times[-1])


def epoch_of(content: str, job: Job) -> str:
    """A fixed epoch for a fixed stretch of a recording, so that a rerun has the same ids; daemons draw theirs."""
    stretch = "" if job.from_s == 0 and job.to_s is None else f":{job.from_s}:{job.to_s}"
    return hashlib.sha256(f"replay:{content}{stretch}".encode()).hexdigest()[:16]


def remove_database(path: Path) -> None:
    """Take away an earlier run's database, with its log."""
    try:
        for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            name.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: an earlier run's file cannot be removed ({error.strerror})") from None
