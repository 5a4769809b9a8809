"""The MCAP file: what was recorded is in it byte for byte, what was made of it decodes, and it is a recording again."""

import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from fusion.errors import InputError, RecordingError
from fusion.recording import open_recording
from fusion.recording.native.index import peek_index
from fusion.recording.native.schemas import stamp, time_of
from fusion.recording.native.sensor_messages import cloud_message
from fusion.recording.native.stream import MessageScan
from fusion.recording.stretch import Stretch
from fusion.task import Task
from fusion.types import Box3D, Image, ItemState, Modality, Reading
from replay.cli import main
from replay.export.foxglove import recording as scene
from replay.export.foxglove.writer import TopicWriter
from replay.results.answers import Outcome, outcome
from replay.results.records import DefectResult, Fate

ROS = Path(__file__).parents[3] / "../shared/data/mcap_ouster/test.mcap"
OWN = {"/fusion/front/detections", "/fusion/front/verdicts", "/fusion/objects", "/fusion/log", "/fusion/latency",
       "/fusion/bytes", "/fusion/items"}  # fmt: skip


class Scene:
    """A file as the `mcap` library reads it, in order of log time."""

    def __init__(self, path):
        self.path = path
        with path.open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            self.messages = [(c, m, s) for s, c, m in reader.iter_messages(log_time_order=True)]
            self.metadata = {record.name: record.metadata for record in reader.iter_metadata()}
            self.header = reader.get_header()

    def of(self, topic):
        return [(message, schema) for channel, message, schema in self.messages if channel.topic == topic]

    def decoded(self, topic, kind):
        return [kind.FromString(message.data) for message, _ in self.of(topic)]


def stored(path):
    """Every message in the file's own order."""
    scan = MessageScan(path)
    return [
        (scan.channels[m.channel].topic, m.time_ns, m.publish_ns, m.sequence, bytes(m.data)) for m in scan.messages()
    ]


@pytest.fixture
def boxed(draw, drawn_run):
    """The drawn run; each item has its true box as the fused one, and one defect was missed."""
    items = tuple(replace(item, box3d=item.truth.box3d, tokens_bytes=200) for item in drawn_run.items)
    samples = tuple(replace(s, ages_ms={**s.ages_ms, "front": 0.0}) for s in drawn_run.samples)
    missed = DefectResult("7", "drawn", "drum", "leaking", samples[4].time_ns, 3, Fate.PASSED)
    found = replace(missed, name="8", fate=Fate.FOUND)
    return draw.changed(drawn_run, items=items, samples=samples, defects=(missed, found))


def write(run, reader, out):
    (path,) = scene.export(run, {"drawn": lambda: reader}, out).files
    return Scene(path)


@pytest.fixture
def drawn_scene(boxed, drawn_recording, tmp_path):
    return write(boxed, drawn_recording, tmp_path)


@pytest.fixture(scope="module")
def ran(short_run):
    out, recording = short_run
    assert main(["export", str(out), "--as", "mcap"]) == 0
    return Scene(out / "scene.mcap"), recording, json.loads((out / "results.json").read_text())


def test_an_mcaps_own_messages_are_there_byte_for_byte_and_in_their_order(ran):
    written, recording, _ = ran
    kept = [message for message in stored(written.path) if not message[0].startswith("/fusion/")]
    assert kept == stored(recording)


def test_it_is_a_recording_that_gives_the_same_readings(ran):
    written, recording, _ = ran
    again, before = (open_recording(path, Task.load("yard")) for path in (written.path, recording))
    for (_, one), (_, other) in zip(again.readings(), before.readings(), strict=True):
        assert (one.sensor, one.capture_time_ns) == (other.sensor, other.capture_time_ns)
    assert list(again.truth()) == list(before.truth())
    assert again.info().notes == before.info().notes
    assert {topic.partition(" ")[0] for topic in again.info().unread} == OWN - {"/fusion/objects"}


def test_a_run_tells_every_item_in_the_picture_and_its_fused_box(ran):
    written, _, results = ran
    drawn = written.decoded("/fusion/front/detections", ImageAnnotations)
    assert sum(len(one.points) for one in drawn) == len(results["items"]) > 0
    assert sum(len(one.entities) for one in written.decoded("/fusion/objects", SceneUpdate)) > 0
    reviewed = sum(item["state"] == "reviewed" for item in results["items"])
    assert sum(len(one.points) for one in written.decoded("/fusion/front/verdicts", ImageAnnotations)) == reviewed > 0
    assert written.metadata["fusion-replay"]["task"] == "yard"


