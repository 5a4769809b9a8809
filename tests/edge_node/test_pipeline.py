"""Readings to records: ids, gaps, timing, and going on exactly where the spool says."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

from edge_node.config import ScreeningSettings, TrackerSettings
from edge_node.fakes import FakePerception, camera_frames, detection
from edge_node.perception import Look
from edge_node.pipeline import Pipeline, Stages
from edge_node.screener import Screener
from edge_node.spool import FinishRecord, GapRecord, Resume, SampleRecord
from edge_node.tracker import Tracker
from fusion.clock import ManualClock
from fusion.errors import EvidenceError, InputError
from fusion.synchronization import Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.types import Box2D, Gap, Image, ItemState, Modality, Reading

NEW = Resume(1, 0)


@dataclass
class Bench:
    """A pipeline whose records are kept in a list."""

    perception: FakePerception = field(default_factory=FakePerception)
    resume: Resume = NEW
    sequence: int = 1
    clock: ManualClock = field(default_factory=ManualClock)
    screening: dict = field(default_factory=dict)
    overlap: bool = False

    def __post_init__(self) -> None:
        self.records: list = []
        settings = ScreeningSettings(**{"audit_rate": 0.0, "onset_s": 0.0, **self.screening})
        self.synchronizer = Synchronizer.of_task(Task.load("yard"), SynchronizerSettings())
        stages = Stages(
            self.synchronizer,
            self.perception,
            Tracker(TrackerSettings()),
            Screener(settings),
        )
        self.pipeline = Pipeline(
            stages,
            self.resume,
            self.records.append,
            self.clock,
            device="cart-1",
            epoch="a" * 16,
            sequence=self.sequence,
            overlap=self.overlap,
        )

    def play(self, readings: list[Reading], start: int = 1) -> list:
        for cursor, reading in enumerate(readings, start):
            self.pipeline.feed(cursor, reading, source_ns=7)
        return self.records


def test_a_sample_carries_its_ids_its_cursor_and_its_evidence():
    first, second = Bench().play(camera_frames(2))
    assert isinstance(first, SampleRecord)
    assert (first.sequence, first.resume.cursor, second.sequence, second.resume.cursor) == (1, 1, 2, 2)
    assert [item.item for item in first.items] == list(range(1, len(first.items) + 1))
    for item in (*first.items, *second.items):
        assert (item.blobs is not None) == (item.state is ItemState.PENDING)
        assert set(item.class_scores) == set(FakePerception().classes)
    assert any(item.blobs for item in first.items)
    assert first.timing.source == 7


def test_durations_are_parted_at_the_decision():
    clock = ManualClock(100)

    class Timed(FakePerception):
        def detect(self, sample):
            clock.advance(40)
            seen = super().detect(sample)
            return Look(seen.detections, engine_ns=30)

        def encode(self, *given):
            clock.advance(3)
            return super().encode(*given)

    (record,) = Bench(perception=Timed(), clock=clock).play(camera_frames(1))
    sent = sum(1 for item in record.items if item.blobs)
    assert (record.timing.edge, record.timing.engine, record.timing.beside) == (40, 30, 10)
    assert record.timing.evidence == 3 * sent > 0


def test_what_cannot_be_perceived_is_a_gap_and_takes_no_number():
    class Blind(FakePerception):
        def detect(self, sample):
            if sample.source_cursor == 2:
                raise InputError("the lens is covered")
            return super().detect(sample)

    first, gap, third = Bench(perception=Blind()).play(camera_frames(3))
    assert gap == GapRecord(Gap(2, 2, "cannot be perceived: the lens is covered"), gap.resume)
    assert gap.resume.cursor == 2
    assert (first.sequence, third.sequence) == (1, 2)


@pytest.mark.parametrize("error", [EvidenceError("too many cells"), InputError("a box outside the frame")])
def test_what_cannot_be_encoded_is_quarantined(error):
    class Mute(FakePerception):
        def encode(self, *given):
            raise error

    (record,) = Bench(perception=Mute()).play(camera_frames(1))
    told = [(item.state, item.note) for item in record.items if item.reasons]
    assert told
    assert set(told) == {(ItemState.QUARANTINED, str(error))}


def test_disorder_and_late_frames_become_gaps_in_order():
    frames = camera_frames(4)
    bench = Bench()
    bench.play([frames[0], frames[0], frames[1]])
    bench.pipeline.skip(4, frames[2], "more than 1 s behind")
    bench.play([frames[3]], 5)
    bench.pipeline.finish()
    kinds = [(type(r).__name__, r.resume.cursor) for r in bench.records]
    assert kinds == [
        ("SampleRecord", 1),
        ("GapRecord", 2),
        ("SampleRecord", 3),
        ("GapRecord", 4),
        ("SampleRecord", 5),
        ("FinishRecord", 5),
    ]
    assert isinstance(bench.records[-1], FinishRecord)


@pytest.mark.parametrize("at", [1, 5, 17, 29])
def test_a_restart_at_any_point_gives_the_same_records(at):
    points = Image(np.zeros((2, 2, 3), np.uint8))
    readings = list(
        itertools.chain.from_iterable(
            (frame, Reading("roof", Modality.CAMERA, frame.capture_time_ns, points)) if i % 3 == 0 else (frame, frame)
            for i, frame in enumerate(camera_frames(30))
        )
    )
    options = {"repeat_s": 0.5, "budget_bytes_per_s": 1500, "budget_burst_bytes": 3000, "audit_rate": 0.2}
    whole = Bench(screening=options).play(readings)
    known = whole[:at]
    resume = known[-1].resume
    sequence = 1 + sum(isinstance(record, SampleRecord) for record in known)
    again = Bench(resume=resume, sequence=sequence, screening=options)
    assert again.play(readings[resume.warm_cursor :], resume.warm_cursor + 1) == whole[at:]


def test_a_thin_link_gets_coarser_items_and_the_record_says_so():
    bench = Bench(
        screening={"repeat_s": 0.1, "budget_bytes_per_s": 300, "budget_burst_bytes": 8000, "uncertain_below": 1}
    )
    bench.play(camera_frames(40))
    items = [item for record in bench.records if isinstance(record, SampleRecord) for item in record.items]
    sent = [item for item in items if item.state is ItemState.PENDING]
    notes = [item.note for item in sent]
    assert notes[0] == ""
    assert {"sent at rate lean", "sent at rate coarse", "sent at rate least"} <= set(notes)
    assert all((item.blobs is not None) == (item.state is ItemState.PENDING) for item in items)


def test_a_set_clock_ends_tracks():
    early, late = camera_frames(3), camera_frames(3, start_ns=10**12)
    records = Bench().play([*early, *late])
    before = {item.track for record in records[:3] for item in record.items}
    after = {item.track for record in records[3:] for item in record.items}
    assert not before & after


def test_time_passes_while_frames_are_skipped():
    frames = camera_frames(100)  # ten seconds
    bench = Bench()
    bench.play(frames[:3])
    for cursor, frame in enumerate(frames[3:99], 4):
        bench.pipeline.skip(cursor, frame, "over the power budget")
    bench.play([frames[99]], 100)
    bench.pipeline.finish()
    assert bench.synchronizer.counts.faults == {}
    assert sum(type(r).__name__ == "SampleRecord" for r in bench.records) == 4


def test_the_state_beside_the_cursor_does_not_grow_with_tracks_that_are_over():
    def elsewhere(sample):
        """One thing a frame, never where one was in the last second."""
        y, x = (64 * place for place in divmod(sample.id.sequence % 60, 10))
        return Look((detection({"drum": 0.5, "cone": 0.01}, Box2D(x, y, x + 60, y + 60)),))

    perception = FakePerception(classes=("drum", "cone"), see=elsewhere)
    records = Bench(perception=perception, screening={"repeat_s": 3600.0}).play(camera_frames(60))
    assert all(record.items[0].state is ItemState.PENDING for record in records)
    sizes = [len(record.resume.state) for record in records]
    assert sizes[-1] < 1.2 * sizes[15]  # a second after it was last seen a track is over
