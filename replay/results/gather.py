"""Joins what a run left in the spool and the ledger with the recording's truth."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from sys import intern

import numpy as np

from cloud_node.ledger import SqliteLedger, undamaged
from cloud_node.outcome import Outcome
from edge_node.screener import least_margin
from fusion.errors import ConfigError, SpoolError
from fusion.evaluation.answers import detector_answers, device_answers
from fusion.recording.base import RecordingInfo, RecordingReader
from fusion.recording.truths import TruthIndex
from fusion.review.answers import match_truth, truth_answers
from fusion.task import Task
from fusion.types import (
    Box2D,
    Box3D,
    Detection,
    DeviceOpinion,
    FusedObject,
    ItemState,
    LedgerCounts,
    SlotAnswer,
    Truth,
    TruthObject,
)
from replay.results.fates import defects
from replay.results.records import ItemResult, RecordingResults, Review, SampleResult

_MS = 1e-6
_PLACE = re.compile(r" at position \d+$")


@contextmanager
def open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """A node's database, read only. Raises `SpoolError` naming the file."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            yield db
    except sqlite3.Error as error:
        raise SpoolError(f"{path}: cannot be read ({error}); run the recording first") from None


@dataclass(slots=True)
class SpoolRows:
    """What one open spool holds, still without truth, a row at a time."""

    device: str
    epoch: str
    _db: sqlite3.Connection

    @classmethod
    def of(cls, db: sqlite3.Connection) -> SpoolRows:
        """The spool in `db`."""
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        db.row_factory = sqlite3.Row
        return cls(meta["device"], meta["epoch"], db)

    def samples(self) -> Iterator[sqlite3.Row]:
        """Every sample, in order."""
        return iter(self._db.execute("SELECT * FROM samples ORDER BY sequence"))

    def items(self) -> Iterator[sqlite3.Row]:
        """Every item, in order, with its sample's time and placement."""
        query = (
            "SELECT items.*, time_ns, scale, dx, dy FROM items JOIN samples USING (sequence) ORDER BY sequence, item"
        )
        return iter(self._db.execute(query))

    def counts(self) -> LedgerCounts:
        """The device's ledger, counted from its rows."""
        states = dict.fromkeys(ItemState, 0)
        for state, number in self._db.execute("SELECT state, count(*) FROM items GROUP BY state"):
            states[ItemState(state)] = number
        samples, gaps = self._db.execute(
            "SELECT (SELECT count(*) FROM samples), (SELECT coalesce(sum(count), 0) FROM gaps)"
        ).fetchone()
        return LedgerCounts(samples, gaps, states)

    def gap_reasons(self) -> dict[str, int]:
        """How many samples were declared a gap for each reason, the most common first."""
        found: Counter[str] = Counter()
        for reason, count in self._db.execute("SELECT reason, count FROM gaps ORDER BY id"):
            found[_PLACE.sub("", reason)] += count
        return dict(found.most_common())


class Shared:
    """Gives equal values as one object: millions of items have a few hundred different answers."""

    def __init__(self) -> None:
        self._answers: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._words: dict[tuple[str, ...], tuple[str, ...]] = {}

    def answers(self, found: dict[str, str]) -> Mapping[str, str]:
        """A mapping that is not changed any more."""
        return self._answers.setdefault(tuple(found.items()), found)

    def words(self, found: tuple[str, ...]) -> tuple[str, ...]:
        """A tuple of words."""
        return self._words.setdefault(found, found)


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
        for row in rows.samples()
    )


def item_results(task: Task, rows: SpoolRows, truths: TruthIndex, recording: str = "") -> tuple[ItemResult, ...]:
    """The spool's items as results, each with the truth its box overlaps best.

    Judged by nothing is an item on something of a class that the task does not have (`dontcare`, for one), one of a
    moment of which the recording tells nothing, and all where the truth does not say what is where in the picture.
    """
    shared, boxed = Shared(), truths.boxed
    return tuple(_item(task, rows, row, truths, recording, shared, boxed=boxed) for row in rows.items())


def _item(
    task: Task, rows: SpoolRows, row: sqlite3.Row, truths: TruthIndex, recording: str, shared: Shared, *, boxed: bool
) -> ItemResult:
    scale, dx, dy = row["scale"], row["dx"], row["dy"]
    box = Box2D((row["x1"] - dx) / scale, (row["y1"] - dy) / scale, (row["x2"] - dx) / scale, (row["y2"] - dy) / scale)
    opinion, scores = read_opinion(row["opinion"]), json.loads(row["scores"])
    told = truths.at(row["time_ns"])
    truth = _truth(box, told)
    judged = boxed and told is not None and (truth is None or truth.label in task.classes)
    verdict = json.loads(row["verdict"]) if row["verdict"] else {}
    answered, whose = row["answered_ns"], f"{rows.device}/{rows.epoch}/{row['sequence']}#{row['item']}"
    return ItemResult(
        id=whose,
        sequence=row["sequence"],
        time_ns=row["time_ns"],
        track=row["track"],
        box=box,
        label=intern(row["label"]),
        score=row["score"],
        state=ItemState(row["state"]),
        reasons=shared.words(tuple(filter(None, row["reasons"].split(",")))),
        into=row["into_item"] or "",
        state_reason=intern(row["note"]),
        evidence_bytes=row["evidence_bytes"],
        maps_bytes=row["maps_bytes"],
        crop_bytes=row["crop_bytes"] if row["pixels_sent"] else 0,
        lanes=shared.words(tuple(verdict.get("lanes", ()))),
        uncertain=bool(verdict.get("uncertain", False)),
        verdict={
            intern(name): SlotAnswer(answer["option"], {intern(key): p for key, p in answer["probabilities"].items()})
            for name, answer in verdict.get("slots", {}).items()
        },
        verdict_latency_ms=(answered - row["decided_ns"]) * _MS if answered and verdict else 0.0,
        device_answers=shared.answers(device_answers(task, opinion)),
        detector_answers=shared.answers(_detector_answers(task, scores)),
        truth_answers=shared.answers(_truth_answers(task, whose, truth) if judged else {}),
        truth=truth,
        recording=recording,
        tokens_bytes=row["tokens_bytes"],
        margin=round(_margin(box, row, scores["class"], opinion), 5),
        box3d=opinion.box3d,
    )


