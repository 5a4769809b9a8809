"""A ledger in PostgreSQL, through psycopg 3. Several services may share a database: whoever stores an item first wins.

Nothing waits for ever: a statement ends after `STATEMENT_S`, and a server that does not even say so loses its
connection after `ANSWER_S`. A lost connection fails the call that meets it; the next call connects again.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from operator import itemgetter
from types import ModuleType
from typing import Any, ClassVar, Self, TypeVar

import psycopg
from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Integer,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, insert
from sqlalchemy.exc import ArgumentError

from cloud_node.ledger.database import Database
from cloud_node.ledger.migration import upgrade
from cloud_node.ledger.opening import without_password
from cloud_node.ledger.reader import SqlReader
from cloud_node.ledger.rows import COLUMNS
from cloud_node.ledger.store import SqlLedger
from cloud_node.ledger.tables import EVIDENCE, OUTCOMES, SCHEMA_VERSION, create
from cloud_node.ledger.values import OlderError
from fusion.errors import ConfigError, SpoolError

CONNECT_S = 5
STATEMENT_S = 10
ANSWER_S = 15.0

_CREATING = 0x66757369_6F6E
"""The advisory lock of whoever creates tables."""

_WRITER = "-c synchronous_commit=on"
_READER = "-c default_transaction_read_only=on"
_VERSION = text("SELECT version FROM ledger_schema")

_R = TypeVar("_R")


def _find() -> Select[Any]:
    wanted = func.json_array_elements(cast(bindparam("keys", type_=Text), JSON)).table_valued("value")
    types = ("device", Text), ("epoch", Text), ("sequence", BigInteger), ("item", Integer)
    same = (OUTCOMES.c[name] == cast(wanted.c.value.op("->>")(place), kind) for place, (name, kind) in enumerate(types))
    return select(*(OUTCOMES.c[name] for name in COLUMNS)).select_from(wanted).join(OUTCOMES, and_(*same))


def _insert(table: Table, names: Sequence[str]) -> Any:
    """Rows as one array a column: a statement that is always the same text, however many rows there are."""
    arrays = (bindparam(name, type_=ARRAY(table.c[name].type)) for name in names)
    return insert(table).from_select(names, select(func.unnest(*arrays).table_valued(*names).render_derived()))


_FIND = _find()
_KEY = OUTCOMES.c.device, OUTCOMES.c.epoch, OUTCOMES.c.sequence, OUTCOMES.c.item
_INSERT = _insert(OUTCOMES, COLUMNS).on_conflict_do_nothing().returning(OUTCOMES.c.id, *_KEY)
_INSERT_EVIDENCE = _insert(EVIDENCE, ("id", "blob"))


class PostgresDatabase(Database):
    """A database that `url` names; `options` are the session's settings."""

    advice = "; is the server up, and do host, database, user and password fit?"
    driver: ClassVar[ModuleType] = psycopg
    upsert = staticmethod(insert)

    def __init__(self, url: URL, options: str, connections: int) -> None:
        theirs = url.query.get("options", "")
        limits = f"-c statement_timeout={STATEMENT_S}s -c idle_in_transaction_session_timeout={STATEMENT_S}s"
        options = " ".join([*([theirs] if isinstance(theirs, str) else theirs), limits, options])
        url = url.set(query={"connect_timeout": str(CONNECT_S), **url.query, "options": options})
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=ANSWER_S,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            use_native_hstore=False,
        )
        event.listen(engine, "do_connect", _connect)
        super().__init__(without_password(str(url.render_as_string())), engine)

    def insert(
        self, connection: Connection, rows: Sequence[tuple[Any, ...]], blobs: Sequence[bytes | None]
    ) -> list[bool]:
        """See `Database.insert`. In the order of items, so that two services never wait for each other in a circle."""
        ordered = sorted(rows, key=itemgetter(0, 1, 2, 3))
        arrays = zip(COLUMNS, map(list, zip(*ordered, strict=True)), strict=True)
        made = {tuple(key): number for number, *key in connection.execute(_INSERT, dict(arrays))}
        ids = [made.get(row[:4]) for row in rows]
        kept = {number: blob for number, blob in zip(ids, blobs, strict=True) if number and blob is not None}
        if kept:
            connection.execute(_INSERT_EVIDENCE, {"id": list(kept), "blob": list(kept.values())})
        return [number is not None for number in ids]

    def rows(self, connection: Connection, keys: str) -> Sequence[Sequence[Any]]:
        """See `Database.rows`."""
        return connection.execute(_FIND, {"keys": keys}).all()


