"""What only a server has: several services at once, connections that break, and answers that never come."""

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cloud_node.ledger import AwayError, Correction, open_ledger, open_reader, postgres, without_password
from fusion.errors import ConfigError, SpoolError
from fusion.types import ItemState

STORE_SAME = """
import json, sys
from cloud_node.ledger import open_ledger
from cloud_node.outcome import Outcome
from fusion.types import ItemId, ItemState, SampleId
name, who = sys.argv[1:]
ledger = open_ledger(name)
print("ready", flush=True)
sys.stdin.readline()
said = {}
for group in range(40):
    items = [ItemId(SampleId("cart-1", "0" * 16, 1 + group * 16 + k), 1) for k in range(16)]
    items = items if who == "a" else items[::-1]
    for one in ledger.store([Outcome(item, ItemState.EXPIRED, who, reason=who) for item in items]):
        said[str(one.item)] = one.reason
print(json.dumps(said))
"""


@pytest.fixture
def ledger(postgres_name):
    made = open_ledger(postgres_name)
    yield made
    made.close()


def backend_of(ledger):
    with ledger._database.transaction("read") as connection:
        return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()


def until_stored(ledger, outcomes, limit_s=60):
    """Store again until it works; returns what is stored and how often it failed."""
    failures, until = 0, time.monotonic() + limit_s
    while True:
        try:
            return ledger.store(outcomes), failures
        except SpoolError:
            failures += 1
            assert time.monotonic() < until
            time.sleep(0.02)


def test_two_processes_store_the_same_items_at_the_same_moment(postgres_name):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STORE_SAME, postgres_name, who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in ("a", "b")
    ]  # both find an empty database and make its tables
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1]
    reader = open_reader(postgres_name)
    rows = Counter(str(outcome.item) for outcome in reader.outcomes())
    assert len(rows) == 640
    assert set(rows.values()) == {1}
    assert {str(outcome.item): outcome.reason for outcome in reader.outcomes()} == said[0]
    reader.close()


def test_threads_that_store_in_any_order_neither_deadlock_nor_double(postgres_name, item, outcome):
    def serve(seed):
        rng, ledger = random.Random(seed), open_ledger(postgres_name)
        said = {}
        for first in range(1, 200, 10):
            group = [outcome(item(n), option=f"of {seed}", evidence=b"%d" % seed) for n in range(first, first + 12)]
            rng.shuffle(group)
            said |= {one.item: one.verdict.slots["object"].option for one in ledger.store(group)}
            ledger.record_correction(Correction(item(first), f"{seed}", first, {"object": "cone"}))
        ledger.close()
        return said

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(serve, range(4)))
    assert said[1:] == said[:-1]
    reader = open_reader(postgres_name)
    stored = list(reader.outcomes(with_evidence=True))
    assert len(stored) == len({one.item for one in stored}) == len(said[0])
    assert all(f"of {one.evidence.decode()}" == one.verdict.slots["object"].option for one in stored)
    assert len(reader.corrections(item(1))) == 4
    reader.close()


def test_a_server_killed_between_groups_loses_and_doubles_nothing(postgres_server, ledger, item, outcome):
    groups = [[outcome(item(10 * g + k), evidence=b"e") for k in range(1, 9)] for g in range(6)]
    failures = 0
    for number, group in enumerate(groups):
        assert ledger.store(group) == group
        if number % 2:
            postgres_server.kill()
            with pytest.raises(AwayError, match="cannot be written"):
                ledger.store(group)
            postgres_server.start()
        again, failed = until_stored(ledger, group)
        failures += failed
        assert [one.item for one in again] == [one.item for one in group]
    reader = ledger.reader()
    assert Counter(one.item for one in reader.outcomes()) == Counter(o.item for group in groups for o in group)
    assert all(one.evidence == b"e" for one in reader.outcomes(with_evidence=True))
    reader.close()


def test_a_server_killed_under_load_loses_and_doubles_nothing(postgres_server, ledger, item, outcome):
    told, done = [], threading.Event()

    def serve():
        while not done.is_set():
            group = [outcome(item(16 * len(told) + k), evidence=b"%d" % len(told)) for k in range(1, 17)]
            told.append(until_stored(ledger, group))
        return sum(failures for _, failures in told)

    with ThreadPoolExecutor(1) as pool:
        service = pool.submit(serve)
        for _ in range(3):
            before = len(told)
            while len(told) < before + 5 and not service.done():
                time.sleep(0.01)
            postgres_server.kill()
            postgres_server.start()
        done.set()
        assert service.result(120) > 0
    reader = ledger.reader()
    stored = Counter(one.item for one in reader.outcomes())
    assert set(stored) == {one.item for group, _ in told for one in group}
    assert set(stored.values()) == {1}
    assert all(one.evidence for one in reader.outcomes(with_evidence=True))
    reader.close()


