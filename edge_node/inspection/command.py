"""`edge-node spool list|show|check|copy`."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from edge_node.inspection.check import faults
from edge_node.inspection.items import Wanted, find, listed, table, told
from edge_node.status import reading
from fusion.clock import SystemClock
from fusion.errors import InputError, SpoolError

_OF_THE_TARGET = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}


def show_list(path: Path, wanted: Wanted, *, as_json: bool) -> None:
    """Print the items, a table or a JSON object a line."""
    with reading(path) as db:
        entries = list(listed(db, wanted))
    lines = [json.dumps(entry) for entry in entries] if as_json else table(entries, SystemClock().wall_ns())
    if lines:
        print("\n".join(lines))


def show_item(path: Path, name: str, picture: Path | None) -> None:
    """Print what is known of one item; `picture` is where its kept picture goes.

    Raises `InputError` when there is no such item, or no picture of it any more.
    """
    with reading(path) as db:
        found = find(db, name)
    print("\n".join(told(found)))
    if picture is None:
        return
    if found.kept.pixels is None:
        raise InputError(f"{name}: no picture of it is kept; what was answered is let go of")
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(found.kept.pixels.encoded)
    except OSError as error:
        raise InputError(f"{picture}: cannot be written ({error.strerror})") from None
    print(f"wrote {picture}: {found.kept.pixels.encoding}, around the item")


def check(path: Path) -> None:
    """Print what is wrong with the spool. Raises `SpoolError` when anything is."""
    with reading(path) as db:
        wrong = list(faults(db))
        (held,) = db.execute("SELECT count(*) FROM outbox").fetchone()
    for line in wrong:
        print(line)
    if wrong:
        raise SpoolError(
            f"{path}: {len(wrong)} faults; the daemon quarantines damaged items and sets a damaged file aside"
        )
    print(f"{path}: whole; {held} items held, each as it was stored")


def copy(path: Path, out: Path) -> None:
    """A consistent copy of the spool as it is now, also while a daemon writes.

    Raises `InputError` when `out` is there already or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: is there already; give a file that is not")
    draft = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with reading(path) as db:
            db.execute("BEGIN")  # all pages as of one moment: without it each commit of the daemon begins the copy anew
            db.execute("SELECT count(*) FROM meta").fetchone()
            _back_up(db, draft, out)
        draft.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    print(f"wrote {out}: {out.stat().st_size} bytes; 'edge-node spool' reads it with --set spool.path={out}")


def _back_up(db: sqlite3.Connection, draft: Path, out: Path) -> None:
    try:
        with closing(sqlite3.connect(draft)) as target:
            db.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_TARGET:
            raise InputError(f"{out}: cannot be written ({error})") from None
        raise
