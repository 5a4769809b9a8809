"""The tables' columns with their types, units and meaning, which `docs/replay/export.md` lists, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

NAME = pa.dictionary(pa.int32(), pa.string())
"""Words that come again and again: stored once."""
TEXT = pa.string()
COUNT = pa.int64()
REAL = pa.float64()
FLAG = pa.bool_()
INSTANT = pa.timestamp("ns", tz="UTC")
NAMES = pa.list_(pa.string())
ANSWERS = pa.map_(pa.string(), pa.string())
NUMBERS = pa.map_(pa.string(), pa.float64())
COUNTS = pa.map_(pa.string(), pa.int64())


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `unit` is empty for what has none."""

    name: str
    type: Any
    meaning: str
    unit: str = ""


def _moment(of: str) -> tuple[Column, ...]:
    return (
        Column("time_ns", COUNT, f"{of}, on the recording's clock", "ns"),
        Column("time", INSTANT, "the same as a time of day; null where the recording's times are nominal"),
    )


_RECORDING = Column("recording", NAME, "the recording's name in the run")
_ITEM = Column("item", TEXT, "the item's id, `device/epoch/sequence#number`")
_SEQUENCE = Column("sequence", COUNT, "the sample's number in its recording, from 1")

TABLES: Mapping[str, Sequence[Column]] = {
    "recordings": (
        _RECORDING,
        Column("source", TEXT, "the path or URL it was read from"),
        Column("split", TEXT, "the part of a data set, empty for other recordings"),
        Column("from_s", REAL, "where the stretch that was run begins", "s"),
        Column("to_s", REAL, "where it ends; null: at the recording's end", "s"),
        Column("seconds", REAL, "from the first sample to the last", "s"),
        Column("samples", COUNT, "samples processed"),
        Column("gaps", COUNT, "samples in declared gaps"),
        Column("items", COUNTS, "items by how they ended"),
        Column("continuous", FLAG, "whether samples follow each other in time"),
        Column("damage", TEXT, "what of the recording could not be read"),
    ),
    "samples": (
        _RECORDING,
        _SEQUENCE,
        Column("cursor", COUNT, "the recording's position after the sample's reference reading"),
        *_moment("the sample's time"),
        Column("edge_ms", REAL, "decoded sample to decision, engine calls included", "ms"),
        Column("engine_ms", REAL, "of which engine calls", "ms"),
        Column("commit_ms", REAL, "the commit it shared", "ms"),
        Column("decode_ms", REAL, "reading and decoding", "ms"),
        Column("ages_ms", NUMBERS, "by sensor that was there, sample time minus capture time", "ms"),
        Column("intent", NAME, "what was said in the utterance in effect, by the truth"),
        Column("objects", COUNT, "objects the truth tells of; null where it tells nothing"),
        Column("items", COUNT, "items found in it"),
        Column("sent", COUNT, "of which were sent"),
        Column("evidence_bytes", COUNT, "evidence sent of it", "byte"),
    ),
    "items": (
        _RECORDING,
        _ITEM,
        _SEQUENCE,
        *_moment("the sample's time"),
        Column("track", COUNT, "the tracked object's number, 0 where nothing is tracked"),
        *(Column(name, REAL, "corner of the box in the recorded frame", "px") for name in ("x1", "y1", "x2", "y2")),
        *(Column(f"box_{a}", REAL, "centre of the fused box in the ego frame (REP-103)", "m") for a in ("x", "y", "z")),
        *(Column(f"box_{a}", REAL, "size of the fused box", "m") for a in ("length", "width", "height")),
        Column("box_yaw", REAL, "its turn about z", "rad"),
        Column("label", NAME, "the detector's class"),
        Column("score", REAL, "its score, 0..1"),
        Column("state", NAME, "how the item ended"),
        Column("reasons", NAMES, "why it was sent"),
        Column("into", TEXT, "the item it was taken for, of a deduplicated one"),
        Column("note", TEXT, "why it was shed, expired or quarantined"),
        Column("evidence_bytes", COUNT, "evidence as it leaves the device, 0 of items that were not sent", "byte"),
        Column("lanes", NAMES, "what the reviewer read"),
        Column("uncertain", FLAG, "whether a slot stayed under the reviewer's confidence floor"),
        Column("verdict_latency_ms", REAL, "from decision to verdict; null without a verdict", "ms"),
        Column("device", ANSWERS, "the fused heads' answer by slot"),
        Column("detector", ANSWERS, "the bare detector's answer by slot"),
        Column("truth", ANSWERS, "the true answer by slot; empty where it is not known"),
        Column("truth_label", NAME, "class of the true object the box is on; null: none, or not known"),
        Column("truth_condition", NAME, "its condition"),
        Column("truth_track", COUNT, "its number"),
        Column("outcome", NAME, "whether the answer that stands is right in every slot: right, wrong or unknown"),
    ),
    "verdicts": (
        _RECORDING,
        _ITEM,
        _SEQUENCE,
        *_moment("the sample's time"),
        Column("slot", NAME, "the question"),
        Column("option", NAME, "the reviewer's answer"),
        Column("confidence", REAL, "its calibrated probability"),
        Column("probabilities", NUMBERS, "every option's; they sum to 1"),
        Column("device", NAME, "the fused heads' answer; null where there is none"),
        Column("detector", NAME, "the bare detector's answer; null where there is none"),
        Column("truth", NAME, "the true answer; null where it is not known"),
        Column("right", FLAG, "whether the reviewer's answer is true; null where that is not known"),
    ),
    "bytes": (
        _RECORDING,
        _ITEM,
        _SEQUENCE,
        *_moment("the sample's time"),
        Column("lane", NAME, "`maps`, `tokens`, `pixels` (sent when asked for), `rest` (ids, boxes, opinions)"),
        Column("bytes", COUNT, "bytes that left the device", "byte"),
    ),
    "defects": (
        _RECORDING,
        Column("defect", TEXT, "its name, the same in every run of the recording"),
        *_moment("when it first was in clear view"),
        Column("label", NAME, "its class"),
        Column("condition", NAME, "what is wrong with it"),
        Column("moments", COUNT, "samples in which it was in clear view"),
        Column("fate", NAME, "what became of it; all but `found` are misses"),
    ),
}
"""By file name without its ending."""


def schema(table: str, facts: Mapping[str, str]) -> Any:
    """The Arrow schema of a table; each field carries `meaning` and `unit`, the whole carries `facts`."""
    return pa.schema(
        [pa.field(c.name, c.type, metadata={"meaning": c.meaning, "unit": c.unit}) for c in TABLES[table]],
        metadata=dict(facts),
    )
