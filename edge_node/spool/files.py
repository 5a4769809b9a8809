"""The spool's file on disk: one daemon at a time, and a damaged file is set aside, never met again and again."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge_node.spool.schema import ADDED, PRAGMAS, SCHEMA, TABLES
from fusion.errors import SpoolError

QUICK_CHECK_BYTES = 64 << 20
"""Up to this size a spool is checked whole each time it is opened (about a second); larger ones when suspect."""


def lock(path: Path) -> tuple[IO[str], bool]:
    """Hold `path` for this process until the returned file is closed, and say whether a spool was here before.

    Raises `SpoolError` when another process holds it.
    """
    beside = path.with_name(path.name + ".lock")
    known = beside.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = beside.open("a+", encoding="utf-8")
    except OSError as error:
        raise SpoolError(f"{beside}: cannot be created ({error.strerror}); choose another spool.path") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.seek(0)
        owner = held.read().strip() or "unknown"
        held.close()
        raise SpoolError(
            f"{path}: used by another edge-node (process {owner}); stop it or use another spool.path"
        ) from None
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    return held, known


def unlock(held: IO[str], *, forget: bool) -> None:
    """Let others use the spool; `forget` that one was to be here, so that a file that is none stays unknown."""
    if forget:
        Path(held.name).unlink(missing_ok=True)
    held.close()


@dataclass(frozen=True, slots=True)
class Salvage:
    """What could still be read of a damaged spool; zeros and blanks where nothing could."""

    moved_to: Path
    epoch: str = ""
    last_sequence: int = 0
    runs: tuple[tuple[str, str, int, int, int, int], ...] = ()
    """(content, name, lap, cursor, warm_cursor, finished) of each run."""


def connect(path: Path, *, known: bool) -> tuple[sqlite3.Connection, Salvage | None]:
    """Open or create the database; a damaged one is moved aside and what it still tells is salvaged.

    `known` says that a spool lived here before; a file that never was one is refused, not moved.
    """
    suspect = _suspect(path)
    salvage = None
    if path.exists() and path.stat().st_size and _damaged(path, thorough=suspect.exists()):
        if not known:
            raise SpoolError(f"{path}: not a spool; use another spool.path")
        salvage = _set_aside(path)
    suspect.unlink(missing_ok=True)
    try:
        return _open(path), salvage
    except sqlite3.Error as error:
        raise SpoolError(f"{path}: cannot be opened ({error}); check the folder's permissions and the disk") from None


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as `SpoolError`; damage leaves a mark, so that the next start checks the whole file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise SpoolFullError(f"{path}: the disk is full; free some space, the daemon waits") from error
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            _suspect(path).touch()
            raise SpoolError(f"{path}: damaged ({error}); start again: the file will be set aside") from error
        raise SpoolError(f"{path}: cannot be used ({error}); check the disk and the folder's permissions") from error


class SpoolFullError(SpoolError):
    """The disk has no room for a commit; nothing was written, and it may be tried again."""


def _suspect(path: Path) -> Path:
    return path.with_name(path.name + ".suspect")


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    for pragma in PRAGMAS:
        db.execute(pragma)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "outbox" not in tables:
        db.close()
        raise SpoolError(f"{path}: a database of another program; use another spool.path")
    if not tables:
        db.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            db.execute(table)
        db.execute("INSERT INTO meta VALUES ('schema', ?)", (SCHEMA,))
        db.execute("COMMIT")
    for table, column, definition in ADDED:
        if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")
    return db


def _damaged(path: Path, *, thorough: bool) -> bool:
    """Whether SQLite refuses the file or its own check finds fault."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise SpoolError(f"{path}: cannot be read ({error.strerror})") from None
    if head != b"SQLite format 3\0":
        return True
    try:
        db = sqlite3.connect(path, isolation_level=None)
        try:
            if thorough or path.stat().st_size <= QUICK_CHECK_BYTES:
                return bool(db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
            db.execute("SELECT count(*) FROM meta").fetchone()
            return False
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return False
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
            raise SpoolError(f"{path}: cannot be opened ({error}); check the disk") from None
        return True


def _set_aside(path: Path) -> Salvage:
    """Move the database with its journal to the first free name `PATH.damaged-N`."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return _read_what_is_left(aside)


def _read_what_is_left(aside: Path) -> Salvage:
    try:
        db = sqlite3.connect(aside)
        try:
            epoch = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0]
            last = db.execute("SELECT coalesce(max(sequence), 0) FROM samples").fetchone()[0]
            query = "SELECT content, name, lap, cursor, warm_cursor, finished FROM runs ORDER BY run"
            runs = tuple(db.execute(query).fetchall())
        finally:
            db.close()
    except (sqlite3.Error, TypeError):
        return Salvage(aside)
    return Salvage(aside, epoch, last, runs)
