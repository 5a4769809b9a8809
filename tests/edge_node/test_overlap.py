"""The pipeline's second stage in a thread of its own: the same records, sooner, and nothing lost when it fails."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.config import ScreeningSettings, TrackerSettings
from edge_node.fakes import FakePerception, camera_frames
from edge_node.pipeline import Pipeline, Stages
from edge_node.relay import DEPTH, Relay
from edge_node.screener import Screener
from edge_node.spool import FinishRecord, Resume, SampleRecord
from edge_node.tracker import Tracker
from fusion.clock import ManualClock
from fusion.errors import InputError, SpoolError
from fusion.synchronization import Synchronizer, SynchronizerSettings
from fusion.task import Task

WAIT_S = 10.0


class Faulty(FakePerception):
    """Cannot detect in some frames, and cannot fuse others."""

    def __init__(self, blind=(), deaf=()):
        super().__init__()
        self.blind, self.deaf = blind, deaf

    def detect(self, sample):
        if sample.source_cursor in self.blind:
            raise InputError("the lens is covered")
        return super().detect(sample)

    def fuse(self, sample, look):
        if sample.source_cursor in self.deaf:
            raise InputError("no calibration")
        return super().fuse(sample, look)


def pipeline(perception, store, *, overlap=True):
    stages = Stages(
        Synchronizer.of_task(Task.load("yard"), SynchronizerSettings()),
        perception,
        Tracker(TrackerSettings()),
        Screener(ScreeningSettings(audit_rate=0.2, onset_s=0.0)),
    )
    return Pipeline(
        stages, Resume(1, 0), store, ManualClock(), device="cart-1", epoch="a" * 16, sequence=1, overlap=overlap
    )


def records_of(order, late, perception, *, overlap):
    records, frames = [], camera_frames(20)
    made = pipeline(perception, records.append, overlap=overlap)
    for cursor, number in enumerate(order, 1):
        if cursor in late:
            made.skip(cursor, frames[number], "more than 1 s behind")
        else:
            made.feed(cursor, frames[number], source_ns=cursor)
    made.finish()
    return [replace(record, committed_ns=0) if hasattr(record, "committed_ns") else record for record in records]


few = st.sets(st.integers(1, 20), max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 19), max_size=20), few, few, few)
def test_overlapped_stages_give_the_same_records(order, late, blind, deaf):
    one, two = (records_of(order, late, Faulty(blind, deaf), overlap=overlap) for overlap in (False, True))
    assert [type(record) for record in one] == [type(record) for record in two]
    for mine, theirs in zip(one, two, strict=True):
        assert mine.resume == theirs.resume
        assert str(mine) == str(theirs)


def test_the_detector_looks_at_the_next_sample_while_one_is_fused():
    seen = threading.Event()

    class Ahead(FakePerception):
        def detect(self, sample):
            if sample.source_cursor == 2:
                seen.set()
            return super().detect(sample)

        def fuse(self, sample, look):
            assert seen.wait(WAIT_S), "the second sample is not begun before the first one is done"
            return super().fuse(sample, look)

    records = []
    made = pipeline(Ahead(), records.append)
    for cursor, frame in enumerate(camera_frames(3), 1):
        made.feed(cursor, frame)
    made.finish()
    assert [type(record) for record in records] == [SampleRecord] * 3 + [FinishRecord]


def test_what_the_second_stage_raises_reaches_whoever_feeds():
    stored = []

    def store(record):
        if len(stored) == 2:
            raise SpoolError("spool.db: the disk is full")
        stored.append(record)

    made = pipeline(FakePerception(), store)

    def feed():
        for cursor, frame in enumerate(camera_frames(20), 1):
            made.feed(cursor, frame)

    with pytest.raises(SpoolError, match="disk is full"):
        feed()
    made.close()
    assert [record.sequence for record in stored] == [1, 2]


def test_closing_finishes_what_is_begun():
    records = []
    made = pipeline(FakePerception(), records.append)
    for cursor, frame in enumerate(camera_frames(5), 1):
        made.feed(cursor, frame)
    made.close()
    assert [record.sequence for record in records] == [1, 2, 3, 4, 5]


def test_jobs_wait_in_bounded_numbers_and_in_order():
    done, go, given_over = [], threading.Event(), []

    def work(job):
        assert go.wait(WAIT_S)
        done.append(job)

    relay = Relay(work, "test")

    def feed():
        for job in range(10):
            relay.put(job)
            given_over.append(job)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    ends = time.monotonic() + WAIT_S
    while len(given_over) <= DEPTH and time.monotonic() < ends:
        time.sleep(0.01)
    feeder.join(0.3)
    assert len(given_over) == DEPTH + 1  # one is worked on, DEPTH wait, and the next is not taken yet
    go.set()
    feeder.join(WAIT_S)
    relay.close()
    assert done == list(range(10))


def test_an_error_is_told_once_and_ends_the_thread():
    def work(job):
        raise ValueError(job)

    relay = Relay(work, "test")

    def feed():
        for job in range(1, 100):
            relay.put(job)

    with pytest.raises(ValueError, match="1"):
        feed()
    relay.close()
