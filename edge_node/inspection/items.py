"""Items of a spool, as a table for people, as JSON lines for programs, and one with all that is known of it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_node.spool.records import row_digest, unsealed
from edge_node.spool.rows import read_kept
from fusion.errors import EvidenceError, InputError, SpoolError
from fusion.types import Evidence, ItemId, ItemState, KeptLanes, SampleId
from fusion.wire.convert import parse_evidence

_COLUMNS = (
    "i.sequence, i.item, i.track, i.label, i.score, i.reasons, i.value, i.state, i.note, i.into_item, "
    "i.evidence_bytes, i.verdict, s.time_ns, o.sent, coalesce(o.bytes, 0)"
)
_FROM = (
    "FROM items i JOIN samples s ON s.sequence = i.sequence "
    "LEFT JOIN outbox o ON o.sequence = i.sequence AND o.item = i.item"
)
_ORDER = {
    "newest": "i.sequence DESC, i.item",
    "oldest": "i.sequence, i.item",
    "value": "i.value DESC, i.sequence DESC, i.item",
}
_PLACE = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which items: of these states (none: all), of a track, those with evidence waiting; how many, in which order."""

    states: tuple[ItemState, ...] = ()
    track: int | None = None
    waiting: bool = False
    limit: int = 20
    order: str = "newest"