def _truth_answers(task: Task, whose: str, truth: TruthObject | None) -> dict[str, str]:
    try:
        return truth_answers(task, truth)
    except ConfigError as error:
        raise ConfigError(f"item {whose}: {error}") from None


def _margin(box: Box2D, row: sqlite3.Row, scores: Mapping[str, float], opinion: DeviceOpinion) -> float:
    detection = Detection(box, row["label"], row["score"], np.array(list(scores.values()), np.float32))
    asked = opinion.asked_score or 0.0
    fused = FusedObject(np.zeros(0, np.float32), dict(opinion.label_scores), dict(opinion.condition_scores), asked)
    return least_margin(detection, fused)


def _detector_answers(task: Task, scores: dict[str, dict[str, float]]) -> dict[str, str]:
    return detector_answers(task, scores["class"], condition_scores=scores["condition"], threshold=0.25)


def read_opinion(text: str) -> DeviceOpinion:
    """A device's opinion from the spool's JSON."""
    found = json.loads(text) if text else {}
    box3d = Box3D(**found["box3d"]) if found.get("box3d") else None
    return DeviceOpinion(found.get("label", {}), found.get("condition", {}), found.get("asked"), box3d)


def _truth(box: Box2D, told: Truth | None) -> TruthObject | None:
    if told is None:
        return None
    return match_truth(box, [(thing.box2d, thing) for thing in told.objects if thing.box2d])


@dataclass(frozen=True, slots=True)
class Source:
    """What was run: the recording's name in the run, where it is from, and which stretch of it.

    `lossy` says that frames of the recording may be neither samples nor gaps.
    """

    name: str
    path: str
    split: str = ""
    from_s: float = 0.0
    to_s: float | None = None
    lossy: bool = False


def gather(
    task: Task, source: Source, spool: Path, ledger: Path | None, reader: RecordingReader, *, reviewed: bool = True
) -> RecordingResults:
    """One recording's results from both databases; without a `ledger` the service's books are another's.

    `reviewed` is False where no service was part of the run. Raises `FusionError` naming the file that cannot be read.
    """
    info, truths = reader.info(), TruthIndex(reader.truth())
    with open_database(spool) as db:
        rows = SpoolRows.of(db)
        samples, items = sample_results(rows, truths), _judged(task, rows, truths, source, info)
        counts, gaps = rows.counts(), rows.gap_reasons()
    reviews, books = _books(ledger) if ledger else ((), None)
    whole = source.from_s == 0 and source.to_s is None
    return RecordingResults(
        name=source.name, source=source.path, split=source.split, from_s=source.from_s, to_s=source.to_s,
        samples=samples, items=items,
        defects=defects(
            task, source.name, samples, items, continuous=info.continuous,
            passed_over=_passed_over(samples, truths, reader, whole=whole) if counts.gaps or source.lossy else [],
            reviewed=reviewed,
        ),
        edge_ledger=counts, cloud_ledger=books, reviews=reviews, damage=info.damage, continuous=info.continuous,
        reviewed=reviewed, gap_reasons=gaps, ages_ms=median_ages(samples),
    )  # fmt: skip


def _judged(
    task: Task, rows: SpoolRows, truths: TruthIndex, source: Source, info: RecordingInfo
) -> tuple[ItemResult, ...]:
    try:
        return item_results(task, rows, truths, source.name)
    except ConfigError as error:
        raise ConfigError(f"{info.path}: {error}; give the task that it is of with --task") from None


def median_ages(samples: Sequence[SampleResult]) -> dict[str, float | None]:
    """How old each sensor's readings were, in milliseconds; None for one that most samples were without."""
    ages: dict[str, list[float]] = {}
    for sample in samples:
        for name, age in sample.ages_ms.items():
            ages.setdefault(name, []).append(age)
    most = len(samples) / 2
    return {name: round(median(found), 3) if len(found) > most else None for name, found in sorted(ages.items())}


def _passed_over(
    samples: Sequence[SampleResult], truths: TruthIndex, reader: RecordingReader, *, whole: bool
) -> list[Truth]:
    """The truth of moments that no sample shows; of a stretch those within it."""
    times = [sample.time_ns for sample in samples]
    shown = {truth.time_ns for time_ns in times if (truth := truths.at(time_ns))}
    return [
        truth
        for truth in (reader.truth() if times else ())
        if truth.time_ns not in shown and (whole or times[0] < truth.time_ns < times[-1])
    ]


def _books(path: Path) -> tuple[tuple[Review, ...], LedgerCounts]:
    """The service's reviews, and what its ledger adds up to; rows are read one at a time."""
    states, samples, reviews = dict.fromkeys(ItemState, 0), set(), []
    ledger = SqliteLedger.open_reader(path, upgrade=True)
    try:
        for outcome in undamaged(ledger.outcomes()):
            states[outcome.state] += 1
            samples.add(outcome.item.sample)
            reviews.append(_review(outcome))
    finally:
        ledger.close()
    return tuple(reviews), LedgerCounts(len(samples), 0, states)


def _review(outcome: Outcome) -> Review:
    return Review(str(outcome.item), outcome.timings.batch_items, outcome.timings.review_ns * _MS)
