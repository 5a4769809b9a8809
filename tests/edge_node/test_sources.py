"""Recordings as sources: real positions, a restart in the middle, and still pictures that share no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_node.config import EdgeSettings, SourceSettings, SpoolSettings
from edge_node.factory import PipelineFactory
from edge_node.fakes import FakePerception, FakeSource, camera_frames
from edge_node.sources import RecordingSource, open_source
from edge_node.spool import Spool
from fusion.clock import SystemClock
from fusion.errors import ConfigError, RecordingError
from fusion.recording.native.synthetic import write_synthetic
from fusion.task import Task
from fusion.types import Modality

DEEPPCB = Path(__file__).parents[2] / "../shared/data/deeppcb"
YARD = Task.load("yard")


@pytest.fixture(scope="module")
def patrol(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "patrol.mcap"
    write_synthetic(path, frames=30, width=64, height=48, points=320)
    return path


def play(folder: Path, path: Path, frames: int | None = None) -> list:
    """Run a pipeline on one thread until `frames` samples are committed; what the spool then holds."""
    settings = EdgeSettings(source=SourceSettings(path=path))
    source = open_source(settings.source, YARD)
    spool = Spool.open(folder / "spool.db", "cart-1", "yard", settings=SpoolSettings(keep_free_bytes=0), epoch="b" * 16)
    factory = PipelineFactory(settings, YARD, source, FakePerception(), SystemClock())
    resume = spool.resume(source.content, "first")
    pipeline = factory.make(resume, spool.next_sequence, spool.epoch, lambda record: spool.commit([record]))
    for cursor, reading in source.readings(resume.warm_cursor):
        if frames is not None and spool.next_sequence > frames:
            break
        pipeline.feed(cursor, reading)
    else:
        pipeline.finish()
    samples = spool.query("SELECT sequence, cursor, time_ns, slots FROM samples ORDER BY sequence")
    items = spool.query("SELECT sequence, item, track, state, into_item, reasons FROM items ORDER BY sequence, item")
    spool.close()
    return [samples, items]


def test_a_native_recording_gives_every_sensor_its_slot(tmp_path, patrol):
    samples, _ = play(tmp_path, patrol)
    assert [row[0] for row in samples] == list(range(1, 31))
    assert {row[3] for row in samples} == {'{"front":["present",0],"roof":["present",0],"mic":["present",0]}'}
    source = RecordingSource.open(SourceSettings(path=patrol), YARD)
    assert source.sensors == {"front", "roof", "mic"}
    assert source.continuous
    assert source.rig is not None
    at = {cursor: reading for cursor, reading in source.readings(0) if reading.modality is Modality.CAMERA}
    assert [(row[1], row[2]) for row in samples] == [(cursor, r.capture_time_ns) for cursor, r in at.items()]


@pytest.mark.parametrize("frames", [1, 9, 22])
def test_reading_on_in_the_middle_of_a_recording_changes_nothing(tmp_path, patrol, frames):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = play(tmp_path / "whole", patrol)
    assert len(play(tmp_path / "parts", patrol, frames)[0]) == frames
    assert play(tmp_path / "parts", patrol) == whole
    assert play(tmp_path / "parts", patrol) == whole  # at the end there is nothing more to do


def test_the_content_decides_what_is_the_same_recording(tmp_path, patrol):
    copy = tmp_path / "renamed.mcap"
    copy.write_bytes(patrol.read_bytes())
    other = tmp_path / "other.mcap"
    write_synthetic(other, frames=2, seed=1, width=64, height=48, points=320)
    same, moved, another = (RecordingSource.open(SourceSettings(path=p), YARD).content for p in (patrol, copy, other))
    assert same == moved != another


def test_pictures_without_times_are_not_tracked():
    if not DEEPPCB.is_dir():
        pytest.skip("DeepPCB is not in ../shared/data")
    settings = SourceSettings(path=DEEPPCB, split="test")
    source = open_source(settings, Task.load("pcb"))
    assert not source.continuous
    cursor, reading = next(source.readings(5))
    assert (cursor, reading.sensor) == (6, "line")


def test_an_unknown_kind_is_named():
    with pytest.raises(ConfigError, match="no source is called 'radar'; known: live, recording"):
        open_source(SourceSettings(path="x", kind="radar"), YARD)


def test_a_source_without_the_reference_sensor_is_refused():
    source = FakeSource(camera_frames(1), sensors=frozenset({"rear"}))
    settings = EdgeSettings(source=SourceSettings(path="x.mcap"))
    with pytest.raises(RecordingError, match=r"x.mcap: nothing from the reference sensor 'front'; it has rear"):
        PipelineFactory(settings, YARD, source, FakePerception(), SystemClock())