def listed(db: sqlite3.Connection, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """An entry an item; `verdict` are the chosen options by slot, empty without an answer."""
    conditions, values = ["1"], list[Any]()
    if wanted.states:
        conditions.append(f"i.state IN ({', '.join('?' * len(wanted.states))})")
        values += [state.value for state in wanted.states]
    if wanted.track is not None:
        conditions.append("i.track = ?")
        values.append(wanted.track)
    if wanted.waiting:
        conditions.append("o.id IS NOT NULL")
    query = f"SELECT {_COLUMNS} {_FROM} WHERE {' AND '.join(conditions)} ORDER BY {_ORDER[wanted.order]} LIMIT ?"
    return map(_entry, db.execute(query, (*values, wanted.limit)))


def _entry(row: Sequence[Any]) -> dict[str, Any]:
    sequence, item, track, label, score, reasons, value, state, note, into, size, verdict, time_ns, sent, held = row
    return {
        "item": f"{sequence}#{item}",
        "time_ns": time_ns,
        "track": track,
        "label": label,
        "score": score,
        "state": state,
        "reasons": reasons.split(",") if reasons else [],
        "value": value,
        "evidence_bytes": size,
        "held_bytes": held,
        "sent": bool(sent),
        "into": into,
        "note": note,
        "verdict": _options(verdict),
    }


def table(entries: Sequence[dict[str, Any]], now_ns: int) -> list[str]:
    """Lines for a person; ages are those of the captured moment."""
    head = ("item", "age", "track", "label", "score", "state", "why", "value", "bytes", "verdict or note")
    rows = [
        (
            entry["item"],
            _age(now_ns - entry["time_ns"]),
            str(entry["track"]),
            entry["label"],
            f"{entry['score']:.2f}",
            entry["state"] + (", sent" if entry["sent"] and entry["held_bytes"] else ""),
            ",".join(entry["reasons"]),
            f"{entry['value']:.2f}",
            str(entry["held_bytes"] or entry["evidence_bytes"] or ""),
            " ".join(f"{slot}={option}" for slot, option in entry["verdict"].items())
            or entry["note"]
            or (f"as {entry['into'].rpartition('/')[2]}" if entry["into"] else ""),
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


@dataclass(frozen=True, slots=True)
class Found:
    """One item: its entry as `listed`, and what is still held of it; `fault` says what of that is damaged."""

    entry: dict[str, Any]
    evidence: Evidence | None = None
    kept: KeptLanes = field(default_factory=KeptLanes)
    fault: str = ""


def owner(db: sqlite3.Connection) -> tuple[str, str]:
    """Whose spool it is: device and epoch. Raises `SpoolError` for one that does not tell."""
    meta = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('device', 'epoch')").fetchall())
    if set(meta) != {"device", "epoch"}:
        raise SpoolError("the spool does not tell its device and epoch; the daemon will set it aside")
    return meta["device"], meta["epoch"]


def find(db: sqlite3.Connection, name: str) -> Found:
    """The item `SEQUENCE#ITEM`, or a whole id of this spool. Raises `InputError` when there is none."""
    device, epoch = owner(db)
    sequence, _, number = name.removeprefix(f"{device}/{epoch}/").partition("#")
    if not (_PLACE.fullmatch(sequence) and _PLACE.fullmatch(number)):
        raise InputError(f"{name!r}: no item of device {device}, epoch {epoch}; write it as 123#1")
    where = (int(sequence), int(number))
    row = db.execute(f"SELECT {_COLUMNS} {_FROM} WHERE i.sequence = ? AND i.item = ?", where).fetchone()
    if row is None:
        raise InputError(f"{name}: not in the spool; it was never there, or was folded into the totals")
    query = "SELECT evidence, crop, crop_form, context, digest FROM outbox WHERE sequence = ? AND item = ?"
    held = db.execute(query, where).fetchone()
    if held is None:
        return Found(_entry(row))
    item = ItemId(SampleId(device, epoch, where[0]), where[1])
    if fault := damage(item, *held):
        return Found(_entry(row), fault=fault)
    return Found(_entry(row), parse_evidence(held[0]), read_kept(item, *held[1:4]))


def damage(item: ItemId, evidence: bytes, crop: bytes, form: str, context: bytes, digest: bytes) -> str:
    """What of an outbox row is not what was stored, empty when it is whole."""
    if row_digest(item, evidence, crop, form) != digest:
        return f"{item}: its evidence is not what was stored; the daemon will set it aside"
    try:
        if parse_evidence(evidence).item != item:
            return f"{item}: its evidence is another item's"
    except EvidenceError as error:
        return f"{item}: {error}"
    return (
        f"{item}: points and sound are damaged and will not be sent" if context and not unsealed(item, context) else ""
    )


def told(found: Found) -> list[str]:
    """Lines for a person."""
    entry, evidence, kept = found.entry, found.evidence, found.kept
    lines = [f"{name:<14} {value}" for name, value in entry.items() if value not in ([], {}, "", None)]
    if evidence is not None:
        box = evidence.box
        lines += [
            f"{'box':<14} {box.x1:.1f} {box.y1:.1f} {box.x2:.1f} {box.y2:.1f}",
            f"{'image':<14} {evidence.image_width}x{evidence.image_height}",
            f"{'profile':<14} {evidence.profile[:12]}",
            *_scores("classes", evidence.class_scores),
            *_scores("fused", evidence.opinion.label_scores),
            *_scores("conditions", evidence.opinion.condition_scores),
            f"{'maps':<14} {evidence.maps.byte_size if evidence.maps else 0} bytes",
            f"{'tokens':<14} {evidence.tokens.values.nbytes if evidence.tokens else 0} bytes",
        ]
    lanes = {"a picture": kept.pixels, "points": kept.points, "sound": kept.sound}
    if held := [name for name, lane in lanes.items() if lane is not None]:
        lines.append(f"{'kept':<14} {', '.join(held)}")
    return lines + ([f"{'damaged':<14} {found.fault}"] if found.fault else [])


def _scores(name: str, scores: Mapping[str, float]) -> list[str]:
    best = sorted(scores.items(), key=lambda pair: -pair[1])[:5]
    return [f"{name:<14} " + ", ".join(f"{option} {score:.2f}" for option, score in best)] if best else []


def _options(verdict: str | None) -> dict[str, str]:
    if not verdict:
        return {}
    return {slot: str(answer["option"]) for slot, answer in json.loads(verdict)["slots"].items()}


def _age(ns: int) -> str:
    seconds = max(0, ns) / 1e9
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
