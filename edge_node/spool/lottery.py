"""With which probability the audit lottery draws, noted in the spool: what is counted must have been drawn with it."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple


class NotedRate(NamedTuple):
    """The lottery's `rate`, and the `first` sample that was drawn with it."""

    rate: float
    first: int


def note_rate(db: sqlite3.Connection, rate: float, sequence: int) -> None:
    """From sample `sequence` on the lottery draws with probability `rate`; nothing changes where it did so before."""
    noted = noted_rate(db)
    if noted is None or noted.rate != rate:
        values = [("audit_rate", repr(rate)), ("audit_first", str(sequence))]
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values)


def noted_rate(db: sqlite3.Connection) -> NotedRate | None:
    """What was noted last; None in a spool of an earlier program, which noted nothing."""
    found = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('audit_rate', 'audit_first')").fetchall())
    return NotedRate(float(found["audit_rate"]), int(found["audit_first"])) if len(found) == 2 else None
