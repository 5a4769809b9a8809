"""How a spool stands, read beside a running daemon: a reader that never writes and lets go at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fusion.errors import SpoolError
from fusion.types import ItemState


def spool_status(path: Path) -> list[str]:
    """Lines for a person. Raises `SpoolError` when there is no readable spool."""
    with reading(path) as db:
        return _lines(db)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The spool at `path`, read only. Raises `SpoolError` when there is none, or it cannot be read."""
    if not path.is_file():
        raise SpoolError(f"{path}: no spool there; has the daemon run with this configuration?")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            yield db
    except sqlite3.Error as error:
        raise SpoolError(f"{path}: cannot be read ({error})") from None


def _lines(db: sqlite3.Connection) -> list[str]:
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    folded = dict(db.execute("SELECT state, count FROM settled").fetchall())
    states = dict(db.execute("SELECT state, count(*) FROM items GROUP BY state").fetchall())
    (samples,) = db.execute("SELECT count(*) FROM samples").fetchone()
    (gaps,) = db.execute("SELECT coalesce(sum(count), 0) FROM gaps").fetchone()
    waiting, held = db.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM outbox").fetchone()
    totals = {state.value: states.get(state.value, 0) + folded.get(state.value, 0) for state in ItemState}
    runs = db.execute("SELECT name, lap, cursor, finished, content FROM runs ORDER BY run").fetchall()
    return [
        f"device {meta['device']}, task {meta['task']}, epoch {meta['epoch']}",
        f"samples {samples + folded.get('processed', 0)}, declared gaps {gaps + folded.get('gap', 0)}",
        f"items {sum(totals.values())}: " + ", ".join(f"{name} {count}" for name, count in totals.items()),
        f"outbox {waiting} items, {held} bytes",
        *(
            f"run {name!r} lap {lap} of {content[:12]}: position {cursor}{', ended' if finished else ''}"
            for name, lap, cursor, finished, content in runs
        ),
    ]
