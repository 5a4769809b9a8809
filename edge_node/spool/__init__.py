"""The durable spool between screening and uplink."""

from edge_node.spool.files import SpoolFullError
from edge_node.spool.records import (
    FinishRecord,
    GapRecord,
    ItemRecord,
    Marks,
    OutboxBlobs,
    OutboxRow,
    Record,
    Resume,
    SampleRecord,
    Timing,
    row_digest,
)
from edge_node.spool.store import Spool
from edge_node.spool.worker import SpoolWorker

__all__ = [
    "FinishRecord",
    "GapRecord",
    "ItemRecord",
    "Marks",
    "OutboxBlobs",
    "OutboxRow",
    "Record",
    "Resume",
    "SampleRecord",
    "Spool",
    "SpoolFullError",
    "SpoolWorker",
    "Timing",
    "row_digest",
]
