"""The spool's statements: one function a row kind. All run inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from edge_node.spool.records import ItemRecord, SampleRecord, row_digest, sealed, unsealed
from fusion.clock import UNSET_NS
from fusion.errors import EvidenceError
from fusion.types import Box2D, DeviceOpinion, Gap, ItemId, KeptLanes, PixelCrop, SampleState
from fusion.wire.lanes import parse_kept, serialize_kept

SETTLE_BATCH = 2000
_PASSED = (
    "SELECT sequence FROM samples s WHERE sequence <= ? AND NOT EXISTS "
    "(SELECT 1 FROM outbox WHERE outbox.sequence = s.sequence) ORDER BY sequence LIMIT ?"
)
_OF_BATCH = "sequence IN (SELECT value FROM json_each(?))"


class StoredOutbox(NamedTuple):
    """An outbox row as it lies in the table."""

    id: int
    sequence: int
    item: int
    created_ns: int
    sent: int
    evidence: bytes
    crop: bytes
    crop_form: str
    digest: bytes


def insert_sample(
    db: sqlite3.Connection, record: SampleRecord, item_id: Callable[[int, int], ItemId], now_ns: int, wait_ns: int
) -> int:
    """Write a sample with its items and outbox rows; returns the bytes added to the outbox."""
    slots = {name: [availability.value, age] for name, (availability, age) in record.slots.items()}
    timing = record.timing
    values = (
        record.sequence, record.resume.run, record.resume.cursor, record.time_ns, compact(slots), *record.placement,
        timing.source, timing.edge, timing.engine, timing.beside, timing.evidence, wait_ns,
    )  # fmt: skip
    db.execute("INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", values)
    db.executemany(
        "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, NULL, NULL)",
        [_item_row(record.sequence, item, now_ns) for item in record.items],
    )
    added = 0
    for item in record.items:
        if item.blobs:
            blobs = item.blobs
            picture, form = crop_columns(blobs.kept.pixels)
            whose = item_id(record.sequence, item.item)
            digest = row_digest(whose, blobs.evidence, picture, form)
            context = sealed(whose, serialize_kept(replace(blobs.kept, pixels=None)))
            size = len(blobs.evidence) + len(picture) + len(context)
            db.execute(
                "INSERT INTO outbox "
                "(sequence, item, profile, value, created_ns, evidence, crop, crop_form, digest, bytes, context)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (record.sequence, item.item, blobs.profile, float(item.value), now_ns,
                 blobs.evidence, picture, form, digest, size, context),
            )  # fmt: skip
            added += size
    return added


def _item_row(sequence: int, item: ItemRecord, now_ns: int) -> tuple[Any, ...]:
    box, blobs = item.box, item.blobs
    told = {"class": item.class_scores, "condition": item.condition_scores}
    scores = {kind: {name: round(float(p), 5) for name, p in values.items()} for kind, values in told.items()}
    return (
        sequence, item.item, item.track, float(box.x1), float(box.y1), float(box.x2), float(box.y2),
        item.label, float(item.score), compact(scores), opinion_json(item.opinion),
        ",".join(item.reasons), float(item.value), item.state.value, item.note, str(item.into) if item.into else None,
        len(blobs.evidence) if blobs else 0, blobs.maps_bytes if blobs else 0, blobs.tokens_bytes if blobs else 0,
        blobs.crop_bytes if blobs else 0, now_ns,
    )  # fmt: skip


def crop_columns(crop: PixelCrop | None) -> tuple[bytes, str]:
    """A crop as its picture and its form."""
    if crop is None:
        return b"", ""
    area = [float(crop.area.x1), float(crop.area.y1), float(crop.area.x2), float(crop.area.y2)]
    return crop.encoded, compact({"encoding": crop.encoding, "area": area})


def read_crop(picture: bytes, form: str) -> PixelCrop | None:
    """A crop from its picture and its form."""
    if not form:
        return None
    described = json.loads(form)
    return PixelCrop(picture, described["encoding"], Box2D(*described["area"]))


def read_kept(item: ItemId, picture: bytes, form: str, context: bytes) -> KeptLanes:
    """What is kept of an item, from its outbox row; a damaged context is none."""
    try:
        kept = parse_kept(unsealed(item, context), item)
    except EvidenceError:
        kept = KeptLanes()
    return replace(kept, pixels=read_crop(picture, form))


def opinion_json(opinion: DeviceOpinion) -> str:
    """A device's opinion as JSON; "{}" where the task has no fused heads."""
    if not opinion.label_scores and opinion.asked_score is None:
        return "{}"
    return compact(
        {
            "label": {name: round(float(p), 5) for name, p in opinion.label_scores.items()},
            "condition": {name: round(float(p), 5) for name, p in opinion.condition_scores.items()},
            "asked": None if opinion.asked_score is None else round(float(opinion.asked_score), 5),
            "box3d": {k: float(v) for k, v in asdict(opinion.box3d).items()} if opinion.box3d else None,
        }
    )


