"""A run's rows, table by table, made one at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from fusion.types import Box3D
from replay.export.base import EPOCH_NS
from replay.results.answers import outcome
from replay.results.records import ItemResult, RecordingResults, RunResults

Row: TypeAlias = dict[str, Any]


def recordings(results: RunResults) -> Iterator[Row]:
    """One a recording."""
    for one in results.recordings:
        yield {
            "recording": one.name,
            "source": one.source,
            "split": one.split,
            "from_s": one.from_s,
            "to_s": one.to_s,
            "seconds": one.seconds,
            "samples": one.edge_ledger.samples,
            "gaps": one.edge_ledger.gaps,
            "items": {state.value: count for state, count in one.edge_ledger.items.items()},
            "continuous": one.continuous,
            "damage": one.damage,
        }


def samples(results: RunResults) -> Iterator[Row]:
    """One a sample."""
    for one in results.recordings:
        items = _by_sequence(one)
        for sample in one.samples:
            found = items.get(sample.sequence, ())
            yield {
                "recording": one.name,
                "sequence": sample.sequence,
                "cursor": sample.cursor,
                **_moment(sample.time_ns),
                "edge_ms": sample.edge_ms,
                "engine_ms": sample.engine_ms,
                "commit_ms": sample.commit_ms,
                "decode_ms": sample.decode_ms,
                "ages_ms": dict(sample.ages_ms),
                "intent": sample.intent,
                "objects": None if sample.truths is None else len(sample.truths),
                "items": len(found),
                "sent": sum(item.evidence_bytes > 0 for item in found),
                "evidence_bytes": sum(item.evidence_bytes for item in found),
            }


def items(results: RunResults) -> Iterator[Row]:
    """One an item."""
    for item in results.items:
        truth = item.truth
        yield {
            **_of(item),
            "track": item.track,
            "x1": item.box.x1,
            "y1": item.box.y1,
            "x2": item.box.x2,
            "y2": item.box.y2,
            **_solid(item.box3d),
            "label": item.label,
            "score": item.score,
            "state": item.state.value,
            "reasons": list(item.reasons),
            "into": item.into,
            "note": item.state_reason,
            "evidence_bytes": item.evidence_bytes,
            "lanes": list(item.lanes),
            "uncertain": item.uncertain,
            "verdict_latency_ms": item.verdict_latency_ms if item.verdict else None,
            "device": dict(item.device_answers),
            "detector": dict(item.detector_answers),
            "truth": dict(item.truth_answers),
            "truth_label": truth.label if truth else None,
            "truth_condition": truth.condition if truth else None,
            "truth_track": truth.track if truth else None,
            "outcome": outcome(item).value,
        }


def verdicts(results: RunResults) -> Iterator[Row]:
    """One a slot of each reviewed item."""
    for item in results.items:
        for slot, answer in item.verdict.items():
            truth = item.truth_answers.get(slot)
            yield {
                **_of(item),
                "slot": slot,
                "option": answer.option,
                "confidence": answer.confidence,
                "probabilities": dict(answer.probabilities),
                "device": item.device_answers.get(slot),
                "detector": item.detector_answers.get(slot),
                "truth": truth,
                "right": None if truth is None else answer.option == truth,
            }


def lane_bytes(results: RunResults) -> Iterator[Row]:
    """One a lane of each item that was sent."""
    for item in results.items:
        for lane, count in lanes_of(item).items():
            if count:
                yield {**_of(item), "lane": lane, "bytes": count}


def lanes_of(item: ItemResult) -> dict[str, int]:
    """Bytes that left the device, by lane."""
    rest = item.evidence_bytes - item.maps_bytes - item.tokens_bytes if item.evidence_bytes else 0
    sent = (item.maps_bytes, item.tokens_bytes, item.crop_bytes) if item.evidence_bytes else (0, 0, 0)
    return dict(zip(("maps", "tokens", "pixels"), sent, strict=True)) | {"rest": rest}


def defects(results: RunResults) -> Iterator[Row]:
    """One a defect that came into clear view."""
    for defect in results.defects:
        yield {
            "recording": defect.recording,
            "defect": defect.name,
            **_moment(defect.time_ns),
            "label": defect.label,
            "condition": defect.condition,
            "moments": defect.moments,
            "fate": defect.fate.value,
        }


ROWS: Mapping[str, Callable[[RunResults], Iterator[Row]]] = {
    "recordings": recordings,
    "samples": samples,
    "items": items,
    "verdicts": verdicts,
    "bytes": lane_bytes,
    "defects": defects,
}
"""By table."""


def _of(item: ItemResult) -> Row:
    return {"recording": item.recording, "item": item.id, "sequence": item.sequence, **_moment(item.time_ns)}


def _moment(time_ns: int) -> Row:
    return {"time_ns": time_ns, "time": time_ns if time_ns > EPOCH_NS else None}


def _solid(box: Box3D | None) -> Row:
    names = ("x", "y", "z", "length", "width", "height", "yaw")
    return {f"box_{name}": getattr(box, name) if box else None for name in names}


def _by_sequence(one: RecordingResults) -> dict[int, list[ItemResult]]:
    found: dict[int, list[ItemResult]] = defaultdict(list)
    for item in one.items:
        found[item.sequence].append(item)
    return found
