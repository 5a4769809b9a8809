"""The ledger: exactly one row an item, whatever comes twice. SQLite here; the interface is what others implement.

Every store is one transaction with synchronous=FULL (group commit: pass many outcomes). SQLite does not checksum
its pages, so each row carries a digest that is checked when it is read. One process, one connection: a lock beside
the file keeps a second service away (readers may open it with `read_only`).
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, Self

from cloud_node.outcome import Outcome
from cloud_node.rows import COLUMNS, SCHEMA, SCHEMA_VERSION, WHERE_ITEM, digest_of, key_of, outcome_of, row_of
from fusion.errors import ConfigError, SpoolError
from fusion.types import ItemId, ItemState, LedgerCounts, SampleId

ENTRY_POINTS = "fusion.sinks"


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """A device's totals as it last told them; `received_ns` is the service's wall clock."""

    device: str
    epoch: str
    received_ns: int
    counts: LedgerCounts


class Ledger(Protocol):
    """Where outcomes are kept. Called from one thread. Raises `SpoolError` when it cannot be read or written."""

    def find(self, items: Sequence[ItemId]) -> list[Outcome | None]:
        """What is stored about each item."""

    def store(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Store all in one durable transaction; of an item that is already there, the stored outcome is returned."""

    def store_report(self, report: DeviceReport) -> None:
        """Keep a device's totals; an older report of the same epoch is replaced."""

    def last_acknowledged(self, device: str, epoch: str) -> ItemId | None:
        """The highest item of a device's epoch that has an outcome."""

    def counts(self) -> dict[ItemState, int]:
        """Outcomes by state."""

    def close(self) -> None:
        """Let go of the storage."""


def open_ledger(name: str, *, keep_evidence: bool = True) -> Ledger:
    """The ledger `SCHEME:ARGUMENT` of the entry points `fusion.sinks`; a bare path is SQLite's.

    Raises `ConfigError` for an unknown scheme, `SpoolError` for storage that cannot be opened.
    """
    scheme, colon, argument = name.partition(":")
    if not colon:
        scheme, argument = "sqlite", name
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if scheme not in found:
        raise ConfigError(f"ledger {name!r}: no sink is called {scheme!r}; known: {', '.join(sorted(found))}")
    ledger: Ledger = found[scheme].load().open(argument, keep_evidence=keep_evidence)
    return ledger


class SqliteLedger:
    """A ledger in one SQLite file in WAL mode."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int | None, *, keep_evidence: bool) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock
        self._keep_evidence = keep_evidence

    @classmethod
    def open(cls, argument: str | Path, *, keep_evidence: bool = True, read_only: bool = False) -> Self:
        """Open or create the file; raises `SpoolError` when it cannot be, or when another service has it."""
        path = Path(argument)
        if read_only and not path.is_file():
            raise SpoolError(f"ledger {path}: there is no such file")
        lock = None if read_only else _lock(path)
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            else:
                _prepare(connection)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise SpoolError(f"ledger {path}: cannot be opened ({error})") from None
        if version != SCHEMA_VERSION:
            raise SpoolError(f"ledger {path}: is of schema {version}, this program knows {SCHEMA_VERSION}")
        return cls(path, connection, lock, keep_evidence=keep_evidence)

    def find(self, items: Sequence[ItemId]) -> list[Outcome | None]:
        """See `Ledger.find`. A row whose digest does not match raises `SpoolError`."""
        try:
            return [self._find(item) for item in items]
        except sqlite3.Error as error:
            raise self._failed("read", error) from None

    def store(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """See `Ledger.store`."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                stored = [self._store(outcome) for outcome in outcomes]
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._failed("written", error) from None
        return stored

    def store_report(self, report: DeviceReport) -> None:
        """See `Ledger.store_report`."""
        counts = report.counts
        items = json.dumps({state.value: number for state, number in counts.items.items()}, sort_keys=True)
        row = (report.device, report.epoch, report.received_ns, counts.samples, counts.gaps, items)
        try:
            self._connection.execute("INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise self._failed("written", error) from None

    def last_acknowledged(self, device: str, epoch: str) -> ItemId | None:
        """See `Ledger.last_acknowledged`."""
        whose = "SELECT sequence, item FROM outcomes WHERE device = ? AND epoch = ?"
        row = self._rows(f"{whose} ORDER BY sequence DESC, item DESC LIMIT 1", (device, epoch)).fetchone()
        return ItemId(SampleId(device, epoch, row[0]), row[1]) if row else None

    def counts(self) -> dict[ItemState, int]:
        """See `Ledger.counts`."""
        rows = self._rows("SELECT state, count(*) FROM outcomes GROUP BY state")
        return {ItemState(state): number for state, number in rows}

    def outcomes(self, *, with_evidence: bool = False) -> Iterator[Outcome]:
        """All outcomes in the order they were stored, digests checked."""
        blob = "(SELECT blob FROM evidence e WHERE e.id = o.id)" if with_evidence else "NULL"
        for row in self._rows(f"SELECT digest, {blob}, {COLUMNS} FROM outcomes o ORDER BY id"):  # noqa: S608 fixed text
            yield outcome_of(row[2:], row[0], row[1])

    def reports(self) -> list[DeviceReport]:
        """The last report of each device's epoch."""
        rows = self._rows("SELECT device, epoch, received_ns, samples, gaps, items FROM reports ORDER BY device, epoch")
        return [
            DeviceReport(
                device, epoch, ns, LedgerCounts(samples, gaps, {ItemState(k): v for k, v in json.loads(items).items()})
            )
            for device, epoch, ns, samples, gaps, items in rows
        ]

    def close(self) -> None:
        """Close the file and give the lock back."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(query, parameters)
        except sqlite3.Error as error:
            raise self._failed("read", error) from None

    def _find(self, item: ItemId) -> Outcome | None:
        query = f"SELECT digest, {COLUMNS} FROM outcomes WHERE {WHERE_ITEM}"  # noqa: S608 fixed text
        row = self._connection.execute(query, key_of(item)).fetchone()
        return outcome_of(row[1:], row[0], None) if row else None

    def _store(self, outcome: Outcome) -> Outcome:
        row = row_of(outcome)
        marks = ", ".join("?" * (len(row) + 1))
        query = f"INSERT INTO outcomes ({COLUMNS}, digest) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 fixed
        inserted = self._connection.execute(query, (*row, digest_of(row)))
        if not inserted.rowcount:
            stored = self._find(outcome.item)
            assert stored is not None
            return stored
        if self._keep_evidence and outcome.evidence is not None:
            self._connection.execute("INSERT INTO evidence VALUES (?, ?)", (inserted.lastrowid, outcome.evidence))
        return outcome

    def _failed(self, what: str, error: sqlite3.Error) -> SpoolError:
        return SpoolError(f"ledger {self._path}: cannot be {what} ({error})")


def _lock(path: Path) -> int:
    beside = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(beside, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SpoolError(f"ledger {path}: cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise SpoolError(f"ledger {path}: another service is using it") from None
    return lock


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 16777216")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
