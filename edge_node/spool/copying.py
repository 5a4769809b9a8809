"""A spool's rows, sample by sample, out of one spool and into a new one. Columns are those of `schema`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from edge_node.spool.records import row_digest, sealed
from edge_node.spool.rows import compact, crop_columns, read_kept
from edge_node.spool.schema import PRAGMAS, SCHEMA, TABLES
from fusion.errors import SpoolError
from fusion.types import ItemId, KeptLanes, SampleId
from fusion.wire.lanes import serialize_kept

_PAGE = 64
"""Samples read at once."""
_JSON = {"slots", "scores", "opinion"}
_FAST = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", PRAGMAS[-1])
_OUTBOX = "sequence, item, profile, value, created_ns, evidence, crop, crop_form, digest, bytes, context"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SpooledItem:
    """An item's row, its JSON columns as values; what waits for an answer has `evidence` (empty: nothing waits)."""

    row: Row
    evidence: bytes = b""
    profile: str = ""
    kept: KeptLanes = field(default_factory=KeptLanes)


@dataclass(frozen=True, slots=True)
class SpooledSample:
    """A sample's row, its JSON columns as values, and its items in order."""

    row: Row
    items: tuple[SpooledItem, ...]


@dataclass(frozen=True, slots=True)
class SpoolNames:
    """Whose spool it is, and which recording its run read."""

    device: str
    epoch: str
    task: str
    content: str = ""


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The spool at `path`, read only. Raises `SpoolError` naming the file."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            yield db
    except (sqlite3.Error, ValueError) as error:
        raise SpoolError(f"{path}: cannot be read as a spool ({error}); run the recording again") from None


def read_names(db: sqlite3.Connection) -> SpoolNames:
    """Whose spool it is."""
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    run = db.execute("SELECT content FROM runs ORDER BY run DESC LIMIT 1").fetchone()
    return SpoolNames(meta["device"], meta["epoch"], meta["task"], run["content"] if run else "")


def read_samples(db: sqlite3.Connection) -> Iterator[SpooledSample]:
    """Every sample with its items, in order, a page at a time.

    Raises `SpoolError` naming an item whose evidence is not what was stored. A damaged context is none.
    """
    names, after = read_names(db), 0
    page = "SELECT * FROM samples WHERE sequence > ? ORDER BY sequence LIMIT ?"
    while samples := db.execute(page, (after, _PAGE)).fetchall():
        span = (samples[0]["sequence"], samples[-1]["sequence"])
        where = "WHERE sequence BETWEEN ? AND ? ORDER BY sequence, item"
        waiting = {(row["sequence"], row["item"]): row for row in db.execute(f"SELECT * FROM outbox {where}", span)}  # noqa: S608
        found = db.execute(f"SELECT * FROM items {where}", span)  # noqa: S608
        items = {sequence: list(rows) for sequence, rows in groupby(found, key=lambda row: int(row["sequence"]))}
        for sample in samples:
            mine = items.get(sample["sequence"], [])
            yield SpooledSample(_values(sample), tuple(_item(names, row, waiting) for row in mine))
        after = span[1]


def read_gaps(db: sqlite3.Connection) -> Iterator[Row]:
    """Every declared gap, in order."""
    yield from map(dict, db.execute("SELECT * FROM gaps ORDER BY id"))


def _values(row: sqlite3.Row) -> Row:
    return {name: json.loads(row[name] or "{}") if name in _JSON else row[name] for name in row.keys()}  # noqa: SIM118


def _item(names: SpoolNames, row: sqlite3.Row, waiting: Mapping[tuple[int, int], sqlite3.Row]) -> SpooledItem:
    out = waiting.get((row["sequence"], row["item"]))
    if out is None:
        return SpooledItem(_values(row))
    item = ItemId(SampleId(names.device, names.epoch, row["sequence"]), row["item"])
    if row_digest(item, out["evidence"], out["crop"], out["crop_form"]) != out["digest"]:
        raise SpoolError(f"evidence of {item} was damaged on disk; run the recording again")
    kept = read_kept(item, out["crop"], out["crop_form"], out["context"])
    return SpooledItem(_values(row), out["evidence"], out["profile"], kept)


class SpoolCopy:
    """A new spool in the making at `path`, which must not exist; `Spool.open` reads it once it is closed.

    What is added must be what a spool could hold; it is not checked again. Raises `SpoolError`.
    """

    def __init__(self, path: Path, names: SpoolNames) -> None:
        self._path, self._names = path, names
        with self._translated():
            self._db = sqlite3.connect(path, isolation_level=None)
            for statement in (*_FAST, "BEGIN", *TABLES):
                self._db.execute(statement)
            meta = {"schema": SCHEMA, "device": names.device, "task": names.task, "epoch": names.epoch, "born_ns": "0"}
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            self._db.execute("INSERT INTO runs VALUES (1, ?, 'first', 0, 0, 0, '', 1)", (names.content,))

    def sample(self, sample: SpooledSample) -> None:
        """Add a sample with its items and what waits of them."""
        with self._translated():
            self._insert("samples", sample.row)
            for item in sample.items:
                self._insert("items", item.row)
                if item.evidence:
                    self._wait(item)

    def gap(self, gap: Row) -> None:
        """Add a declared gap."""
        with self._translated():
            self._insert("gaps", gap)

    def close(self, *, commit: bool = True) -> None:
        """Make it whole; or, without `commit`, let go of it."""
        with self._translated():
            if commit:
                last = "SELECT coalesce(max(cursor), 0) FROM samples"
                self._db.execute(f"UPDATE runs SET cursor = ({last}), warm_cursor = ({last})")  # noqa: S608
                self._db.execute("COMMIT")
            self._db.close()

    def _wait(self, item: SpooledItem) -> None:
        row, kept = item.row, item.kept
        whose = ItemId(SampleId(self._names.device, self._names.epoch, row["sequence"]), row["item"])
        picture, form = crop_columns(kept.pixels)
        context = sealed(whose, serialize_kept(KeptLanes(None, kept.points, kept.sound)))
        values = (
            row["sequence"], row["item"], item.profile, row["value"], row["decided_ns"], item.evidence, picture, form,
            row_digest(whose, item.evidence, picture, form), len(item.evidence) + len(picture) + len(context), context,
        )  # fmt: skip
        self._db.execute(f"INSERT INTO outbox ({_OUTBOX}) VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608

    def _insert(self, table: str, row: Row) -> None:
        values = [compact(value) if name in _JSON else value for name, value in row.items()]
        marks = ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", values)  # noqa: S608

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise SpoolError(f"{self._path}: cannot be written ({error}); check the disk") from None