def insert_gap(db: sqlite3.Connection, run: int, gap: Gap, now_ns: int) -> None:
    """Declare a gap; one that goes on where the newest one of the same reason ended extends it."""
    last = db.execute("SELECT id, run, last, reason FROM gaps ORDER BY id DESC LIMIT 1").fetchone()
    if last and last[1:] == (run, gap.first - 1, gap.reason):
        db.execute("UPDATE gaps SET last = ?, count = count + ? WHERE id = ?", (gap.last, gap.count, last[0]))
        return
    values = (run, gap.first, gap.last, gap.count, gap.reason, now_ns)
    db.execute("INSERT INTO gaps VALUES (NULL, ?, ?, ?, ?, ?, ?)", values)


def outbox(db: sqlite3.Connection, after: int, limit: int, profiles: Iterable[str] | None) -> Iterator[StoredOutbox]:
    """Outbox rows with `id > after`, in order, of the given trunks (None: of all)."""
    query = (
        "SELECT id, sequence, item, created_ns, sent, evidence, crop, crop_form, digest FROM outbox "
        "WHERE id > ? AND (? IS NULL OR profile IN (SELECT value FROM json_each(?))) ORDER BY id LIMIT ?"
    )
    named = None if profiles is None else compact(list(profiles))
    return map(StoredOutbox._make, db.execute(query, (after, named, named, limit)).fetchall())


def date_anew(db: sqlite3.Connection, now_ns: int) -> None:
    """Count what waits since before the device's clock was set as if the newest of it were from now, since nobody knows
    how long the device was off; `now_ns` is the time at opening.
    """
    (newest,) = db.execute("SELECT max(created_ns) FROM outbox WHERE created_ns < ?", (UNSET_NS,)).fetchone()
    if newest is None or now_ns < UNSET_NS:
        return
    shift = (now_ns - newest, UNSET_NS)
    db.execute("UPDATE outbox SET created_ns = created_ns + ? WHERE created_ns < ?", shift)
    db.execute("UPDATE items SET decided_ns = decided_ns + ? WHERE state = 'pending' AND decided_ns < ?", shift)


def drop_contexts(db: sqlite3.Connection, excess: int) -> int:
    """Let go of points and sound, those of the least valuable unsent items first, until `excess` bytes are free or none
    are left; returns the bytes freed.
    """
    freed = 0
    query = "SELECT id, length(context) FROM outbox WHERE length(context) > 0 ORDER BY sent, value, id LIMIT 16"
    while freed < excess and (lowest := db.execute(query).fetchall()):
        for row, size in lowest:
            if freed < excess:
                db.execute("UPDATE outbox SET context = x'', bytes = bytes - ? WHERE id = ?", (size, row))
                freed += size
    return freed


def settle(db: sqlite3.Connection, keep: int) -> None:
    """Fold samples and gaps beyond the newest `keep` into the totals, so that the file stays bounded. A sample with an
    item that waits for its answer stays until it has it, and holds back no other; `SETTLE_BATCH` are folded at most.
    """
    _settle_gaps(db, keep)
    (newest,) = db.execute("SELECT coalesce(max(sequence), 0) FROM samples").fetchone()
    batch = compact([sequence for (sequence,) in db.execute(_PASSED, (newest - keep, SETTLE_BATCH))])
    gone = db.execute(f"DELETE FROM samples WHERE {_OF_BATCH}", (batch,)).rowcount  # noqa: S608
    states = db.execute(f"DELETE FROM items WHERE {_OF_BATCH} RETURNING state", (batch,)).fetchall()  # noqa: S608
    totals = Counter(state for (state,) in states)
    _add_settled(db, [*totals.items(), (SampleState.PROCESSED.value, gone)])


def _settle_gaps(db: sqlite3.Connection, keep: int) -> None:
    (end,) = db.execute("SELECT coalesce(max(id), 0) FROM gaps").fetchone()
    (count,) = db.execute("SELECT coalesce(sum(count), 0) FROM gaps WHERE id <= ?", (end - keep,)).fetchone()
    if db.execute("DELETE FROM gaps WHERE id <= ?", (end - keep,)).rowcount:
        _add_settled(db, [(SampleState.GAP.value, count)])


def _add_settled(db: sqlite3.Connection, totals: Iterable[tuple[str, int]]) -> None:
    query = "INSERT INTO settled VALUES (?, ?) ON CONFLICT (state) DO UPDATE SET count = count + excluded.count"
    db.executemany(query, totals)


def compact(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))