def test_every_schema_decodes_its_messages_without_our_classes(ran):
    written, _, _ = ran
    for topic in sorted(OWN):
        for message, schema in written.of(topic):
            if schema.encoding == "jsonschema":
                jsonschema.validate(json.loads(message.data), json.loads(schema.data))
                continue
            pool = DescriptorPool()
            for file in FileDescriptorSet.FromString(schema.data).file:
                pool.Add(file)
            kind = GetMessageClass(pool.FindMessageTypeByName(schema.name))
            assert kind.FromString(message.data).SerializeToString(deterministic=True) == message.data


def test_topics_are_those_that_are_documented(drawn_scene):
    written = {channel.topic for channel, _, _ in drawn_scene.messages}
    assert {topic for topic in written if topic.startswith("/fusion/")} == OWN
    page = (Path(__file__).parents[3] / "docs" / "replay" / "export.md").read_text()
    assert all(f"`{topic.replace('/front/', '/CAMERA/')}`" in page for topic in OWN)


def test_another_recordings_readings_truth_and_rig_are_there(drawn_scene, drawn_recording):
    again = open_recording(drawn_scene.path, Task.load("yard"))
    info = again.info()
    assert info.notes["source"].startswith("drawn ")
    assert np.allclose(info.rig.cameras["front"].k, drawn_recording.camera.k)
    assert np.allclose(info.rig.ego_from_lidar["roof"], drawn_recording.rig.ego_from_lidar["roof"])
    by_time = sorted((r for _, r in drawn_recording.readings()), key=lambda r: (r.capture_time_ns, r.sensor))
    kept = sorted((r for _, r in again.readings()), key=lambda r: (r.capture_time_ns, r.sensor))
    assert [(r.sensor, r.capture_time_ns) for r in kept] == [(r.sensor, r.capture_time_ns) for r in by_time]
    for one, other in zip(kept, by_time, strict=True):
        if one.modality is Modality.CAMERA:
            assert one.payload.encoded == other.payload.encoded
        elif one.modality is Modality.LIDAR:
            assert np.array_equal(one.payload.points, other.payload.points)
        else:
            assert np.array_equal(one.payload.pcm, other.payload.pcm)
    for told, true in zip(again.truth(), drawn_recording.truth(), strict=True):
        assert (told.time_ns, told.intent, told.transcript) == (true.time_ns, true.intent, true.transcript)
        for one, other in zip(told.objects, true.objects, strict=True):
            assert replace(one, box3d=None) == replace(other, box3d=None)
            assert np.allclose(vars_of(one.box3d), vars_of(other.box3d))


def test_annotations_lie_on_the_picture_they_are_of(boxed, drawn_recording, draw, tmp_path):
    late = tuple(replace(s, time_ns=s.time_ns + 4_000_000, ages_ms={"front": 4.0}) for s in boxed.samples)
    items = tuple(replace(item, time_ns=item.time_ns + 4_000_000) for item in boxed.items)
    written = write(draw.changed(boxed, samples=late, items=items), drawn_recording, tmp_path)
    pictures = [message.log_time for message, _ in written.of("/camera/front")]
    drawn = written.decoded("/fusion/front/detections", ImageAnnotations)
    assert [{time_of(shape, 0) for shape in (*one.points, *one.texts)} for one in drawn] == [{t} for t in pictures]
    assert [message.log_time for message, _ in written.of("/fusion/front/detections")] == pictures
    for one, sample in zip(drawn, late, strict=True):
        boxes = [i.box for i in items if i.sequence == sample.sequence]
        corners = [[(p.x, p.y) for p in shape.points] for shape in one.points]
        assert corners == [[(b.x1, b.y1), (b.x2, b.y1), (b.x2, b.y2), (b.x1, b.y2)] for b in boxes]


def test_fused_boxes_are_cubes_in_the_ego_frame(drawn_scene, boxed):
    for update, sample in zip(drawn_scene.decoded("/fusion/objects", SceneUpdate), boxed.samples, strict=True):
        items = [item for item in boxed.items if item.sequence == sample.sequence]
        assert update.deletions[0].type == 1
        for entity, item in zip(update.entities, items, strict=True):
            cube, box = entity.cubes[0], item.box3d
            yaw = 2 * np.arctan2(cube.pose.orientation.z, cube.pose.orientation.w)
            placed = Box3D(
                *(getattr(cube.pose.position, a) for a in "xyz"), *(getattr(cube.size, a) for a in "xyz"), yaw
            )
            assert entity.frame_id == "ego"
            assert np.allclose([*vars_of(placed)], [*vars_of(box)])


def vars_of(box):
    return box.x, box.y, box.z, box.length, box.width, box.height, box.yaw


