"""Stretches side by side hold every reading once, are cheap to read, and tell of themselves what is in them."""

import itertools
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.geometry import Rig
from fusion.recording import open_recording
from fusion.recording.base import (
    EgoPose,
    IndexedReader,
    NamedReader,
    PosedReader,
    RangedReader,
    RecordingInfo,
    SensorInfo,
)
from fusion.recording.native import stream, writer
from fusion.recording.native.synthetic import write_synthetic
from fusion.recording.stretch import Stretch
from fusion.recording.time_range import TimeRange
from fusion.task import Task
from fusion.types import Image, Modality, Reading, Truth

SECOND = 10**9


class Told:
    """A reader of made-up times, in any order; it knows nothing of stretches."""

    path = Path("told")

    def __init__(self, times_ns):
        self.times_ns = times_ns

    def info(self):
        sensor = SensorInfo.of_times(Modality.CAMERA, "told", self.times_ns)
        return RecordingInfo(self.path, "told", "0" * 64, 0, "", {"front": sensor}, None, len(self.times_ns), {})

    def sizes(self):
        return {"front": 0}

    def readings(self, start_cursor=0):
        for cursor, time_ns in enumerate(self.times_ns, 1):
            if cursor > start_cursor:
                yield cursor, Reading("front", Modality.CAMERA, time_ns, Image(np.zeros((1, 1, 3), np.uint8)))

    def truth(self):
        return (Truth(time_ns, ()) for time_ns in self.times_ns)


def pictures(folder, count):
    """An image folder without splits, one picture a task's period."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"images/{number:02}.png"), np.full((8, 8, 3), number, np.uint8))
    return folder


def sound(path):
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(np.arange(9000, dtype="<i2").tobytes())
    return path


def video(path):
    """Seven frames, not evenly spaced."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time_ms in enumerate((0, 40, 100, 140, 300, 340, 400)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 30 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stretches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHUNK_BYTES", 30_000)
        write_synthetic(folder / "a.mcap", frames=15, width=32, height=32, points=500)
    return {
        "mcap": open_recording(folder / "a.mcap"),
        "salvaged": open_recording(folder / "a.mcap", salvage=True),
        "pictures": open_recording(pictures(folder / "b", 12), Task.load("pcb")),
        "sound": open_recording(sound(folder / "c.wav")),
        "video": open_recording(video(folder / "d.mkv")),
        "any": Told([5 * SECOND, 3 * SECOND, 3 * SECOND, 9 * SECOND, 4 * SECOND]),
    }


def marks(found):
    return [(cursor, reading.sensor, reading.capture_time_ns) for cursor, reading in found]