def test_a_lost_connection_is_noticed_before_it_is_used(ledger, item, outcome, postgres_server):
    ledger.store([outcome(item(1))])
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (backend_of(ledger),))
    time.sleep(0.2)
    assert ledger.store([outcome(item(2))]) == [outcome(item(2))]


def test_a_server_that_hangs_loses_its_connection(ledger, item, outcome, monkeypatch):
    monkeypatch.setattr(postgres, "ANSWER_S", 0.5)
    backend = backend_of(ledger)
    os.kill(backend, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with contextlib.suppress(SpoolError):  # the pool may find out and connect again
            ledger.store([outcome(item(1))])
    finally:
        os.kill(backend, signal.SIGCONT)
    assert time.monotonic() - began < 5
    assert until_stored(ledger, [outcome(item(1))])[0] == [outcome(item(1))]
    assert backend_of(ledger) != backend


def stop_in_the_middle(ledger, backend):
    with ledger._database.transaction("written") as connection:
        connection.exec_driver_sql("SELECT 1")
        os.kill(backend, signal.SIGSTOP)
        connection.exec_driver_sql("SELECT 1")


def test_a_server_that_hangs_in_the_middle_fails_the_call(ledger, item, outcome, monkeypatch):
    monkeypatch.setattr(postgres, "ANSWER_S", 0.5)
    backend = backend_of(ledger)
    try:
        with pytest.raises(AwayError, match="no answer within"):
            stop_in_the_middle(ledger, backend)
    finally:
        os.kill(backend, signal.SIGCONT)
    assert ledger.store([outcome(item(1))]) == [outcome(item(1))]


def test_a_statement_that_waits_too_long_ends(postgres_server, postgres_name, item, outcome, monkeypatch):
    monkeypatch.setattr(postgres, "STATEMENT_S", 1)
    ledger = open_ledger(postgres_name)
    with psycopg.connect(postgres_server.dsn()) as other:
        other.execute(f"LOCK TABLE {postgres_name.rpartition('%3D')[2]}.outcomes")
        with pytest.raises(SpoolError, match="statement timeout"):
            ledger.store([outcome(item(1))])
    assert ledger.store([outcome(item(1))]) == [outcome(item(1))]
    ledger.close()


def test_the_session_is_durable_and_readers_cannot_write(ledger):
    reader = ledger.reader()
    with ledger._database.transaction("read") as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "10s"
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
    with pytest.raises(SpoolError, match="read-only"), reader._database.transaction("written") as connection:
        connection.exec_driver_sql("DELETE FROM outcomes")
    reader.close()


def test_a_database_without_a_ledger_has_no_reader(postgres_name):
    with pytest.raises(SpoolError, match=r"no ledger in this database"):
        open_reader(postgres_name)


def test_either_way_to_write_the_scheme(postgres_name, item, outcome):
    ledger = open_ledger(postgres_name.replace("postgresql:", "postgresql+psycopg:"))
    assert ledger.store([outcome(item(1), ItemState.SHED)])
    ledger.close()


@pytest.mark.parametrize(
    "name",
    [
        "postgresql://fusion:s3cr%2Ft@127.0.0.1:1/db",
        "postgresql://fusion:s3cr/t@127.0.0.1:1/db",
        "postgresql://fusion:s3cr@t@127.0.0.1:1/db",
        "postgresql://fusion:s3cr?t@127.0.0.1:1/db",
        "postgresql://fusion:s3cr@127.0.0.1:port/db",
        "postgresql://fusion:s3cr@127.0.0.1:1/",
        "postgresql://fusion@127.0.0.1:1/db?password=s3cr&sslmode=nonsense",
        "oracle://fusion:s3cr@127.0.0.1:1/db",
        "postgresql+other://fusion:s3cr@127.0.0.1:1/db",
    ],
)
def test_passwords_are_never_told(name, caplog):
    caplog.set_level(logging.DEBUG)
    for opening in (open_ledger, open_reader):
        with pytest.raises((SpoolError, ConfigError), match=r"fusion@127\.0\.0\.1:(1|port)") as refusal:
            opening(name)
        assert "s3cr" not in str(refusal.value)
        assert refusal.value.__cause__ is None
    assert "s3cr" not in without_password(name)
    assert "s3cr" not in caplog.text


@pytest.mark.parametrize("argument", ["fusion:s3cr@host/db", "host=h password=s3cr", "//:s3cr@/", "s3cr"])
def test_what_is_no_url_is_not_told_at_all(argument):
    with pytest.raises(ConfigError, match="not of the form postgresql://") as refusal:
        open_ledger(f"postgresql:{argument}")
    assert "s3cr" not in str(refusal.value)


def test_a_server_that_is_not_there_is_named_with_what_to_do(tmp_path):
    with pytest.raises(SpoolError, match=r"ledger postgresql://fusion@/db: cannot be opened .*is the server up"):
        open_ledger(f"postgresql://fusion@/db?host={tmp_path}")