@pytest.mark.parametrize(("parent", "frame"), [("base_link", "base_link"), ("ego", "ego"), ("chassis", "chassis")])
def test_boxes_are_told_in_what_the_recording_calls_the_ego_frame(boxed, drawn_recording, parent, frame, tmp_path):
    foreign, time_ns = tmp_path / "foreign.mcap", drawn_recording.time(0)
    with TopicWriter(foreign) as writer:
        placed = FrameTransform(timestamp=stamp(time_ns), parent_frame_id=parent, child_frame_id="roof")
        writer.proto("/tf", time_ns, placed)
        writer.proto("/points", time_ns, cloud_message("roof", time_ns, drawn_recording.points(0), 0.0))
    written = write(boxed, open_recording(foreign), tmp_path)
    updates = written.decoded("/fusion/objects", SceneUpdate)
    assert {entity.frame_id for update in updates for entity in update.entities} == {frame}


def test_the_log_has_a_level_by_outcome(drawn_scene, boxed):
    lines = drawn_scene.decoded("/fusion/log", Log)
    levels = {line.name: line.level for line in lines}
    expected = {}
    for item in boxed.items:
        if item.state is ItemState.REVIEWED:
            expected[item.id] = Log.WARNING if outcome(item) is Outcome.WRONG else Log.INFO
        elif item.state is not ItemState.PASSED:
            expected[item.id] = Log.DEBUG if item.state is ItemState.DEDUPLICATED else Log.WARNING
    expected["defect 7"] = Log.ERROR
    assert levels == expected
    assert set(Counter(expected.values())) == {Log.DEBUG, Log.INFO, Log.WARNING, Log.ERROR}
    (missed,) = (line for line in lines if line.level == Log.ERROR)
    assert missed.message == "missed (passed): leaking drum"
    assert time_of(missed, 0) == boxed.samples[4].time_ns


def test_numbers_add_up(drawn_scene, boxed):
    last_bytes, last_items = (
        json.loads(drawn_scene.of(topic)[-1][0].data) for topic in ("/fusion/bytes", "/fusion/items")
    )
    sent = [item for item in boxed.items if item.evidence_bytes]
    assert last_bytes["total"] == sum(item.evidence_bytes + item.crop_bytes for item in sent)
    assert last_items == {s.value: sum(i.state is s for i in boxed.items) for s in ItemState}
    latency = [json.loads(message.data)["edge_ms"] for message, _ in drawn_scene.of("/fusion/latency")]
    assert latency == [sample.edge_ms for sample in boxed.samples]


def test_a_recording_that_is_an_export_gets_the_new_results_alone(boxed, drawn_scene, tmp_path):
    again = write(boxed, open_recording(drawn_scene.path), tmp_path / "again")
    counts, before = (Counter(c.topic for c, _, _ in s.messages) for s in (again, drawn_scene))
    assert counts == before


def test_the_recording_itself_is_never_overwritten(boxed, drawn_scene, tmp_path):
    before = drawn_scene.path.read_bytes()
    with pytest.raises(InputError, match="is the recording itself"):
        write(boxed, open_recording(drawn_scene.path), tmp_path)
    assert drawn_scene.path.read_bytes() == before