class PostgresLedger(SqlLedger):
    """A ledger in a PostgreSQL database."""

    def __init__(self, argument: str, database: PostgresDatabase, *, keep_evidence: bool) -> None:
        super().__init__(database, keep_evidence=keep_evidence)
        self._argument = argument

    @classmethod
    def open(cls, argument: str, *, keep_evidence: bool = True) -> Self:
        """Open `//user:password@host/database`, making the tables if they are missing; raises `SpoolError`."""
        database = PostgresDatabase(_url(argument), _WRITER, connections=1)
        with database.opening() as connection:
            if not _exists(connection):
                connection.execute(select(func.pg_advisory_xact_lock(_CREATING)))
                if not _exists(connection):
                    create(connection)
                    connection.execute(text("CREATE TABLE ledger_schema (version INTEGER PRIMARY KEY)"))
                    connection.execute(text("INSERT INTO ledger_schema VALUES (:version)"), {"version": SCHEMA_VERSION})
            if connection.scalar(_VERSION) == 2:
                connection.execute(select(func.pg_advisory_xact_lock(_CREATING)))
                if connection.scalar(_VERSION) == 2:  # nobody else brought it up to date meanwhile
                    upgrade(connection, 2)
                    connection.execute(text("UPDATE ledger_schema SET version = :version"), {"version": SCHEMA_VERSION})
            _check_version(connection, database.name)
        return cls(argument, database, keep_evidence=keep_evidence)

    @classmethod
    def open_reader(cls, argument: str, *, upgrade: bool = False) -> SqlReader:
        """A reader of tables that exist; the user needs no right to write, but to `upgrade` those of schema 2, which
        raise `OlderError` otherwise.
        """
        database = PostgresDatabase(_url(argument), _READER, connections=4)
        with database.opening() as connection:
            if not _exists(connection):
                raise SpoolError(f"ledger {database.name}: there is no ledger in this database")
            older = upgrade and connection.scalar(_VERSION) == 2
            if not older:
                _check_version(connection, database.name)
        if older:
            cls.open(argument).close()
        return SqlReader(database)

    def reader(self) -> SqlReader:
        """See `Ledger.reader`."""
        return self.open_reader(self._argument)


class _Bounded(psycopg.Connection[Any]):
    """A connection whose every answer comes within `ANSWER_S`, or it is closed."""

    def wait(self, gen: Generator[Any, Any, _R], *args: Any, **kwargs: Any) -> _R:
        return super().wait(self._within(gen), *args, **kwargs)

    def _within(self, gen: Generator[Any, Any, _R]) -> Generator[Any, Any, _R]:
        """`gen`, which is sent a 0 each time nothing came for a while."""
        until = time.monotonic() + ANSWER_S
        try:
            waits_for = next(gen)
            while True:
                ready = yield waits_for
                if not ready and time.monotonic() > until:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {ANSWER_S:g} s")
                waits_for = gen.send(ready)
        except StopIteration as end:
            told: _R = end.value
            return told


def _connect(_dialect: object, _record: object, args: Sequence[Any], kwargs: dict[str, Any]) -> _Bounded:
    return _Bounded.connect(*args, **kwargs)


def _url(argument: str) -> URL:
    try:
        url = make_url(f"postgresql:{argument}")
    except (ArgumentError, ValueError):
        url = None
    if url is None or not url.database:
        raise ConfigError(
            f"ledger {without_password(f'postgresql:{argument}')!r}: not of the form "
            "postgresql://user:password@host/database, with % @ : / ? # in a password as %25 %40 %3A %2F %3F %23"
        )
    return url


def _exists(connection: Connection) -> bool:
    return inspect(connection).has_table("ledger_schema")


def _check_version(connection: Connection, name: str) -> None:
    version = connection.scalar(_VERSION)
    if version == 2:
        raise OlderError(name, version)
    if version != SCHEMA_VERSION:
        raise SpoolError(f"ledger {name}: is of schema {version}, this program knows {SCHEMA_VERSION}")
