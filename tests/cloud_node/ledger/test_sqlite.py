"""What only a file has: a lock, a schema of earlier days, and no checksums."""

import fcntl
import sqlite3
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cloud_node.ledger import (
    AwayError,
    Correction,
    OlderError,
    Order,
    Search,
    SqliteLedger,
    migration,
    open_ledger,
    open_reader,
)
from fusion.errors import ConfigError, SpoolError
from fusion.types import ItemId, ItemState, SampleId

EPOCH = "0123456789abcdef"


@pytest.fixture
def old(tmp_path):
    """A ledger of schema 1."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parent / "schema1.sql").read_text())
    connection.close()
    return path


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "text.db").write_text("not a database" * 100)
    for opening in (open_ledger, open_reader):
        with pytest.raises(SpoolError, match=r"text\.db: cannot be opened \(file is not a database\)"):
            opening(str(tmp_path / "text.db"))
    with pytest.raises(SpoolError, match=r"gone\.db: there is no such file"):
        open_reader(f"sqlite:{tmp_path / 'gone.db'}")
    assert not (tmp_path / "gone.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(SpoolError, match="schema 0"):
        open_reader(str(tmp_path / "empty.db"))
    with pytest.raises(ConfigError, match=r"'tape'; known: .*sqlite"):
        open_ledger("tape:x")


def test_one_service_a_ledger_but_readers_are_welcome(tmp_path, item, outcome):
    first = open_ledger(f"sqlite:{tmp_path / 'l.db'}")
    first.store([outcome(item(1))])
    with pytest.raises(SpoolError, match="another service"):
        open_ledger(str(tmp_path / "l.db"))
    reader = open_reader(str(tmp_path / "l.db"))
    assert len(list(reader.outcomes())) == 1
    with pytest.raises(SpoolError, match="readonly"), reader._database.transaction("written") as connection:
        connection.exec_driver_sql("DELETE FROM outcomes")
    first.close()
    open_ledger(str(tmp_path / "l.db")).close()
    reader.close()


def test_a_file_that_cannot_be_opened_is_not_kept_locked(tmp_path):
    path = tmp_path / "l.db"
    path.write_text("not a database" * 100)
    with pytest.raises(SpoolError, match="not a database"):
        open_ledger(str(path))
    path.unlink()
    open_ledger(str(path)).close()


def bare(outcome):
    return replace(outcome, evidence=None)


@pytest.mark.parametrize("opening", ["service", "reader"])
def test_a_ledger_of_schema_1_is_brought_up_to_date(old, opening, outcome):
    if opening == "service":
        open_ledger(str(old)).close()
    reader = open_reader(str(old), upgrade=opening == "reader")
    one, two, three = reader.outcomes(with_evidence=True)
    assert (one.evidence, three.evidence) == (b"evidence of item 1", b"unreadable")
    assert (one.verdict.slots["object"].option, two.verdict.uncertain) == ("drum", False)
    assert (three.state, three.reason, three.header) == (ItemState.QUARANTINED, "bad crc", None)
    by_value = reader.search(Search(Order.VALUE)).records
    assert [record.outcome for record in by_value] == [bare(one) for one in (two, one, three)]
    assert [r.outcome.timings.answered_ns for r in reader.search(Search()).records] == [30, 20, 10]
    (report,) = reader.reports()
    assert report.counts.items == {ItemState.PASSED: 2}
    ledger = open_ledger(str(old))
    which = ItemId(SampleId("cart-1", EPOCH, 2), 1)
    ledger.record_correction(Correction(which, "ada", 1, {"object": "drum"}))
    assert ledger.store([outcome(which)]) == [bare(two)]
    assert reader.one(which).correction.author == "ada"
    ledger.close()
    reader.close()


def test_a_reader_does_not_bring_a_ledger_up_to_date_unless_it_is_told_to(old):
    with pytest.raises(OlderError, match=r"old\.db: is of schema 1; .*--upgrade") as told:
        open_reader(str(old))
    assert told.value.version == 1
    with sqlite3.connect(old) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_an_old_ledger_and_a_new_one_have_the_same_tables(old, tmp_path):
    open_ledger(str(old)).close()
    open_ledger(str(tmp_path / "new.db")).close()
    shapes = []
    for path in (old, tmp_path / "new.db"):
        connection = sqlite3.connect(path)
        names = connection.execute("SELECT name, type FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name")
        shape = {name: (kind, connection.execute(f"PRAGMA table_info({name})").fetchall()) for name, kind in names}
        columns = {
            name: (kind, sorted((row[1], row[2], bool(row[5])) for row in rows)) for name, (kind, rows) in shape.items()
        }
        shapes.append((columns, connection.execute("PRAGMA user_version").fetchone()))
        connection.close()
    assert shapes[0] == shapes[1]


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(old, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(migration, "VERDICTS", "CREATE NONSENSE")
        with pytest.raises(SpoolError, match="NONSENSE"):
            open_ledger(str(old))
    with sqlite3.connect(old) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert {row[1] for row in connection.execute("PRAGMA table_info(outcomes)")}.isdisjoint({"value"})
    connection.close()
    open_ledger(str(old)).close()


def test_an_old_ledger_in_use_is_not_touched(old):
    with (old.parent / "old.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for opening in (open_ledger, partial(open_reader, upgrade=True)):
            with pytest.raises(SpoolError, match="another service"):
                opening(str(old))


def test_text_that_is_none_is_a_damaged_row_and_not_a_ledger_that_is_away(tmp_path, item, outcome):
    ledger = open_ledger(str(tmp_path / "l.db"))
    ledger.store([outcome(item(1)), outcome(item(2))])
    with sqlite3.connect(tmp_path / "l.db") as connection:
        connection.execute("UPDATE outcomes SET task = CAST(x'79e1' AS TEXT) WHERE sequence = 1")
    connection.close()
    reader = ledger.reader()
    page = reader.search(Search())
    assert [record.outcome.item for record in page.records] == [item(2)]
    assert [one.item for one in page.damaged] == [str(item(1))]
    with pytest.raises(SpoolError, match="is damaged") as told:
        ledger.find([item(1)])
    assert not isinstance(told.value, AwayError)
    reader.close()
    ledger.close()


def test_every_commit_is_durable(tmp_path):
    ledger = SqliteLedger.open(tmp_path / "l.db")
    with ledger._database.transaction("read") as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    ledger.close()


def test_a_file_that_somebody_else_locked_is_away_until_it_is_free(tmp_path, item, outcome):
    ledger = SqliteLedger.open(tmp_path / "l.db")
    with ledger._database.transaction("read") as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(AwayError, match=r"l\.db: cannot be written \(database is locked\)"):
        ledger.store([outcome(item(1))])
    other.execute("ROLLBACK")
    other.close()
    assert ledger.store([outcome(item(1))]) == [outcome(item(1))]
    ledger.close()


def test_a_full_disk_stores_nothing_of_a_group(tmp_path, item, outcome):
    ledger = SqliteLedger.open(tmp_path / "l.db")
    with ledger._database.transaction("read") as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    group = [outcome(item(n), evidence=b"x" * 4000) for n in range(1, 9)]
    with pytest.raises(AwayError, match=r"cannot be written \(database or disk is full\)"):
        ledger.store(group)
    assert ledger.find([one.item for one in group]) == [None] * 8
    assert ledger.store(group) == group  # a new connection, whose bound on pages is the usual one
    ledger.close()
