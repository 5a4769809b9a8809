"""A ledger in one SQLite file in WAL mode, synchronous=FULL.

SQLite writes with one connection: a lock beside the file keeps a second service away. Readers are always welcome.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError

from cloud_node.ledger.database import Database
from cloud_node.ledger.migration import upgrade
from cloud_node.ledger.reader import SqlReader
from cloud_node.ledger.rows import COLUMNS
from cloud_node.ledger.store import SqlLedger
from cloud_node.ledger.tables import SCHEMA_VERSION, create
from cloud_node.ledger.values import OlderError
from fusion.errors import SpoolError

READERS = 4
"""Threads that may use one reader at the same moment; more wait."""

_SETTINGS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA journal_size_limit = 16777216")
_WRITER = "BEGIN IMMEDIATE", _SETTINGS
_READER = "BEGIN", ("PRAGMA query_only = ON",)

_MARKS = ", ".join("?" * (len(COLUMNS) + 1))
_INSERT = f"INSERT INTO outcomes (id, {', '.join(COLUMNS)}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING"  # noqa: S608 fixed
_INSERT_EVIDENCE = "INSERT INTO evidence (id, blob) VALUES (?, ?)"
_LAST_ID = "SELECT coalesce(max(id), 0) FROM outcomes"
_IDS = "SELECT id FROM outcomes WHERE id >= ?"
_FIND = (
    f"SELECT {', '.join(f'outcomes.{name}' for name in COLUMNS)} FROM json_each(?) AS wanted JOIN outcomes ON "  # noqa: S608 fixed
    "device = json_extract(wanted.value, '$[0]') AND epoch = json_extract(wanted.value, '$[1]') AND "
    "sequence = json_extract(wanted.value, '$[2]') AND item = json_extract(wanted.value, '$[3]')"
)
"""`json_each` and not a list of values: with a list SQLite reads the whole table instead of the index."""


class SqliteDatabase(Database):
    """A file. Who may write keeps one connection for itself, until a write fails: what a failed disk did to it nobody
    knows. Others take one from a pool, and see what is committed.

    What every item passes goes to the driver itself: on the way through statements and results it would cost more time
    than in the database.
    """

    driver: ClassVar[ModuleType] = sqlite3
    upsert = staticmethod(insert)

    def __init__(self, path: Path, *, writes: bool) -> None:
        url = URL.create("sqlite", database=str(path))
        engine = create_engine(url, pool_size=1 if writes else READERS, max_overflow=0, hide_parameters=True)
        _speak(engine, *(_WRITER if writes else _READER))
        super().__init__(str(path), engine)
        self._writes = writes
        self._kept: Connection | None = None

    def insert(
        self, connection: Connection, rows: Sequence[tuple[Any, ...]], blobs: Sequence[bytes | None]
    ) -> list[bool]:
        """See `Database.insert`. Nobody else writes meanwhile, so ids are given here, and all rows go in at once."""
        driver = _driver(connection)
        first = 1 + driver.execute(_LAST_ID).fetchone()[0]
        ids = range(first, first + len(rows))
        inserted = driver.executemany(_INSERT, [(number, *row) for number, row in zip(ids, rows, strict=True)])
        made = set(ids)
        if inserted.rowcount < len(rows):
            made = {number for (number,) in driver.execute(_IDS, (first,))}
        pairs = zip(ids, blobs, strict=True)
        driver.executemany(_INSERT_EVIDENCE, [(n, blob) for n, blob in pairs if blob is not None and n in made])
        return [number in made for number in ids]

    def rows(self, connection: Connection, keys: str) -> Sequence[Sequence[Any]]:
        """See `Database.rows`."""
        return _driver(connection).execute(_FIND, (keys,)).fetchall()

    def close(self) -> None:
        """See `Database.close`."""
        if self._kept is not None:
            self._kept.close()
        super().close()

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        if not self._writes:
            with super()._begin() as connection:
                yield connection
            return
        if self._kept is None:
            self._kept = self._engine.connect()
        try:
            with self._kept.begin():
                yield self._kept
        except (SQLAlchemyError, sqlite3.Error):
            self._kept.invalidate()
            self._kept = None
            raise


class SqliteLedger(SqlLedger):
    """A ledger in a file."""

    def __init__(self, path: Path, database: SqliteDatabase, lock: int, *, keep_evidence: bool) -> None:
        super().__init__(database, keep_evidence=keep_evidence)
        self._path = path
        self._lock: int | None = lock

    @classmethod
    def open(cls, argument: str | Path, *, keep_evidence: bool = True) -> Self:
        """Open, bring up to date or create; raises `SpoolError` when it cannot be, or another service has the file."""
        path = Path(argument)
        lock = _lock(path)
        try:
            database = SqliteDatabase(path, writes=True)
            with database.opening() as connection:
                _prepare(connection, path)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, database, lock, keep_evidence=keep_evidence)

    @classmethod
    def open_reader(cls, argument: str | Path, *, upgrade: bool = False) -> SqlReader:
        """A reader of a file that exists; of an older schema, it raises `OlderError`, or with `upgrade` is brought up
        to date unless a service has it.
        """
        path = Path(argument)
        if not path.is_file():
            raise SpoolError(f"ledger {path}: there is no such file")
        database = SqliteDatabase(path, writes=False)
        with database.opening() as connection:
            version = _version(connection)
            older = 0 < version < SCHEMA_VERSION
            if older and not upgrade:
                raise OlderError(str(path), version)
            if not older and version != SCHEMA_VERSION:
                raise _unknown(path, version)
        if older:
            cls.open(path).close()
        return SqlReader(database)

    def reader(self) -> SqlReader:
        """See `Ledger.reader`."""
        return self.open_reader(self._path)

    def close(self) -> None:
        """Close the file and give the lock back."""
        super().close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _speak(engine: Engine, begin: str, pragmas: Sequence[str]) -> None:
    """Start transactions here and not in the driver, which would begin some late and others not at all."""

    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.text_factory = _text
        for pragma in pragmas:
            connection.execute(pragma)

    def begun(connection: Connection) -> None:
        _driver(connection).execute(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _text(stored: bytes) -> str:
    """Text as it was stored; bytes that are none become marks, which no digest fits, and do not end the statement."""
    return stored.decode(errors="replace")


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _prepare(connection: Connection, path: Path) -> None:
    version = _version(connection)
    if version == SCHEMA_VERSION:
        return
    if version > SCHEMA_VERSION:
        raise _unknown(path, version)
    if version:
        upgrade(connection, version)
    else:
        create(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def _unknown(path: Path, version: int) -> SpoolError:
    return SpoolError(f"ledger {path}: is of schema {version}, this program knows {SCHEMA_VERSION}")


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
