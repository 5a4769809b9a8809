"""An outcome as a row of the SQLite ledger, and the tables it lies in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from cloud_node.outcome import Outcome, Timings, slots_from_json, slots_to_json
from fusion.errors import SpoolError
from fusion.types import ItemId, ItemState, SampleId, Verdict

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS outcomes (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, item INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('reviewed', 'quarantined', 'expired', 'shed')),
  reason TEXT NOT NULL,
  task TEXT NOT NULL, profile TEXT NOT NULL,
  evidence_sha256 TEXT NOT NULL,
  slots TEXT, uncertain INTEGER, lanes TEXT, reviewer TEXT, prompt_sha256 TEXT,
  header TEXT,
  timings TEXT NOT NULL,
  digest TEXT NOT NULL,
  UNIQUE (device, epoch, sequence, item)
) STRICT;
CREATE TABLE IF NOT EXISTS evidence (
  id INTEGER PRIMARY KEY REFERENCES outcomes (id),
  blob BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS reports (
  device TEXT NOT NULL, epoch TEXT NOT NULL, received_ns INTEGER NOT NULL,
  samples INTEGER NOT NULL, gaps INTEGER NOT NULL, items TEXT NOT NULL,
  PRIMARY KEY (device, epoch)
) STRICT;
CREATE VIEW IF NOT EXISTS verdicts AS
  SELECT device || '/' || epoch || '/' || sequence || '#' || item AS item_id, * FROM outcomes WHERE state = 'reviewed';
"""
COLUMNS = (
    "device, epoch, sequence, item, state, reason, task, profile, evidence_sha256, "
    "slots, uncertain, lanes, reviewer, prompt_sha256, header, timings"
)
WHERE_ITEM = "device = ? AND epoch = ? AND sequence = ? AND item = ?"


def key_of(item: ItemId) -> tuple[str, str, int, int]:
    """The columns that name an item."""
    return item.sample.device, item.sample.epoch, item.sample.sequence, item.item


def row_of(outcome: Outcome) -> tuple[Any, ...]:
    """The values of `COLUMNS`."""
    verdict = outcome.verdict
    answered: tuple[Any, ...] = (None,) * 5
    if verdict is not None:
        lanes = json.dumps(verdict.lanes)
        answered = slots_to_json(verdict), int(verdict.uncertain), lanes, verdict.reviewer, verdict.prompt_sha256
    header = None if outcome.header is None else json.dumps(outcome.header, sort_keys=True)
    timings = json.dumps(asdict(outcome.timings))
    refusal = outcome.state.value, outcome.reason, outcome.task, outcome.profile, outcome.evidence_sha256
    return (*key_of(outcome.item), *refusal, *answered, header, timings)


def digest_of(row: tuple[Any, ...]) -> str:
    """Hex sha-256 of a row's values."""
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()


def outcome_of(row: tuple[Any, ...], digest: str, blob: bytes | None) -> Outcome:
    """The outcome of a row (`COLUMNS`); raises `SpoolError` when the row is not what was stored."""
    device, epoch, sequence, number, state, reason, task, profile, evidence_sha256, *rest = row
    slots, uncertain, lanes, reviewer, prompt_sha256, header, timings = rest
    item = ItemId(SampleId(device, epoch, sequence), number)
    if digest_of(row) != digest:
        raise SpoolError(f"the ledger's row of {item} is damaged: its digest does not match")
    verdict = None
    if slots is not None:
        lane_names = tuple(json.loads(lanes))
        verdict = Verdict(item, slots_from_json(slots), bool(uncertain), lane_names, reviewer, prompt_sha256)
    return Outcome(
        item=item,
        state=ItemState(state),
        evidence_sha256=evidence_sha256,
        verdict=verdict,
        reason=reason,
        task=task,
        profile=profile,
        header=json.loads(header) if header is not None else None,
        timings=Timings(**json.loads(timings)),
        evidence=blob,
    )
