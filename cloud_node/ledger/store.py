"""The store: what a ledger does, said once for both databases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from sqlalchemy import delete, select

from cloud_node.ledger.database import Database
from cloud_node.ledger.reader import SqlReader, is_item
from cloud_node.ledger.rows import correction_row, report_row, row_of
from cloud_node.ledger.tables import CORRECTIONS, OUTCOMES, REPORTS
from cloud_node.ledger.values import Correction, DeviceReport
from cloud_node.outcome import Outcome
from fusion.errors import InputError, SpoolError
from fusion.types import ItemId, LedgerCounts, SampleId


class SqlLedger(ABC):
    """A ledger in a database. Implements `Ledger`."""

    def __init__(self, database: Database, *, keep_evidence: bool) -> None:
        self._database = database
        self._keep_evidence = keep_evidence

    @abstractmethod
    def reader(self) -> SqlReader:
        """See `Ledger.reader`."""

    def find(self, items: Sequence[ItemId]) -> list[Outcome | None]:
        """See `Ledger.find`. A row whose digest does not match raises `SpoolError`."""
        with self._database.transaction("read") as connection:
            found = self._database.find(connection, items)
        return [found.get(item) for item in items]

    def store(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """See `Ledger.store`. Of an item that comes twice in `outcomes` the first is stored."""
        stored: dict[ItemId, Outcome] = {}
        for outcome in outcomes:
            stored.setdefault(outcome.item, outcome)
        rows = [row_of(outcome) for outcome in stored.values()]
        blobs = [outcome.evidence if self._keep_evidence else None for outcome in stored.values()]
        if not rows:
            return []
        with self._database.transaction("written") as connection:
            made = self._database.insert(connection, rows, blobs)
            there = [item for item, new in zip(stored, made, strict=True) if not new]
            found = self._database.find(connection, there) if there else {}
            if len(found) < len(there):
                raise SpoolError(f"ledger {self._database.name}: a row was deleted while it was read; try again")
        stored |= found
        return [stored[outcome.item] for outcome in outcomes]

    def store_reports(self, reports: Sequence[DeviceReport]) -> None:
        """See `Ledger.store_reports`. In the order of devices, so that two services never wait for each other."""
        rows = [report_row(report) for report in sorted(reports, key=lambda one: (one.device, one.epoch))]
        if not rows:
            return
        statement = self._database.upsert(REPORTS)
        key = REPORTS.c.device, REPORTS.c.epoch
        told = {column.name: statement.excluded[column.name] for column in REPORTS.c if column not in key}
        with self._database.transaction("written") as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=key, set_=told), rows)

    def probe(self) -> None:
        """See `Ledger.probe`. A report of nobody is written and deleted in one transaction."""
        nobody = report_row(DeviceReport("", "", 0, LedgerCounts(0, 0, {})))
        with self._database.transaction("written") as connection:
            connection.execute(self._database.upsert(REPORTS).on_conflict_do_nothing(), nobody)
            connection.execute(delete(REPORTS).where(REPORTS.c.device == "", REPORTS.c.epoch == ""))

    def record_correction(self, correction: Correction) -> None:
        """See `Ledger.record_correction`. The outcome is locked, so that corrections get their ids in turn."""
        item, row = correction.item, correction_row(correction)
        wanted = select(OUTCOMES.c.id).where(is_item(item)).with_for_update(key_share=True)
        with self._database.transaction("written") as connection:
            outcome = connection.scalar(wanted)
            if outcome is None:
                raise InputError(f"{item} has no outcome that could be corrected")
            statement = self._database.upsert(CORRECTIONS).on_conflict_do_nothing()
            connection.execute(statement, {"outcome": outcome, **row})

    def last_acknowledged(self, device: str, epoch: str) -> ItemId | None:
        """See `Ledger.last_acknowledged`."""
        number = OUTCOMES.c.sequence, OUTCOMES.c.item
        whose = OUTCOMES.c.device == device, OUTCOMES.c.epoch == epoch
        statement = select(*number).where(*whose).order_by(*(column.desc() for column in number)).limit(1)
        with self._database.transaction("read") as connection:
            row = connection.execute(statement).first()
        return ItemId(SampleId(device, epoch, row.sequence), row.item) if row else None

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
