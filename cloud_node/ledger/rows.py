"""Outcomes, corrections and reports as rows, and back. Reading checks digests."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from cloud_node.asked import is_whole
from cloud_node.ledger.values import Correction, DeviceReport
from cloud_node.outcome import Outcome, Timings, slots_from_json, slots_to_json
from fusion.errors import SpoolError
from fusion.types import ItemId, ItemState, LedgerCounts, SampleId, Verdict

TOLD = (
    "device", "epoch", "sequence", "item", "state", "reason", "task", "profile", "evidence_sha256",
    "slots", "uncertain", "lanes", "reviewer", "prompt_sha256", "header", "timings",
)  # fmt: skip
"""The columns of `outcomes` that a digest covers, in its order."""

COLUMNS = (*TOLD, "digest", "answered_ns", "value", "rationale")
"""The columns of `outcomes` but its id. A digest covers a rationale that is there."""

_TIMINGS = Timings.__slots__


def key_of(item: ItemId) -> tuple[str, str, int, int]:
    """The columns that name an item."""
    return item.sample.device, item.sample.epoch, item.sample.sequence, item.item


def name_of(row: Sequence[Any]) -> str:
    """The item of a row of `COLUMNS` as it is written, whatever the row holds."""
    device, epoch, sequence, number = row[:4]
    return f"{device}/{epoch}/{sequence}#{number}"


def row_of(outcome: Outcome) -> tuple[Any, ...]:
    """The values of `COLUMNS`."""
    verdict = outcome.verdict
    answered: tuple[Any, ...] = (None,) * 5
    if verdict is not None:
        lanes = json.dumps(verdict.lanes)
        answered = slots_to_json(verdict), int(verdict.uncertain), lanes, verdict.reviewer, verdict.prompt_sha256
    header = None if outcome.header is None else json.dumps(outcome.header, sort_keys=True)
    timings = json.dumps({name: getattr(outcome.timings, name) for name in _TIMINGS})
    refusal = outcome.state.value, outcome.reason, outcome.task, outcome.profile, outcome.evidence_sha256
    told = (*key_of(outcome.item), *refusal, *answered, header, timings)
    rationale = verdict.rationale or None if verdict is not None else None
    digest = digest_of(told if rationale is None else (*told, rationale))
    return (*told, digest, outcome.timings.answered_ns, value_of(outcome.header), rationale)


def digest_of(row: Sequence[Any]) -> str:
    """Hex sha-256 of a row's values; of values that are never stored, one that fits nothing."""
    return hashlib.sha256(json.dumps(row, default=repr).encode()).hexdigest()


def value_of(header: Any) -> float:
    """What the device held an item worth; 0 where evidence was not read or told no number."""
    value = float((header or {}).get("value", 0.0))
    return value if math.isfinite(value) else 0.0


def outcome_of(row: Sequence[Any], blob: bytes | None = None) -> Outcome:
    """The outcome of a row (`COLUMNS`) and its evidence; raises `SpoolError` when they are not what was stored."""
    told, (digest, answered_ns, value, rationale) = tuple(row[: len(TOLD)]), row[len(TOLD) :]
    device, epoch, sequence, number, state, reason, task, profile, evidence_sha256, *rest = told
    slots, uncertain, lanes, reviewer, prompt_sha256, header_text, timings_text = rest
    if digest_of(told if rationale is None else (*told, rationale)) != digest:
        raise SpoolError(f"the ledger's row of {name_of(row)} is damaged: its digest does not match")
    item = ItemId(SampleId(device, epoch, sequence), number)
    header = json.loads(header_text) if header_text is not None else None
    timings = Timings(**json.loads(timings_text))
    if (timings.answered_ns, value_of(header)) != (answered_ns, value):
        raise SpoolError(f"the ledger's row of {item} is damaged: it is sorted by other numbers than it tells")
    if blob is not None and not is_whole(blob, evidence_sha256, header):
        raise SpoolError(f"the ledger's evidence of {item} is damaged: its digest does not match")
    verdict = None
    if slots is not None:
        lane_names = tuple(json.loads(lanes))
        said = lane_names, reviewer, prompt_sha256, rationale or ""
        verdict = Verdict(item, slots_from_json(slots), bool(uncertain), *said)
    return Outcome(
        item=item,
        state=ItemState(state),
        evidence_sha256=evidence_sha256,
        verdict=verdict,
        reason=reason,
        task=task,
        profile=profile,
        header=header,
        timings=timings,
        evidence=blob,
    )


def correction_row(correction: Correction) -> dict[str, Any]:
    """The columns of `corrections` but its id and outcome."""
    answers = json.dumps(dict(correction.answers), sort_keys=True)
    told = correction.author, correction.at_ns, answers, correction.note
    names = ("author", "at_ns", "answers", "note")
    return {**dict(zip(names, told, strict=True)), "digest": digest_of([str(correction.item), *told])}


def correction_of(item: ItemId, told: Sequence[Any], digest: str) -> Correction:
    """The correction of (author, at_ns, answers, note); raises `SpoolError` when it is not what was stored."""
    if digest_of([str(item), *told]) != digest:
        raise SpoolError(f"the ledger's correction of {item} is damaged: its digest does not match")
    author, at_ns, answers, note = told
    return Correction(item, author, at_ns, json.loads(answers), note)


def report_row(report: DeviceReport) -> dict[str, Any]:
    """The columns of `reports`."""
    counts = report.counts
    items = json.dumps({state.value: number for state, number in counts.items.items()}, sort_keys=True)
    return {
        "device": report.device,
        "epoch": report.epoch,
        "received_ns": report.received_ns,
        "samples": counts.samples,
        "gaps": counts.gaps,
        "items": items,
    }


def report_of(row: Any) -> DeviceReport:
    """The report of a row of `reports`."""
    items = {ItemState(state): number for state, number in json.loads(row.items).items()}
    return DeviceReport(row.device, row.epoch, row.received_ns, LedgerCounts(row.samples, row.gaps, items))