def test_of_a_damaged_recording_what_is_sound(boxed, draw, drawn_scene, tmp_path):
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(drawn_scene.path.read_bytes()[: drawn_scene.path.stat().st_size // 2])
    with pytest.raises(RecordingError, match=r"cut\.mcap"):
        write(boxed, SimpleReader(cut), tmp_path / "refused")
    assert not list(tmp_path.glob("refused/*"))
    told = draw.changed(boxed, damage="cut off")
    saved = write(told, SimpleReader(cut), tmp_path / "saved")
    kept = [m for m in stored(saved.path) if not m[0].startswith("/fusion/")]
    whole = [m for m in stored(drawn_scene.path) if not m[0].startswith("/fusion/")]
    assert kept == whole[: len(kept)]
    assert len(saved.of("/fusion/latency")) == len(boxed.samples)


@pytest.mark.parametrize(("at", "damage"), [(200, b"\xff\xff"), (0, b"\xff" * 9)])
def test_of_a_recording_damaged_amid_its_chunks_what_lies_on_both_sides(
    boxed, draw, drawn_recording, at, damage, tmp_path, monkeypatch
):
    monkeypatch.setattr("replay.export.foxglove.writer.CHUNK_BYTES", 1 << 17)
    sound = write(boxed, drawn_recording, tmp_path).path
    torn = damaged(sound, 2, at, damage)
    with pytest.raises(RecordingError, match=r"torn\.mcap"):
        write(boxed, SimpleReader(torn), tmp_path / "refused")
    saved = write(draw.changed(boxed, damage="a chunk"), SimpleReader(torn), tmp_path / "saved")
    kept, whole = ([m for m in stored(p) if not m[0].startswith("/fusion/")] for p in (saved.path, sound))
    lost = len(whole) - len(kept)
    before = next((i for i, (one, other) in enumerate(zip(kept, whole, strict=False)) if one != other), len(kept))
    assert kept == whole[:before] + whole[before + lost :]
    assert 0 < lost < len(whole) // 3
    assert len(saved.of("/fusion/latency")) == len(boxed.samples)
    assert saved.metadata.keys() >= {"fusion-recording", "fusion-replay"}


def damaged(path, chunk, at, damage):
    """A copy with `damage` in place of the bytes from `at` on of its `chunk`th."""
    start = sorted(peek_index(path).chunks)[chunk] + at
    data = path.read_bytes()
    torn = path.with_name("torn.mcap")
    torn.write_bytes(data[:start] + damage + data[start + len(damage) :])
    return torn


def test_of_ros_without_a_profile_it_is_told_from_behind_the_damage(boxed, draw, tmp_path):
    sound = tmp_path / "ros.mcap"
    with sound.open("wb") as file:
        writer = Writer(file, chunk_size=1 << 10, compression=CompressionType.NONE)
        writer.start(profile="")
        schema = writer.register_schema("sensor_msgs/PointCloud2", "ros1msg", b"uint8[] data")
        channel = writer.register_channel("/points", "ros1", schema)
        for index in range(8):
            writer.add_message(channel, index, bytes([index]) * 1024, index)
        writer.finish()
    torn = damaged(sound, 0, 200, b"\xff\xff")
    saved = write(draw.changed(boxed, damage="a chunk"), SimpleReader(torn), tmp_path / "saved")
    assert saved.header.profile == "ros1"
    assert [m[1] for m in stored(saved.path) if m[0] == "/points"] == list(range(1, 8))


class SimpleReader:
    """A reader that knows its path alone."""

    def __init__(self, path):
        self.path = path


def test_of_a_stretch_what_was_logged_in_it_and_where_sensors_sit(boxed, draw, drawn_recording, drawn_scene, tmp_path):
    reader = Stretch.of_seconds(open_recording(drawn_scene.path), 0.4, 0.7)
    written = write(draw.changed(boxed, from_s=0.4, to_s=0.7, samples=()), reader, tmp_path / "s")
    times = [m.log_time for channel, m, _ in written.messages if channel.topic in ("/camera/front", "/truth")]
    assert set(times) == {drawn_recording.time(n) for n in (3, 4, 5)}
    assert open_recording(written.path).info().rig is not None


@pytest.mark.parametrize("late_ms", [50, 130])
def test_of_a_stretch_every_reading_is_there_whenever_it_was_logged(boxed, draw, drawn_scene, late_ms, tmp_path):
    """As others record: what is logged is the time of arrival."""
    path, scan = tmp_path / "late.mcap", MessageScan(drawn_scene.path)
    with TopicWriter(path) as writer:
        for message in scan.messages():
            channel = scan.channels[message.channel]
            late = replace(message, time_ns=message.time_ns + late_ms * 1_000_000 * (channel.topic != "/lidar/roof"))
            writer.copy(late, channel, scan.schemas[channel.schema_id])
    reader = Stretch.of_seconds(open_recording(path), 0.4, 0.7)
    expected = [(reading.sensor, reading.capture_time_ns) for _, reading in reader.readings()]
    written = write(draw.changed(boxed, from_s=0.4, to_s=0.7, samples=()), reader, tmp_path / "s")
    again = open_recording(written.path)
    assert [(reading.sensor, reading.capture_time_ns) for _, reading in again.readings()] == expected
    assert len(expected) == 9


def test_messages_of_ros_stay_ros(boxed, draw, tmp_path):
    if not ROS.exists():
        pytest.skip("the Ouster session is not in ../shared/data")
    before = open_recording(ROS)
    cursors = [cursor for cursor, _ in before.readings()]
    samples = tuple(replace(s, cursor=c) for s, c in zip(boxed.samples, cursors, strict=False))
    written = write(draw.changed(boxed, samples=samples, items=()), before, tmp_path)
    kept = [message for message in stored(written.path) if not message[0].startswith("/fusion/")]
    assert kept == stored(ROS)
    assert written.header.profile == "ros1"
    again = open_recording(written.path)
    assert again.info().sensors == before.info().sensors
    logged = [message[1] for message in stored(ROS)]
    assert [m.log_time for m, _ in written.of("/fusion/latency")] == [logged[s.cursor - 1] for s in samples]


def test_memory_does_not_grow_with_the_recording(boxed, draw, drawn_recording, tmp_path):
    count, size = 64, 1 << 20
    noise = np.random.default_rng(0).bytes(size)

    class Long(type(drawn_recording)):
        def readings(self, start_cursor=0):
            for index in range(count):
                picture = Image(np.zeros((1, 1, 3), np.uint8), bytes([index]) + noise[1:], "jpeg")
                yield index + 1, Reading("front", Modality.CAMERA, self.time(index), picture)

    tracemalloc.start()
    written = scene.export(draw.changed(boxed, samples=(), items=()), {"drawn": Long}, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written.files[0].stat().st_size > count * size
    assert peak < 16 * size
