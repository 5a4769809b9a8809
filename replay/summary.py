"""`summary.json`: what a run came to, in numbers a program can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cloud_node.ledger import SqliteLedger
from cloud_node.outcome import Outcome
from fusion.evaluation.detection import DetectionLog
from fusion.recording.base import RecordingReader
from fusion.recording.pictures.image_folder import LabelledBox
from fusion.recording.truths import TruthIndex
from fusion.task import Task
from fusion.types import Detection, ItemState, LedgerCounts
from replay.frames import FrameIndex
from replay.gather import SpoolRows, item_results, sample_results, share_right
from replay.player import Played
from replay.results import ItemResult, RunResults, SampleResult
from replay.rivals import rival_bytes

Number: TypeAlias = float | int | str | None
MIN_VISIBILITY = 0.25
MIN_SIDE_PX = 10.0


def gather(
    task: Task,
    recording: Path,
    split: str,
    played: Played,
    open_reader: Callable[[], RecordingReader],
    measured: dict[str, Number],
) -> RunResults:
    """Join both databases with the recording; `measured` are facts only the run itself knows (start time, memory)."""
    rows = SpoolRows.read(played.spool)
    truths = TruthIndex(open_reader().truth())
    samples, items = sample_results(rows, truths), item_results(task, rows, truths)
    ledger = SqliteLedger.open_reader(played.ledger)
    try:
        outcomes = list(ledger.outcomes())
    finally:
        ledger.close()
    edge, cloud = rows.counts(), _cloud_counts(outcomes)
    index = FrameIndex(open_reader(), task)
    summary = _counts(edge, items, outcomes) | _latencies(samples) | _bytes(items, index)
    summary |= _accuracy(items) | {"detector_map50": detector_map50(task, rows, items, truths)}
    summary |= _service(outcomes) | measured
    batches = tuple(outcome.timings.batch_items for outcome in outcomes if outcome.timings.batch_items)
    return RunResults(task, recording, split, samples, items, edge, cloud, summary, batches)


def _cloud_counts(outcomes: Sequence[Outcome]) -> LedgerCounts:
    states = dict.fromkeys(ItemState, 0)
    for outcome in outcomes:
        states[outcome.state] += 1
    return LedgerCounts(len({outcome.item.sample for outcome in outcomes}), 0, states)


def _counts(edge: LedgerCounts, items: Sequence[ItemResult], outcomes: Sequence[Outcome]) -> dict[str, Number]:
    """`lost`: items without an end, or answered on the device and unknown to the service; `duplicates`: rows a
    ledger holds beyond one an id.
    """
    known = {str(outcome.item) for outcome in outcomes}
    open_items = sum(not item.state.final for item in items)
    unknown = sum(item.state is ItemState.REVIEWED and item.id not in known for item in items)
    twice = len(outcomes) - len(known) + len(items) - len({item.id for item in items})
    return {
        "samples": edge.samples,
        "gaps": edge.gaps,
        "items": edge.item_total,
        **{state.value: edge.items.get(state, 0) for state in ItemState if state.final},
        "lost": open_items + unknown,
        "duplicates": twice,
    }


def _latencies(samples: Sequence[SampleResult]) -> dict[str, Number]:
    return {
        "edge_ms_p50": percentile([s.edge_ms for s in samples], 50),
        "edge_ms_p99": percentile([s.edge_ms for s in samples], 99),
        "engine_ms_p50": percentile([s.engine_ms for s in samples], 50),
        "beside_engine_ms_p50": percentile([s.edge_ms - s.engine_ms for s in samples], 50),
        "decode_ms_p50": percentile([s.decode_ms for s in samples], 50),
        "commit_ms_p50": percentile([s.commit_ms for s in samples if s.commit_ms], 50),
    }


def _bytes(items: Sequence[ItemResult], index: FrameIndex) -> dict[str, Number]:
    rivals = rival_bytes(items, index)
    sent = [item for item in items if item.evidence_bytes]
    return {
        "evidence_bytes_p50": percentile([item.evidence_bytes for item in sent], 50),
        "evidence_bytes_p95": percentile([item.evidence_bytes for item in sent], 95),
        "maps_bytes_p50": percentile([item.maps_bytes for item in sent], 50),
        "pixels_sent": sum(item.crop_bytes > 0 for item in sent),
        "jpeg_bytes_p50": percentile(rivals.jpeg, 50),
        "webp_bytes_p50": percentile(rivals.webp, 50),
        "webp_crop_bytes_p50": percentile(rivals.webp_crop, 50),
    }


def _accuracy(items: Sequence[ItemResult]) -> dict[str, Number]:
    """Share of escalated items answered right in every slot, by whom; the same `n` items for all three."""
    reviewed = [item for item in items if item.state is ItemState.REVIEWED and item.truth_answers]
    return {
        "verdict_accuracy_n": len(reviewed),
        "verdict_accuracy": share_right(reviewed, "verdict"),
        "verdict_accuracy_edge_fused": share_right(reviewed, "device_answers"),
        "verdict_accuracy_detector_only": share_right(reviewed, "detector_answers"),
    }


def _service(outcomes: Sequence[Outcome]) -> dict[str, Number]:
    timed = [outcome.timings for outcome in outcomes if outcome.timings.batch_items]
    busy_s = sum(t.review_ns / t.batch_items for t in timed) / 1e9
    batches = sum(1 / t.batch_items for t in timed)
    return {
        "reviews_per_s": round(len(timed) / busy_s, 1) if busy_s else None,
        "review_batch_mean": round(len(timed) / batches, 2) if batches else None,
    }


def detector_map50(task: Task, rows: SpoolRows, items: Sequence[ItemResult], truths: TruthIndex) -> float | None:
    """COCO AP at IoU 0.5 of everything the device's detector told, against truth that can be seen; None without."""
    if not truths:
        return None
    found: dict[int, list[Detection]] = {}
    for item in items:
        detection = Detection(item.box, item.label, item.score, np.zeros(0, np.float32))
        found.setdefault(item.sequence, []).append(detection)
    log = DetectionLog(task.classes)
    for row in rows.samples:
        truth = truths.at(row["time_ns"])
        boxes = []
        for thing in truth.objects if truth else ():
            box = thing.box2d
            if box is None or thing.visibility < MIN_VISIBILITY or thing.label not in task.classes:
                continue
            if min(box.x2 - box.x1, box.y2 - box.y1) >= MIN_SIDE_PX:
                boxes.append(LabelledBox(box, task.classes.index(thing.label)))
        log.add(boxes, found.get(row["sequence"], []))
    return round(log.metrics().map50, 4)


def percentile(values: Sequence[float], wanted: float) -> float | None:
    """A percentile, rounded to a thousandth; None of nothing."""
    return round(float(np.percentile(values, wanted)), 3) if len(values) else None
