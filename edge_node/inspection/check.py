"""Whether a spool is whole: SQLite's own check, every held item against its digest, and the books."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from edge_node.inspection.items import damage, owner
from fusion.types import ItemId, ItemState, SampleId

_PAGE = 100
_MOST_TOLD = 10
_PENDING = (ItemState.PENDING.value,)
_BOOKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "items of samples that are not there",
        "SELECT count(*) FROM items WHERE sequence NOT IN (SELECT sequence FROM samples)",
        (),
    ),
    (
        "pending items without evidence",
        "SELECT count(*) FROM items LEFT JOIN outbox o USING (sequence, item) WHERE state = ? AND o.id IS NULL",
        _PENDING,
    ),
    (
        "closed items whose evidence is still held",
        "SELECT count(*) FROM items JOIN outbox USING (sequence, item) WHERE state != ?",
        _PENDING,
    ),
    (
        "held evidence of items that are not there",
        "SELECT count(*) FROM outbox o LEFT JOIN items i USING (sequence, item) WHERE i.item IS NULL",
        (),
    ),
)


def faults(db: sqlite3.Connection) -> Iterator[str]:
    """What is wrong, a line each; nothing when the spool is whole."""
    for number, (line,) in enumerate(db.execute(f"PRAGMA integrity_check({_MOST_TOLD})")):
        if (number, line) != (0, "ok"):
            yield f"the file is damaged: {line}"
    yield from _outbox(db)
    yield from _books(db)


def _outbox(db: sqlite3.Connection) -> Iterator[str]:
    """Of every held item: evidence as it was stored and readable, points and sound behind their own digest."""
    (device, epoch), after = owner(db), 0
    query = "SELECT id, sequence, item, evidence, crop, crop_form, context, digest FROM outbox WHERE id > ? LIMIT ?"
    while rows := db.execute(query, (after, _PAGE)).fetchall():
        after = rows[-1][0]
        for _, sequence, item, *held in rows:
            whose = ItemId(SampleId(device, epoch, sequence), item)
            if fault := damage(whose, *held):
                yield fault


def _books(db: sqlite3.Connection) -> Iterator[str]:
    """Every item is of a sample, and pending exactly while its evidence is held."""
    for what, query, values in _BOOKS:
        (count,) = db.execute(query, values).fetchone()
        if count:
            yield f"the books do not add up: {count} {what}"
