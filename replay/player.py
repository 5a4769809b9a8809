"""Both nodes' own code on one recording, in one process and one thread.

Nothing waits and nothing is dropped: the pipeline stores into a spool, the spool's outbox goes straight to the
service's lookup, batches, reviews and ledger. The clock that durations are measured with is real; what is decided
does not depend on it, so the same recording on the same machine gives the same decisions and verdicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cloud_node.config import CloudSettings
from cloud_node.direct import DirectService
from cloud_node.ledger import SqliteLedger
from edge_node.calibration.file import calibrated
from edge_node.config import EdgeSettings
from edge_node.models import camera_of, load_perception, model_folder
from edge_node.perception import Perception
from edge_node.pipeline import Pipeline, Stages
from edge_node.screener import Screener
from edge_node.sources import Source, open_source
from edge_node.spool import Record, Spool
from edge_node.tracker import Tracker
from edge_node.uplink.answers import verdict_json
from fusion.clock import Clock, ManualClock, SystemClock
from fusion.errors import InputError
from fusion.review import Reviewer, load_reviewer
from fusion.synchronization import Synchronizer
from fusion.task import Task
from fusion.types import Reading, Verdict
from fusion.wire.messages import Submission

COMMIT_EVERY = 32
"""Samples that share one commit."""
REVIEW_TOGETHER = 64
"""Items handed to the service at once."""
SPOOL_NAME, LEDGER_NAME = "spool.db", "ledger.db"


@dataclass(frozen=True, slots=True)
class Played:
    """What a run left behind."""

    spool: Path
    ledger: Path


def play(edge: EdgeSettings, cloud: CloudSettings, out: Path) -> Played:
    """Run `edge.source` through the device and `cloud`'s reviewers; both databases are written anew under `out`.

    Raises `FusionError` naming the key or file that is wrong.
    """
    task = Task.load(edge.task)
    source = open_source(edge.source, task)
    reference = Synchronizer.of_task(task, edge.synchronizer).reference
    camera, folder = camera_of(task, reference), model_folder(task, edge.models)
    perception = load_perception(task, camera, folder, edge.engine, edge.evidence)
    edge = calibrated(edge, task, perception.models)
    reviewers = [load_reviewer(name) for name in cloud.reviewers]
    out.mkdir(parents=True, exist_ok=True)
    played = Played(out / SPOOL_NAME, out / LEDGER_NAME)
    for path in (played.spool, played.ledger):
        remove_database(path)
    spool = Spool.open(
        played.spool, edge.device, task.name, settings=edge.spool, clock=SystemClock(), epoch=_epoch(source)
    )
    try:
        _screen(task, source, perception, spool, edge)
        _review(spool, reviewers, played.ledger, cloud)
    finally:
        spool.close()
    return played


def _epoch(source: Source) -> str:
    """A fixed epoch for a fixed recording, so that a rerun has the same ids; daemons draw theirs at random."""
    return hashlib.sha256(f"replay:{source.content}".encode()).hexdigest()[:16]


def _screen(task: Task, source: Source, perception: Perception, spool: Spool, edge: EdgeSettings) -> None:
    records: list[Record] = []

    def store(record: Record) -> None:
        records.append(record)
        if len(records) >= COMMIT_EVERY:
            spool.commit(records)
            records.clear()

    tracking = edge.tracker.tracks(continuous=source.continuous)
    stages = Stages(
        Synchronizer.of_task(task, edge.synchronizer),
        perception,
        Tracker(edge.tracker, enabled=tracking),
        Screener(edge.screening, tracking=tracking),
    )
    resume = spool.resume(source.content, edge.source.run)
    clock: Clock = SystemClock()
    pipeline = Pipeline(
        stages, resume, store, clock,
        device=edge.device, epoch=spool.epoch, sequence=spool.next_sequence, rig=source.rig,
    )  # fmt: skip
    for cursor, reading, source_ns in _timed(source, clock):
        pipeline.feed(cursor, reading, source_ns)
    pipeline.finish()
    if records:
        spool.commit(records)


def _timed(source: Source, clock: Clock) -> Iterator[tuple[int, Reading, int]]:
    """Readings with what reading and decoding each took, in nanoseconds."""
    readings = tqdm(source.readings(0), desc="screen", unit="reading")
    began = clock.monotonic_ns()
    for cursor, reading in readings:
        yield cursor, reading, clock.monotonic_ns() - began
        began = clock.monotonic_ns()


def _review(spool: Spool, reviewers: Sequence[Reviewer], path: Path, cloud: CloudSettings) -> None:
    ledger = SqliteLedger.open(path, keep_evidence=cloud.keep_evidence)
    try:
        service = DirectService(reviewers, ledger, cloud, ManualClock())
        with tqdm(total=spool.waiting(), desc="review", unit="item") as progress:
            while rows := spool.pending(0, REVIEW_TOGETHER):
                outcomes = service.review([Submission(row.item, row.evidence) for row in rows], spool.kept)
                with spool.transaction():
                    for outcome in outcomes:
                        verdict = outcome.message()
                        text = verdict_json(verdict) if isinstance(verdict, Verdict) else None
                        spool.answer(outcome.item, outcome.state, text, outcome.reason)
                progress.update(len(rows))
    finally:
        ledger.close()


def remove_database(path: Path) -> None:
    """Take away an earlier run's database, with its log."""
    try:
        for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            name.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: an earlier run's file cannot be removed ({error.strerror})") from None
