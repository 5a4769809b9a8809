"""The tables, one definition for both databases. `id` is the order in which rows were stored.

A row's digest covers the columns that tell what happened; `answered_ns` and `value` repeat a number of `timings` and of
`header`, so that the database can sort by it, and are compared with it on reading.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

SCHEMA_VERSION = 3

_NUMBER: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
_VALUE: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")

METADATA = MetaData()
OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("id", _NUMBER, primary_key=True),
    Column("device", Text, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("sequence", _NUMBER, nullable=False),
    Column("item", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("evidence_sha256", Text, nullable=False),
    Column("slots", Text),
    Column("uncertain", Integer),
    Column("lanes", Text),
    Column("reviewer", Text),
    Column("prompt_sha256", Text),
    Column("header", Text),
    Column("timings", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("answered_ns", _NUMBER, nullable=False),
    Column("value", _VALUE, nullable=False),
    Column("rationale", Text),
    UniqueConstraint("device", "epoch", "sequence", "item"),
    CheckConstraint("state IN ('reviewed', 'quarantined', 'expired', 'shed')", name="final_state"),
    sqlite_strict=True,
)
BY_TIME = Index("outcomes_by_time", OUTCOMES.c.answered_ns, OUTCOMES.c.id)
BY_VALUE = Index("outcomes_by_value", OUTCOMES.c.value, OUTCOMES.c.id)

EVIDENCE = Table(
    "evidence",
    METADATA,
    Column("id", _NUMBER, ForeignKey("outcomes.id"), primary_key=True, autoincrement=False),
    Column("blob", LargeBinary, nullable=False),
    sqlite_strict=True,
)
REPORTS = Table(
    "reports",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("received_ns", _NUMBER, nullable=False),
    Column("samples", _NUMBER, nullable=False),
    Column("gaps", _NUMBER, nullable=False),
    Column("items", Text, nullable=False),
    sqlite_strict=True,
)
CORRECTIONS = Table(
    "corrections",
    METADATA,
    Column("id", _NUMBER, primary_key=True),
    Column("outcome", _NUMBER, ForeignKey("outcomes.id"), nullable=False),
    Column("author", Text, nullable=False),
    Column("at_ns", _NUMBER, nullable=False),
    Column("answers", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("digest", Text, nullable=False),
    UniqueConstraint("outcome", "digest"),
    sqlite_strict=True,
)

VERDICTS = """
CREATE VIEW verdicts AS
  SELECT o.device || '/' || o.epoch || '/' || o.sequence || '#' || o.item AS item_id, o.*,
    (SELECT c.author FROM corrections c WHERE c.outcome = o.id ORDER BY c.id DESC LIMIT 1) AS corrected_by
  FROM outcomes o WHERE o.state = 'reviewed'
"""
"""For people with a database shell: every verdict, and who corrected it last."""


def create(connection: Connection) -> None:
    """Make everything that is not there yet."""
    METADATA.create_all(connection)
    connection.execute(text(VERDICTS))
