"""The working threads: laps, late frames, paces, and sources that fail."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_node.config import EdgeSettings, EngineSettings, SourceSettings, SpoolSettings
from edge_node.factory import PipelineFactory
from edge_node.fakes import FakePerception, FakeSource, camera_frames
from edge_node.pacing import Pacer
from edge_node.runner import Runner
from edge_node.spool import Spool, SpoolWorker
from fusion.clock import ManualClock, SystemClock
from fusion.errors import RecordingError
from fusion.task import Task
from fusion.types import Modality, PointCloud, Reading


class Bench:
    """A runner on a real spool."""

    def __init__(self, folder: Path, source, perception=None, *, overlap=False, **options) -> None:
        settings = SourceSettings(**options if "kind" in options else {"path": "unused", **options})
        self.spool = Spool.open(folder / "spool.db", "cart-1", "yard", settings=SpoolSettings(keep_free_bytes=0))
        clock, yard = SystemClock(), Task.load("yard")
        edge = EdgeSettings(source=settings, engine=EngineSettings(overlap=overlap))
        factory = PipelineFactory(edge, yard, source, perception or FakePerception(), clock)
        epoch = self.spool.epoch
        self.over = threading.Event()
        self.worker = SpoolWorker(self.spool)
        self.worker.start()
        self.runner = Runner(
            source, settings, "front", self.worker, clock,
            lambda resume, sequence, store: factory.make(resume, sequence, epoch, store), self.over.set,
        )  # fmt: skip
        self.runner.start()

    def ask(self, sql: str) -> list:
        return self.worker.call(lambda spool: spool.query(sql)).result(10)

    def close(self) -> None:
        self.runner.stop()
        assert self.over.wait(20)
        assert self.runner.join(5)
        self.worker.close()


def test_a_source_is_read_to_its_end_and_committed(tmp_path):
    bench = Bench(tmp_path, FakeSource(camera_frames(40)))
    assert bench.over.wait(30)
    assert bench.runner.ended
    assert bench.ask("SELECT count(*), max(cursor) FROM samples") == [(40, 40)]
    assert bench.ask("SELECT cursor, finished FROM runs") == [(40, 1)]
    bench.close()


def test_a_looping_source_has_laps_with_their_own_ids_and_tracks(tmp_path):
    bench = Bench(tmp_path, FakeSource(camera_frames(5)), loop=True)
    deadline = time.monotonic() + 30
    while bench.ask("SELECT max(lap) FROM runs")[0][0] < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    bench.close()
    again = Spool.open(tmp_path / "spool.db", "cart-1", "yard")
    laps = again.query(
        "SELECT lap, count(*), min(sequence), max(sequence) FROM samples JOIN runs USING (run) "
        "WHERE finished GROUP BY lap"
    )
    assert laps[:3] == [(0, 5, 1, 5), (1, 5, 6, 10), (2, 5, 11, 15)]
    tracks = again.query(
        "SELECT lap, min(track), max(track) FROM items JOIN samples USING (sequence) JOIN runs USING (run) GROUP BY lap"
    )
    assert all(first[2] < second[1] for first, second in itertools.pairwise(tracks))
    again.close()


class Failing(FakeSource):
    """Breaks after ten readings."""

    def readings(self, cursor):
        for position, reading in super().readings(cursor):
            if position > 10:
                raise RecordingError("yard.mcap: cut short at byte 4711")
            yield position, reading


@pytest.mark.parametrize("overlap", [False, True])
def test_a_source_that_fails_keeps_what_it_gave(tmp_path, overlap):
    bench = Bench(tmp_path, Failing(camera_frames(40)), overlap=overlap)
    assert bench.over.wait(30)
    assert isinstance(bench.runner.error, RecordingError)
    assert not bench.runner.ended
    assert bench.ask("SELECT count(*) FROM samples") == [(10,)]
    assert bench.ask("SELECT cursor, finished FROM runs") == [(10, 0)]
    bench.close()


class Slow(FakePerception):
    """Takes 60 ms a sample."""

    def detect(self, sample):
        time.sleep(0.06)
        return super().detect(sample)


def test_frames_that_are_too_late_are_declared_not_dropped_silently(tmp_path):
    source = FakeSource(camera_frames(60, rate_hz=50))
    bench = Bench(tmp_path, source, Slow(), pace="realtime", drop_late_s=0.2)
    assert bench.over.wait(60)
    ((samples,),) = bench.ask("SELECT count(*) FROM samples")
    ((gaps, reasons),) = bench.ask("SELECT sum(count), count(DISTINCT reason) FROM gaps")
    assert samples + gaps == 60
    assert gaps > 5
    assert reasons == 1
    bench.close()


class Pausing(FakeSource):
    """Says nothing more after its script until it is told to end."""

    end = threading.Event()

    def readings(self, cursor):
        yield from super().readings(cursor)
        self.end.wait(20)


@pytest.mark.parametrize("live", [True, False])
def test_only_a_live_frame_is_not_kept_waiting_for_a_sensor_that_says_nothing_more(tmp_path, monkeypatch, live):
    """Its LiDAR died just before; without a further frame (no part comes, say) nothing else would end the wait."""
    monkeypatch.setattr(Pausing, "end", threading.Event())
    sweep = Reading("roof", Modality.LIDAR, 10**9, PointCloud(np.zeros((1, 4), np.float32)))
    source = Pausing([sweep, *camera_frames(1, start_ns=1_200_000_000)])
    sensors = ({"name": "front", "url": "fake://eye"},)
    bench = Bench(tmp_path, source, **({"kind": "live", "sensors": sensors} if live else {}))
    ends = time.monotonic() + (10 if live else 1.5)
    while bench.ask("SELECT count(*) FROM samples") == [(0,)] and time.monotonic() < ends:
        time.sleep(0.02)
    assert bench.ask("SELECT count(*) FROM samples") == [(int(live),)]
    Pausing.end.set()
    assert bench.over.wait(20)
    assert bench.ask("SELECT count(*) FROM samples") == [(1,)]
    bench.close()


def test_the_pace_is_kept_in_real_time(tmp_path):
    began = time.monotonic()
    bench = Bench(tmp_path, FakeSource(camera_frames(11, rate_hz=10)), pace=2.0)
    assert bench.over.wait(30)
    assert time.monotonic() - began >= 0.5
    bench.close()


@pytest.mark.parametrize(("speed", "expected"), [(1.0, [5, 105, 205]), (2.0, [5, 55, 105]), (float("inf"), [0, 0, 0])])
def test_due_times(speed, expected):
    pacer = Pacer(speed, ManualClock(5))
    assert [pacer.due_ns(stamp) for stamp in (1000, 1100, 1200)] == expected


def test_a_step_of_the_stamps_is_not_waited_for():
    clock = ManualClock(0)
    pacer = Pacer(1.0, clock)
    pacer.due_ns(0)
    clock.advance(50)
    assert pacer.due_ns(10**12) == 50
    assert pacer.due_ns(10**12 + 7) == 57
    assert pacer.due_ns(3) == 50
