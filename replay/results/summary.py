"""`summary.json`: what a run came to, in numbers a program can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from fusion.evaluation.detection import DetectionLog
from fusion.recording.pictures.image_folder import LabelledBox
from fusion.task import Task
from fusion.types import Detection, ItemState, TruthObject
from replay.results.records import Fate, ItemResult, Number, RecordingResults, RunResults, SampleResult
from replay.results.rivals import RivalBytes

MIN_VISIBILITY = 0.25
MIN_SIDE_PX = 10.0


def summarize(
    task: Task,
    recordings: Sequence[RecordingResults],
    pictures: RivalBytes,
    measured: Mapping[str, Number] = MappingProxyType({}),
) -> dict[str, Number]:
    """All figures of a run; `pictures` is what pictures of the sent items weigh, `measured` what only the run knows."""
    run = RunResults(task, tuple(recordings), {})
    summary = _counts(run) | _latencies(run.samples) | _bytes(run.items, pictures)
    summary |= _accuracy(run.items) | _defects(run) | {"detector_map50": detector_map50(task, recordings)}
    return summary | _service(recordings) | dict(measured)


def _counts(run: RunResults) -> dict[str, Number]:
    """`lost`: items without an end, or answered on the device and unknown to the service; `duplicates`: rows a
    ledger holds beyond one an id. What waits because no service was part of the run is not lost.
    """
    edge, items = run.edge_ledger, run.items
    reviews = [review.item for one in run.recordings for review in one.reviews]
    known = set(reviews)
    looked = {one.name for one in run.recordings if one.cloud_ledger}
    open_items = sum(not item.state.final for item in items)
    unknown = sum(
        item.state is ItemState.REVIEWED and item.recording in looked and item.id not in known for item in items
    )
    twice = len(reviews) - len(known) + len(items) - len({item.id for item in items})
    return {
        "recordings": len(run.recordings),
        "damaged": sum(bool(one.damage) for one in run.recordings),
        "seconds": round(sum(one.seconds for one in run.recordings), 3),
        "samples": edge.samples,
        "gaps": edge.gaps,
        "items": edge.item_total,
        **{state.value: edge.items.get(state, 0) for state in ItemState if state.final},
        "waiting": open_items,
        "lost": open_items - run.waiting + unknown,
        "duplicates": twice,
    }


def _defects(run: RunResults) -> dict[str, Number]:
    """How the true defects fared; None where no recording tells any. One that waits for a review is not missed yet."""
    if not any(sample.truths is not None for sample in run.samples):
        return dict.fromkeys(
            ("defects", "defects_missed", "defects_dismissed", "defects_waiting", "defects_missed_share")
        )
    fates = Counter(defect.fate for defect in run.defects)
    total, missed = fates.total(), sum(defect.fate.missed for defect in run.defects)
    return {
        "defects": total,
        "defects_missed": missed,
        "defects_dismissed": fates[Fate.DISMISSED],
        "defects_waiting": fates[Fate.SENT],
        "defects_missed_share": round(missed / total, 4) if total else None,
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


def _bytes(items: Sequence[ItemResult], rivals: RivalBytes) -> dict[str, Number]:
    sent = [item for item in items if item.evidence_bytes]
    return {
        "evidence_bytes_p50": percentile([item.evidence_bytes for item in sent], 50),
        "evidence_bytes_p95": percentile([item.evidence_bytes for item in sent], 95),
        "evidence_bytes_total": sum(item.evidence_bytes for item in sent),
        "maps_bytes_p50": percentile([item.maps_bytes for item in sent], 50),
        "pixels_sent": sum(item.crop_bytes > 0 for item in sent),
        "jpeg_bytes_p50": percentile(rivals.jpeg, 50),
        "webp_bytes_p50": percentile(rivals.webp, 50),
        "webp_crop_bytes_p50": percentile(rivals.webp_crop, 50),
    }


def right(answers: Mapping[str, str], truth: Mapping[str, str]) -> bool:
    """Whether every slot is answered as the truth says."""
    return bool(truth) and all(answers.get(name) == option for name, option in truth.items())


def share_right(items: Sequence[ItemResult], answers: str) -> float | None:
    """Share of items whose `verdict`, `device_answers` or `detector_answers` are right in every slot; None of none."""
    judged = [item for item in items if item.truth_answers]
    if not judged:
        return None
    if answers == "verdict":
        given = [{name: slot.option for name, slot in item.verdict.items()} for item in judged]
    else:
        given = [getattr(item, answers) for item in judged]
    if not any(given):
        return None
    return sum(right(one, item.truth_answers) for one, item in zip(given, judged, strict=True)) / len(judged)


def _accuracy(items: Sequence[ItemResult]) -> dict[str, Number]:
    """Share of escalated items answered right in every slot, by whom; the same `n` items for all three."""
    reviewed = [item for item in items if item.state is ItemState.REVIEWED and item.truth_answers]
    return {
        "verdict_accuracy_n": len(reviewed),
        "verdict_accuracy": share_right(reviewed, "verdict"),
        "verdict_accuracy_edge_fused": share_right(reviewed, "device_answers"),
        "verdict_accuracy_detector_only": share_right(reviewed, "detector_answers"),
    }


def _service(recordings: Sequence[RecordingResults]) -> dict[str, Number]:
    timed = [review for one in recordings for review in one.reviews if review.batch_items]
    busy_s = sum(review.batch_ms / review.batch_items for review in timed) / 1e3
    batches = sum(1 / review.batch_items for review in timed)
    return {
        "reviews_per_s": round(len(timed) / busy_s, 1) if busy_s else None,
        "review_batch_mean": round(len(timed) / batches, 2) if batches else None,
    }


def detector_map50(task: Task, recordings: Sequence[RecordingResults]) -> float | None:
    """COCO AP at IoU 0.5 of everything the device's detector told, against truth that can be seen.

    None where the truth tells of none of the task's classes.
    """
    log, judged = DetectionLog(task.classes), False
    for one in recordings:
        found: dict[int, list[Detection]] = {}
        for item in one.items:
            detection = Detection(item.box, item.label, item.score, np.zeros(0, np.float32))
            found.setdefault(item.sequence, []).append(detection)
        judged |= any(thing.label in task.classes for sample in one.samples for thing in sample.truths or ())
        for sample in (sample for sample in one.samples if sample.truths is not None):
            log.add(_true_boxes(task, sample), found.get(sample.sequence, []))
    return round(log.metrics().map50, 4) if judged else None


def _true_boxes(task: Task, sample: SampleResult) -> list[LabelledBox]:
    return [
        LabelledBox(thing.box2d, task.classes.index(thing.label))
        for thing in sample.truths or ()
        if thing.box2d is not None and counts_as_seen(task, thing)
    ]


def counts_as_seen(task: Task, thing: TruthObject) -> bool:
    """Whether the detector is judged by this object: of a class of the task, in sight, and no speck."""
    box = thing.box2d
    big = box is not None and min(box.x2 - box.x1, box.y2 - box.y1) >= MIN_SIDE_PX
    return big and thing.visibility >= MIN_VISIBILITY and thing.label in task.classes


def percentile(values: Sequence[float], wanted: float) -> float | None:
    """A percentile, rounded to a thousandth; None of nothing."""
    return round(float(np.percentile(values, wanted)), 3) if len(values) else None
