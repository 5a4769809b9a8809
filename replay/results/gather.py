"""Joins what a run left in the spool and the ledger with the recording's truth."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cloud_node.ledger import SqliteLedger
from cloud_node.outcome import Outcome
from fusion.errors import SpoolError
from fusion.evaluation.answers import detector_answers, device_answers
from fusion.recording.base import RecordingReader
from fusion.recording.truths import TruthIndex
from fusion.review.answers import match_truth, truth_answers
from fusion.task import Task
from fusion.types import Box2D, DeviceOpinion, ItemState, LedgerCounts, SlotAnswer, Truth, TruthObject
from replay.results.fates import defects
from replay.results.records import ItemResult, RecordingResults, Review, SampleResult

_MS = 1e-6
_PLACE = re.compile(r" at position \d+$")


@contextmanager
def open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """A node's database, read only. Raises `SpoolError` naming the file."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            yield db
    except sqlite3.Error as error:
        raise SpoolError(f"{path}: cannot be read ({error}); run the recording first") from None


@dataclass(frozen=True, slots=True)
class SpoolRows:
    """What one spool holds, still without truth."""

    samples: list[dict[str, Any]]
    items: list[dict[str, Any]]
    gaps: list[dict[str, Any]]
    device: str
    epoch: str

    @classmethod
    def read(cls, path: Path) -> SpoolRows:
        """Every sample, item and gap of the spool at `path`, in order."""
        with open_database(path) as db:
            db.row_factory = sqlite3.Row
            meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
            samples = [dict(row) for row in db.execute("SELECT * FROM samples ORDER BY sequence")]
            items = [dict(row) for row in db.execute("SELECT * FROM items ORDER BY sequence, item")]
            gaps = [dict(row) for row in db.execute("SELECT * FROM gaps ORDER BY id")]
        return cls(samples, items, gaps, meta["device"], meta["epoch"])

    def counts(self) -> LedgerCounts:
        """The device's ledger, counted from its rows."""
        states = dict.fromkeys(ItemState, 0)
        for item in self.items:
            states[ItemState(item["state"])] += 1
        return LedgerCounts(len(self.samples), sum(gap["count"] for gap in self.gaps), states)

    def gap_reasons(self) -> dict[str, int]:
        """How many samples were declared a gap for each reason, the most common first."""
        found: Counter[str] = Counter()
        for gap in self.gaps:
            found[_PLACE.sub("", gap["reason"])] += gap["count"]
        return dict(found.most_common())


def sample_results(rows: SpoolRows, truths: TruthIndex) -> tuple[SampleResult, ...]:
    """The spool's samples as results."""
    return tuple(
        SampleResult(
            sequence=row["sequence"],
            cursor=row["cursor"],
            time_ns=row["time_ns"],
            edge_ms=row["edge_ns"] * _MS,
            engine_ms=row["engine_ns"] * _MS,
            commit_ms=(row["commit_ns"] or 0) * _MS,
            decode_ms=row["source_ns"] * _MS,
            ages_ms={name: age * _MS for name, (state, age) in json.loads(row["slots"]).items() if state != "absent"},
            intent=truths.intent(row["time_ns"]),
            truths=told.objects if (told := truths.at(row["time_ns"])) else None,
        )
        for row in rows.samples
    )


def item_results(task: Task, rows: SpoolRows, truths: TruthIndex, recording: str = "") -> tuple[ItemResult, ...]:
    """The spool's items as results, each with the truth its box overlaps best.

    Judged by nothing is an item on something of a class that the task does not have (`dontcare`, for one), one of a
    moment of which the recording tells nothing, and all where the truth does not say what is where in the picture.
    """
    samples, boxed = {row["sequence"]: row for row in rows.samples}, truths.boxed
    made = (_item(task, rows, row, samples[row["sequence"]], truths, boxed=boxed) for row in rows.items)
    return tuple(replace(item, recording=recording) for item in made)


