"""A spool's runs: where each reading of a recording stands. All run inside the caller's transaction."""

from __future__ import annotations

import sqlite3

from edge_node.spool.records import Resume

KEPT_RUNS = 1000
"""Runs that are remembered, beside those that samples in the history are of. A live source is a new one each start."""
_KEPT_LAPS = 2
_FORGET = "DELETE FROM runs WHERE NOT EXISTS (SELECT 1 FROM samples WHERE samples.run = runs.run)"


def newest_lap(db: sqlite3.Connection, content: str, name: str) -> Resume | None:
    """Where the newest lap of a recording's run stands, None for one that was never begun."""
    query = (
        "SELECT run, lap, cursor, warm_cursor, state, finished FROM runs "
        "WHERE content = ? AND name = ? ORDER BY lap DESC LIMIT 1"
    )
    found = db.execute(query, (content, name)).fetchone()
    if not found:
        return None
    run, lap, cursor, warm, state, finished = found
    return Resume(run, lap, cursor, warm, state, bool(finished))


def begin(db: sqlite3.Connection, content: str, name: str, lap: int) -> Resume:
    """A new lap of a recording's run; laps and runs that no sample is of are forgotten, but for the newest."""
    values = (content, name, lap, 0, 0, "", 0)
    run = db.execute("INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid
    db.execute(f"{_FORGET} AND content = ? AND name = ? AND lap <= ?", (content, name, lap - _KEPT_LAPS))
    db.execute(f"{_FORGET} AND run < (SELECT run FROM runs ORDER BY run DESC LIMIT 1 OFFSET ?)", (KEPT_RUNS - 1,))  # noqa: S608
    return Resume(int(run or 0), lap)


def store_resume(db: sqlite3.Connection, resume: Resume, *, finished: bool) -> None:
    """Where the source stands, and the tracker's and screener's state there; at its end there is none."""
    db.execute(
        "UPDATE runs SET cursor = ?, warm_cursor = ?, state = ?, finished = ? WHERE run = ?",
        (resume.cursor, resume.warm_cursor, "" if finished else resume.state, int(finished), resume.run),
    )
