"""Ledgers of earlier programs, brought up to date in place. Schema 1 was SQLite alone."""

from __future__ import annotations

import json

from sqlalchemy import Connection, bindparam, select, text, update

from cloud_node.ledger.rows import value_of
from cloud_node.ledger.tables import BY_TIME, BY_VALUE, CORRECTIONS, OUTCOMES, VERDICTS

TOGETHER = 1000


def upgrade(connection: Connection, version: int) -> None:
    """Bring a ledger of schema `version` to the present one, in the caller's transaction."""
    assert version in {1, 2}, version
    if version == 1:
        _sortable(connection)
        CORRECTIONS.create(connection)
    connection.execute(text("ALTER TABLE outcomes ADD COLUMN rationale TEXT"))
    connection.execute(text("DROP VIEW verdicts"))
    connection.execute(text(VERDICTS))


def _sortable(connection: Connection) -> None:
    """1 to 2: the numbers to sort by get columns of their own."""
    connection.execute(text("ALTER TABLE outcomes ADD COLUMN answered_ns INTEGER NOT NULL DEFAULT 0"))
    connection.execute(text("ALTER TABLE outcomes ADD COLUMN value REAL NOT NULL DEFAULT 0"))
    told = OUTCOMES.c.id, OUTCOMES.c.timings, OUTCOMES.c.header
    following = select(*told).where(OUTCOMES.c.id > bindparam("last")).order_by(OUTCOMES.c.id).limit(TOGETHER)
    sort = update(OUTCOMES).where(OUTCOMES.c.id == bindparam("row"))
    last = 0
    while rows := connection.execute(following, {"last": last}).all():
        numbers = [
            {
                "row": row.id,
                "answered_ns": json.loads(row.timings)["answered_ns"],
                "value": value_of(json.loads(row.header or "null")),
            }
            for row in rows
        ]
        connection.execute(sort, numbers)
        last = rows[-1].id
    BY_TIME.create(connection)
    BY_VALUE.create(connection)
