"""The spool's thread: groups, waits for a full disk, tells of failures, and never dies of a cancelled caller."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import wait
from pathlib import Path

import pytest

from edge_node.config import SpoolSettings
from edge_node.spool import Resume, SampleRecord, Spool, SpoolFullError, SpoolWorker
from fusion.errors import SpoolError


def record(sequence: int, run: int = 1) -> SampleRecord:
    return SampleRecord(sequence, sequence, {}, Resume(run, 0, sequence, 0))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool.open(tmp_path / "spool.db", "cart-1", "yard", settings=SpoolSettings(keep_free_bytes=0))
    spool.resume("c", "r")
    return spool


def test_what_gathers_shares_a_commit(spool):
    commits = []
    worker = SpoolWorker(spool, on_stored=lambda: commits.append(spool.next_sequence - 1))
    begun, hold = threading.Event(), threading.Event()
    worker.start()
    first = worker.call(lambda _: begun.set() or hold.wait(10))
    begun.wait(10)
    rest = [worker.store(record(n)) for n in range(1, 6)]
    hold.set()
    wait([first, *rest], 10)
    worker.close()
    assert commits == [5]


def test_asking_wakes_nobody(spool):
    woken = []
    worker = SpoolWorker(spool, on_stored=lambda: woken.append(True))
    worker.start()
    for _ in range(5):
        worker.call(lambda s: s.waiting()).result(timeout=5)
    assert not woken
    worker.store(record(spool.next_sequence)).result(timeout=5)
    worker.call(lambda s: s.waiting()).result(timeout=5)
    assert len(woken) == 1
    worker.close()


def test_a_full_disk_is_waited_out_and_told_once(spool, monkeypatch, caplog):
    monkeypatch.setattr("edge_node.spool.worker.RETRY_S", 0.02)
    caplog.set_level(logging.WARNING)
    full = threading.Event()
    full.set()

    def commit(spool: Spool) -> str:
        if full.is_set():
            raise SpoolFullError("spool.db: the disk is full")
        return "stored"

    worker = SpoolWorker(spool)
    worker.start()
    future = worker.call(commit)
    with pytest.raises(TimeoutError):
        future.result(0.2)
    full.clear()
    assert future.result(5) == "stored"
    worker.close()
    assert [r.message.rpartition(":")[2] for r in caplog.records] == [" the disk is full", " there is room again"]


def test_a_failure_is_told_to_everyone(spool):
    def fail(_: Spool) -> None:
        raise SpoolError("the disk is gone")

    worker = SpoolWorker(spool)
    worker.start()
    failures = [worker.call(fail), worker.call(lambda s: s.waiting())]
    for future in [*failures, worker.call(lambda s: s.waiting())]:
        with pytest.raises(SpoolError, match="the disk is gone"):
            future.result(5)
    assert isinstance(worker.failure, SpoolError)
    for n in range(1, 20):
        with pytest.raises(SpoolError):
            worker.store(record(n)).result(5)
    worker.close()


def test_a_cancelled_caller_does_no_harm(spool):
    worker = SpoolWorker(spool)
    hold = threading.Event()
    worker.start()

    async def scenario() -> None:
        worker.call(lambda _: hold.wait(10))
        task = asyncio.ensure_future(asyncio.wrap_future(worker.call(lambda s: s.waiting())))
        await asyncio.sleep(0)
        task.cancel()
        hold.set()

    asyncio.run(scenario())
    assert worker.call(lambda s: s.waiting()).result(5) == 0
    assert worker.failure is None
    worker.close()


def test_closing_commits_what_waits(spool, tmp_path):
    worker = SpoolWorker(spool)
    worker.start()
    for n in range(1, 8):
        worker.store(record(n))
    worker.close()
    again = Spool.open(tmp_path / "spool.db", "cart-1", "yard")
    assert again.next_sequence == 8
    again.close()
