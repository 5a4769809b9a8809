"""The ledger: exactly one row an item, whatever comes twice; in SQLite or PostgreSQL.

`Ledger` writes and `LedgerReader` looks (`protocol`); both are found by name (`opening`). One schema serves both
databases (`tables`), one store and one reader do the work (`store`, `reader`), and what differs between the databases
is in `sqlite` and `postgres`.
"""

from cloud_node.ledger.opening import open_ledger, open_reader, without_password
from cloud_node.ledger.protocol import Ledger, LedgerReader
from cloud_node.ledger.reader import undamaged
from cloud_node.ledger.sqlite import SqliteLedger
from cloud_node.ledger.values import (
    UNSURE,
    AwayError,
    Correction,
    Damaged,
    DeviceReport,
    OlderError,
    Order,
    Page,
    Record,
    Search,
)

__all__ = [
    "UNSURE",
    "AwayError",
    "Correction",
    "Damaged",
    "DeviceReport",
    "Ledger",
    "LedgerReader",
    "OlderError",
    "Order",
    "Page",
    "Record",
    "Search",
    "SqliteLedger",
    "open_ledger",
    "open_reader",
    "undamaged",
    "without_password",
]