@pytest.mark.parametrize("kind", ["mcap", "salvaged", "pictures", "sound", "video", "any"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_stretches_side_by_side_hold_every_reading_and_truth_once(readers, kind, data):
    reader = readers[kind]
    times = sorted({reading.capture_time_ns for _, reading in reader.readings()})
    near = st.sampled_from(times).flatmap(lambda time_ns: st.sampled_from([time_ns - 1, time_ns, time_ns + 1]))
    cuts = sorted(data.draw(st.sets(near, max_size=4)))
    bounds = [None, *cuts, None]
    parts = [Stretch(reader, TimeRange(low, high)) for low, high in itertools.pairwise(bounds)]
    whole = marks(reader.readings())
    found = [mark for part in parts for mark in marks(part.readings())]
    assert sorted(found) == sorted(whole)
    truths = [moment.time_ns for part in parts for moment in part.truth()]
    assert sorted(truths) == sorted(moment.time_ns for moment in reader.truth())
    for part, (low, high) in zip(parts, itertools.pairwise(bounds), strict=True):
        assert all((low or 0) <= time_ns < (high or 2**63) for _, _, time_ns in marks(part.readings()))
        assert marks(part.stamps()) == marks(part.readings())
        counts = {name: sensor.count for name, sensor in part.info().sensors.items()}
        assert sum(counts.values()) == len(marks(part.readings()))
        assert part.info().truths == len(list(part.truth()))
        assert part.info().content_sha256 == reader.info().content_sha256


@settings(max_examples=50, deadline=None)
@given(
    times=st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=30),
    length=st.floats(0.01, 7, allow_subnormal=False),
    count=st.integers(1, 9),
)
def test_so_do_shards_of_seconds(times, length, count):
    reader = Told(times)
    starts = [number * length for number in range(count)]
    parts = [Stretch.of_seconds(reader, *bounds) for bounds in zip(starts, [*starts[1:], None], strict=True)]
    assert sorted(mark for part in parts for mark in marks(part.readings())) == marks(reader.readings())


def test_reading_goes_on_after_any_cursor_of_a_stretch(readers):
    part = Stretch.of_seconds(readers["mcap"], 0.25, 1.25)
    whole = marks(part.readings())
    assert len(whole) == 30
    for cursor, *_ in whole:
        assert marks(part.readings(cursor)) == [mark for mark in whole if mark[0] > cursor]


def test_chunks_outside_a_stretch_are_not_unpacked(readers, monkeypatch):
    reader, unpacked = readers["mcap"], []
    real = stream.unpack_chunk
    list(reader.readings())
    monkeypatch.setattr(stream, "unpack_chunk", lambda chunk: unpacked.append(1) or real(chunk))
    list(reader.readings())
    chunks = len(unpacked)
    assert chunks >= 3, "the recording is too small to show anything"
    unpacked.clear()
    assert len(list(Stretch.of_seconds(reader, 0.0, 0.2).readings())) > 0
    assert 0 < len(unpacked) < chunks


def test_where_log_times_are_not_those_of_capture_no_chunk_is_passed_over(tmp_path):
    """Another's recording, logged an hour late and one chunk a message: the cut is by capture."""
    from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
    from google.protobuf.timestamp_pb2 import Timestamp
    from mcap.writer import Writer

    from fusion.recording.native.schemas import descriptor_set

    encoded = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    path = tmp_path / "foreign.mcap"
    with path.open("wb") as file:
        foreign = Writer(file, chunk_size=1)
        foreign.start()
        name = CompressedImage.DESCRIPTOR.full_name
        schema = foreign.register_schema(name, "protobuf", descriptor_set(CompressedImage))
        channel = foreign.register_channel("/camera/front", "protobuf", schema)
        for second in range(10):
            message = CompressedImage(timestamp=Timestamp(seconds=1000 + second), data=encoded, format="png")
            logged = (1000 + second + 3600 * (second % 2)) * SECOND
            foreign.add_message(channel, logged, message.SerializeToString(), logged)
        foreign.finish()
    found = marks(Stretch(open_recording(path), TimeRange(1003 * SECOND, 1007 * SECOND)).readings())
    assert [time_ns // SECOND for *_, time_ns in found] == [1003, 1004, 1005, 1006]


def test_poses_are_those_of_the_stretch(tmp_path):
    path = tmp_path / "moving.mcap"
    with writer.RecordingWriter(path, Rig({}, {}), "yard") as recording:
        for second in range(5):
            recording.pose(EgoPose(second * SECOND, np.eye(4)))
            recording.camera("front", second * SECOND, Image(np.zeros((4, 4, 3), np.uint8)))
    part = Stretch.of_seconds(open_recording(path), 1, 3)
    assert [pose.time_ns // SECOND for pose in part.poses()] == [1, 2]
    assert list(Stretch.of_seconds(Told([1, 2]), 0, None).poses()) == []
    assert isinstance(part, PosedReader)
    assert isinstance(part, IndexedReader)


def test_names_are_those_of_the_stretch(readers):
    whole = readers["pictures"].names()
    times = sorted(whole)
    part = Stretch(readers["pictures"], TimeRange(times[3], times[6]))
    assert isinstance(part, NamedReader)
    assert part.names() == {time_ns: whole[time_ns] for time_ns in times[3:6]}
    assert list(part.names().values()) == ["03.png", "04.png", "05.png"]
    assert Stretch(Told([1, 2]), TimeRange()).names() == {}


def test_who_reads_stretches_cheaply_says_so(readers):
    assert [isinstance(readers[kind], RangedReader) for kind in ("mcap", "pictures", "any")] == [True, True, False]
