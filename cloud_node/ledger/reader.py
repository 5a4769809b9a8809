"""The reader: looks at a ledger through connections of its own, said once for both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, null, select

from cloud_node.ledger.database import Database
from cloud_node.ledger.rows import COLUMNS, correction_of, key_of, name_of, outcome_of, report_of
from cloud_node.ledger.search import cursor_of, following
from cloud_node.ledger.tables import CORRECTIONS, EVIDENCE, OUTCOMES, REPORTS
from cloud_node.ledger.values import Correction, Damaged, DeviceReport, Page, Record, Search
from cloud_node.outcome import Outcome
from fusion.errors import InputError, SpoolError
from fusion.types import ItemId, ItemState

T = TypeVar("T")
MAX_PAGE = 1000
TOGETHER = 256
"""Rows that `outcomes` reads in one transaction."""


class SqlReader:
    """Reads a database. Implements `LedgerReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def one(self, item: ItemId, *, with_evidence: bool = False) -> Record | None:
        """See `LedgerReader.one`."""
        with self._database.transaction("read") as connection:
            rows = connection.execute(_outcomes(with_evidence=with_evidence).where(is_item(item))).all()
            said = _said(connection, rows)
        return next((_record(row, said) for row in rows), None)

    def search(self, search: Search, *, limit: int = 50, cursor: str = "") -> Page:
        """See `LedgerReader.search`."""
        if not 1 <= limit <= MAX_PAGE:
            raise InputError(f"a page of {limit} outcomes: ask for 1 to {MAX_PAGE}")
        statement = following(_outcomes(with_evidence=False), search, cursor)
        with self._database.transaction("read") as connection:
            rows = connection.execute(statement.limit(limit + 1)).all()
            said = _said(connection, rows[:limit])
        more = len(rows) > limit
        found = [_or_damaged(row, lambda row: _record(row, said)) for row in rows[:limit]]
        records = tuple(one for one in found if isinstance(one, Record))
        damaged = tuple(one for one in found if isinstance(one, Damaged))
        return Page(records, cursor_of(search, rows[limit - 1]) if more else "", damaged)

    def corrections(self, item: ItemId) -> list[Correction]:
        """See `LedgerReader.corrections`."""
        statement = _corrections().join(OUTCOMES, OUTCOMES.c.id == CORRECTIONS.c.outcome).where(is_item(item))
        with self._database.transaction("read") as connection:
            return [correction_of(item, told, digest) for _, digest, *told in connection.execute(statement)]

    def outcomes(self, *, with_evidence: bool = False) -> Iterator[Outcome | Damaged]:
        """See `LedgerReader.outcomes`. No transaction is open between rows."""
        statement = _outcomes(with_evidence=with_evidence).order_by(OUTCOMES.c.id).limit(TOGETHER)
        last = 0
        while True:
            with self._database.transaction("read") as connection:
                rows = connection.execute(statement.where(OUTCOMES.c.id > last)).all()
            for row in rows:
                last = row.id
                yield _or_damaged(row, _outcome)
            if len(rows) < TOGETHER:
                return

    def counts(self) -> dict[ItemState, int]:
        """See `LedgerReader.counts`."""
        with self._database.transaction("read") as connection:
            rows = connection.execute(select(OUTCOMES.c.state, func.count()).group_by(OUTCOMES.c.state))
            return {ItemState(state): number for state, number in rows}

    def reports(self) -> list[DeviceReport]:
        """See `LedgerReader.reports`."""
        with self._database.transaction("read") as connection:
            rows = connection.execute(select(REPORTS).order_by(REPORTS.c.device, REPORTS.c.epoch))
            return [report_of(row) for row in rows]

    def close(self) -> None:
        """Close every connection."""
        self._database.close()


def is_item(item: ItemId) -> ColumnElement[bool]:
    """The condition that a row of `outcomes` is about `item`."""
    device, epoch, sequence, number = key_of(item)
    columns = OUTCOMES.c
    return and_(columns.device == device, columns.epoch == epoch, columns.sequence == sequence, columns.item == number)


def _outcomes(*, with_evidence: bool) -> Select[Any]:
    """`COLUMNS`, then `id` and `blob`."""
    columns = [OUTCOMES.c[name] for name in COLUMNS]
    if not with_evidence:
        return select(*columns, OUTCOMES.c.id, null().label("blob"))
    joined = OUTCOMES.outerjoin(EVIDENCE, EVIDENCE.c.id == OUTCOMES.c.id)
    return select(*columns, OUTCOMES.c.id, EVIDENCE.c.blob).select_from(joined)


def _corrections() -> Select[Any]:
    told = CORRECTIONS.c.author, CORRECTIONS.c.at_ns, CORRECTIONS.c.answers, CORRECTIONS.c.note
    return select(CORRECTIONS.c.outcome, CORRECTIONS.c.digest, *told).order_by(CORRECTIONS.c.id)


def undamaged(outcomes: Iterable[Outcome | Damaged]) -> Iterator[Outcome]:
    """The outcomes, for who can do without none; raises `SpoolError` at the first that is damaged."""
    for one in outcomes:
        if isinstance(one, Damaged):
            raise SpoolError(one.line)
        yield one


def _or_damaged(row: Row[Any], read: Callable[[Row[Any]], T]) -> T | Damaged:
    try:
        return read(row)
    except SpoolError as error:
        return Damaged(name_of(row), str(error))


def _outcome(row: Row[Any]) -> Outcome:
    return outcome_of(row[:-2], row.blob)


def _said(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, list[Sequence[Any]]]:
    """The corrections of each row, by its id and in order, as (digest, author, at_ns, answers, note)."""
    said: dict[int, list[Sequence[Any]]] = {}
    if rows:
        wanted = CORRECTIONS.c.outcome.in_([row.id for row in rows])
        for number, *told in connection.execute(_corrections().where(wanted)):
            said.setdefault(number, []).append(told)
    return said


def _record(row: Row[Any], said: Mapping[int, Sequence[Sequence[Any]]]) -> Record:
    """A row's outcome with its last correction; raises `SpoolError` when one of them is damaged."""
    outcome = _outcome(row)
    corrections = [correction_of(outcome.item, told, digest) for digest, *told in said.get(row.id, ())]
    return Record(outcome, corrections[-1] if corrections else None)
