"""Where recorded evidence comes from: an evidence file, or what an earlier run left in its spool and ledger."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cloud_node.asked import HEADER_KEY
from cloud_node.ledger import LedgerReader, SqliteLedger
from edge_node.spool.copying import (
    Row,
    SpooledItem,
    SpooledSample,
    SpoolNames,
    read_gaps,
    read_names,
    read_samples,
    reading,
)
from fusion.errors import ConfigError, InputError
from fusion.task import Task
from fusion.types import ItemId, ItemState, SampleId
from fusion.wire.lanes import parse_kept
from replay.running.evidence.facts import JOB_NAME
from replay.running.evidence.layout import NAME
from replay.running.evidence.names import check_names
from replay.running.evidence.reading import EvidenceFile
from replay.running.folder import LEDGER_NAME, MANIFEST_NAME, SPOOL_NAME, RunFolder
from replay.running.modes.mode import Mode
from replay.running.plan import Job
from replay.sources.names import check_text

_ANSWERED = {ItemState.REVIEWED.value, ItemState.QUARANTINED.value}


class Recorded(Protocol):
    """Evidence of one recording, as its device decided."""

    @property
    def names(self) -> SpoolNames:
        """Whose it is."""

    def records(self, task: Task) -> Iterator[SpooledSample | Row]:
        """Every sample in order, then every gap; what was sent waits again.

        Raises `FusionError` naming the file, also for classes and conditions that `task` does not have.
        """


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """What a run left in the folder of one recording.

    Its ledger keeps what was submitted, and of what else the device had only what was asked for then.
    """

    folder: Path

    @property
    def names(self) -> SpoolNames:
        """See `Recorded.names`."""
        with reading(self.folder / SPOOL_NAME) as db:
            return read_names(db)

    def records(self, task: Task) -> Iterator[SpooledSample | Row]:
        """See `Recorded.records`."""
        ledger = self.folder / LEDGER_NAME
        if not ledger.exists():
            raise InputError(f"{self.folder}: no ledger with evidence in it; run the recording with --edge-only")
        with (
            reading(self.folder / SPOOL_NAME) as db,
            closing(SqliteLedger.open_reader(ledger, upgrade=True)) as answered,
        ):
            names = read_names(db)
            for sample in read_samples(db):
                for item in sample.items:
                    self._check(task, _id(names, item), item)
                items = (_waiting(names, item, answered) for item in sample.items)
                yield replace(sample, items=tuple(items))
            yield from read_gaps(db)

    def _check(self, task: Task, whose: ItemId, item: SpooledItem) -> None:
        try:
            check_names(task, whose, item.row)
        except InputError as error:
            raise InputError(f"{self.folder}: {error}; give the task it was run with, or run it again") from None


def _waiting(names: SpoolNames, item: SpooledItem, ledger: LedgerReader) -> SpooledItem:
    """An item as it was before a service answered it."""
    row = item.row
    if row["state"] not in _ANSWERED:
        return item
    whose = _id(names, item)
    record = ledger.one(whose, with_evidence=True)
    if record is None and row["state"] == ItemState.QUARANTINED.value:
        return item
    if record is None or record.outcome.evidence is None:
        raise InputError(f"{whose}: the run kept no evidence of it (cloud.keep_evidence); run it with --edge-only")
    outcome = record.outcome
    blob: bytes = record.outcome.evidence
    asked = (outcome.header or {}).get(HEADER_KEY, {})
    submitted = asked.get("submitted_bytes", len(blob))
    note = row["note"] if outcome.state is ItemState.REVIEWED else ""
    was = {"state": ItemState.PENDING.value, "note": note, "verdict": None, "answered_ns": None, "pixels_sent": 0}
    return SpooledItem(row | was, blob[:submitted], outcome.profile, parse_kept(blob[submitted:], whose))


def _id(names: SpoolNames, item: SpooledItem) -> ItemId:
    return ItemId(SampleId(names.device, names.epoch, item.row["sequence"]), item.row["item"])


def open_recorded(job: Job) -> Recorded:
    """The evidence of a job. Raises `FusionError` naming the file."""
    path = Path(job.evidence)
    return RunEvidence(path) if path.is_dir() else EvidenceFile.open(path)


def jobs_of_evidence(sources: Sequence[str], task: str) -> tuple[Job, ...]:
    """A job for each recording that `sources`, evidence files and folders of runs, have evidence of.

    Raises `InputError` for a source that has none, or of another task, or whose name is not UTF-8.
    """
    jobs: dict[str, Job] = {}
    for source in sources:
        check_text(source)
        for job in _jobs(Path(source), task):
            name, number = job.name, 1
            while name in jobs:
                number += 1
                name = f"{job.name}-{number}"
            jobs[name] = replace(job, name=name)
    return tuple(jobs.values())


def _jobs(path: Path, task: str) -> list[Job]:
    if path.is_file():
        head = EvidenceFile.open(path).head
        _check_task(path, head.task, task)
        return [Job(head.name, head.source, head.split, head.from_s, head.to_s, evidence=str(path))]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; give an evidence file or the folder of a run")
    if not (path / MANIFEST_NAME).exists():
        variants = sorted(found.parent.name for found in path.glob(f"*/{MANIFEST_NAME}"))
        told = f"; it holds the variants {', '.join(variants)}: give the folder of one" if variants else ""
        raise InputError(f"{path}: not the folder of a run (no {MANIFEST_NAME}){told}")
    folder = RunFolder(path)
    manifest = folder.manifest()
    _check_task(path, manifest.task, task)
    if manifest.mode == Mode.LIVE:
        raise InputError(f"{path}: a live run's evidence went to its service; run the recordings with --edge-only")
    return [replace(job, evidence=str(_left(folder, job, manifest.mode))) for job in manifest.jobs]


def _left(folder: RunFolder, job: Job, mode: str) -> Path:
    """Where a run of `mode` left a job's evidence. Raises `InputError` when it did not get that far."""
    place = folder.job(job.name)
    needed = place / (NAME if mode == Mode.EDGE_ONLY else LEDGER_NAME)
    if not re.fullmatch(JOB_NAME, job.name) or not needed.is_file():
        raise InputError(f"{needed}: not there; let the run end first")
    if not folder.done(job.name):
        raise InputError(f"{place}: was not run to its end; let the run end first")
    return needed if mode == Mode.EDGE_ONLY else place


def _name(task: str) -> str:
    """The name of a task by name, or by a file that may be gone."""
    try:
        return Task.load(task).name
    except ConfigError:
        return task


def _check_task(path: Path, found: str, wanted: str) -> None:
    if found != wanted and _name(found) != Task.load(wanted).name:
        raise InputError(f"{path}: evidence of task {found}, not {wanted}; give --task {found}")