def _item(
    task: Task, rows: SpoolRows, row: Mapping[str, Any], sample: Mapping[str, Any], truths: TruthIndex, *, boxed: bool
) -> ItemResult:
    scale, dx, dy = sample["scale"], sample["dx"], sample["dy"]
    box = Box2D((row["x1"] - dx) / scale, (row["y1"] - dy) / scale, (row["x2"] - dx) / scale, (row["y2"] - dy) / scale)
    opinion = read_opinion(row["opinion"])
    told = truths.at(sample["time_ns"])
    truth = _truth(box, told)
    judged = boxed and told is not None and (truth is None or truth.label in task.classes)
    verdict = json.loads(row["verdict"]) if row["verdict"] else {}
    answered = row["answered_ns"]
    return ItemResult(
        id=f"{rows.device}/{rows.epoch}/{row['sequence']}#{row['item']}",
        sequence=row["sequence"],
        time_ns=sample["time_ns"],
        track=row["track"],
        box=box,
        label=row["label"],
        score=row["score"],
        state=ItemState(row["state"]),
        reasons=tuple(filter(None, row["reasons"].split(","))),
        into=row["into_item"] or "",
        state_reason=row["note"],
        evidence_bytes=row["evidence_bytes"],
        maps_bytes=row["maps_bytes"],
        crop_bytes=row["crop_bytes"] if row["pixels_sent"] else 0,
        lanes=tuple(verdict.get("lanes", ())),
        uncertain=bool(verdict.get("uncertain", False)),
        verdict={
            name: SlotAnswer(answer["option"], answer["probabilities"])
            for name, answer in verdict.get("slots", {}).items()
        },
        verdict_latency_ms=(answered - row["decided_ns"]) * _MS if answered and verdict else 0.0,
        device_answers=device_answers(task, opinion),
        detector_answers=_detector_answers(task, json.loads(row["scores"])),
        truth_answers=truth_answers(task, truth) if judged else {},
        truth=truth,
    )


def _detector_answers(task: Task, scores: dict[str, dict[str, float]]) -> dict[str, str]:
    return detector_answers(task, scores["class"], condition_scores=scores["condition"], threshold=0.25)


def read_opinion(text: str) -> DeviceOpinion:
    """A device's opinion from the spool's JSON; its 3-D box is not needed here."""
    found = json.loads(text) if text else {}
    return DeviceOpinion(found.get("label", {}), found.get("condition", {}), found.get("asked"), None)


def _truth(box: Box2D, told: Truth | None) -> TruthObject | None:
    if told is None:
        return None
    return match_truth(box, [(thing.box2d, thing) for thing in told.objects if thing.box2d])


@dataclass(frozen=True, slots=True)
class Source:
    """What was run: the recording's name in the run, where it is from, and which stretch of it."""

    name: str
    path: str
    split: str = ""
    from_s: float = 0.0
    to_s: float | None = None


def gather(task: Task, source: Source, spool: Path, ledger: Path | None, reader: RecordingReader) -> RecordingResults:
    """One recording's results from both databases; without a `ledger` the service's books are another's.

    Raises `FusionError` naming the file that cannot be read.
    """
    rows, info = SpoolRows.read(spool), reader.info()
    truths = TruthIndex(reader.truth())
    samples, items = sample_results(rows, truths), item_results(task, rows, truths, source.name)
    outcomes = _outcomes(ledger) if ledger else []
    return RecordingResults(
        name=source.name, source=source.path, split=source.split, from_s=source.from_s, to_s=source.to_s,
        samples=samples, items=items,
        defects=defects(task, source.name, samples, items, continuous=info.continuous),
        edge_ledger=rows.counts(), cloud_ledger=_cloud_counts(outcomes) if ledger else None,
        reviews=tuple(map(_review, outcomes)), damage=info.damage, continuous=info.continuous,
        gap_reasons=rows.gap_reasons(),
    )  # fmt: skip


def _outcomes(path: Path) -> list[Outcome]:
    ledger = SqliteLedger.open_reader(path)
    try:
        return list(ledger.outcomes())
    finally:
        ledger.close()


def _cloud_counts(outcomes: Sequence[Outcome]) -> LedgerCounts:
    states = dict.fromkeys(ItemState, 0)
    for outcome in outcomes:
        states[outcome.state] += 1
    return LedgerCounts(len({outcome.item.sample for outcome in outcomes}), 0, states)


def _review(outcome: Outcome) -> Review:
    return Review(str(outcome.item), outcome.timings.batch_items, outcome.timings.review_ns * _MS)
