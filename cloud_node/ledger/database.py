"""What the store and the reader need of a database; SQLite and PostgreSQL differ in this and nothing else."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from cloud_node.ledger.rows import key_of, outcome_of
from cloud_node.ledger.values import AwayError
from cloud_node.outcome import Outcome
from fusion.errors import SpoolError
from fusion.types import ItemId


class Database(ABC):
    """An engine, and the statements that each database says in its own way. `name` may be shown to people."""

    advice: ClassVar[str] = ""
    """What to do when it is away, appended to the error."""

    driver: ClassVar[ModuleType]
    """The Python driver, by whose errors failures are told apart."""

    upsert: ClassVar[Any]
    """The database's `insert`, which knows what to do on conflicts."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self._engine = engine

    @abstractmethod
    def insert(
        self, connection: Connection, rows: Sequence[tuple[Any, ...]], blobs: Sequence[bytes | None]
    ) -> list[bool]:
        """Insert outcomes (`COLUMNS`, of distinct items) with evidence; False where the item has a row already."""

    @abstractmethod
    def rows(self, connection: Connection, keys: str) -> Sequence[Sequence[Any]]:
        """`COLUMNS` of those items that have a row; `keys` is a JSON list of [device, epoch, sequence, item]."""

    @contextmanager
    def transaction(self, what: str) -> Iterator[Connection]:
        """One transaction, committed at the end. What fails is a `SpoolError` saying that it cannot be `what`, an
        `AwayError` where the database itself is not to be had.
        """
        try:
            with self._begin() as connection:
                yield connection
        except (SQLAlchemyError, self.driver.Error) as error:
            raise self._failed(what, error) from None

    @contextmanager
    def opening(self) -> Iterator[Connection]:
        """The first transaction; when it fails nothing stays open."""
        try:
            with self.transaction("opened") as connection:
                yield connection
        except BaseException:
            self.close()
            raise

    def find(self, connection: Connection, items: Sequence[ItemId]) -> dict[ItemId, Outcome]:
        """The outcomes of those items that have one."""
        rows = self.rows(connection, json.dumps([key_of(item) for item in items]))
        return {outcome.item: outcome for outcome in map(outcome_of, rows)}

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _begin(self) -> AbstractContextManager[Connection]:
        return self._engine.begin()

    def _failed(self, what: str, error: Exception) -> SpoolError:
        """The error to raise: the database's own first line, without statement and values."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        text = f"ledger {self.name}: cannot be {what} ({line})"
        if isinstance(cause, (self.driver.OperationalError, self.driver.InterfaceError, NoConnectionError)):
            return AwayError(text + self.advice)
        return SpoolError(text)
