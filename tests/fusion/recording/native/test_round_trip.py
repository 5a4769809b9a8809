"""What the writer stores, the reader gives back."""

import itertools
import math

import cv2
import numpy as np
import pytest
from foxglove_schemas_protobuf.PackedElementField_pb2 import PackedElementField
from foxglove_schemas_protobuf.PointCloud_pb2 import PointCloud as Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion.errors import InputError, RecordingError
from fusion.geometry import CameraCalibration, Rig, rigid, rotation_y, rotation_z
from fusion.recording import open_recording
from fusion.recording.base import EgoPose, PosedReader
from fusion.recording.native.sensor_messages import cloud_message, read_cloud
from fusion.recording.native.synthetic import synthetic_rig, write_synthetic
from fusion.recording.native.truth_messages import read_truth, truth_message
from fusion.recording.native.writer import RecordingWriter
from fusion.task import Task
from fusion.types import AudioChunk, Box2D, Box3D, Image, Modality, PointCloud, Truth, TruthObject

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TIMES = st.integers(0, 2**63 - 1)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False, width=32)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


def only(path):
    ((_, reading),) = open_recording(path).readings()
    return reading


@QUICK
@given(time_ns=TIMES, points=hnp.arrays(np.float32, st.tuples(st.integers(0, 50), st.just(4)), elements=FLOATS))
def test_a_sweep_comes_back_bit_for_bit(tmp_path, time_ns, points):
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.lidar("roof", time_ns, PointCloud(points))
    reading = only(tmp_path / "a.mcap")
    assert (reading.sensor, reading.modality, reading.capture_time_ns) == ("roof", Modality.LIDAR, time_ns)
    assert reading.payload.points.dtype == np.float32
    assert reading.payload.points.tobytes() == points.tobytes()


@QUICK
@given(
    points=hnp.arrays(np.float32, st.tuples(st.integers(0, 50), st.just(4)), elements=FLOATS),
    times=st.booleans(),
    classes=st.booleans(),
    seed=st.integers(0, 9),
)
def test_times_and_classes_of_points_come_back_bit_for_bit(tmp_path, points, times, classes, seed):
    rng = np.random.default_rng(seed)
    offsets = rng.normal(-0.05, 0.03, len(points)).astype(np.float32) if times else None
    labels = rng.integers(0, 1 << 16, len(points), np.uint16) if classes else None
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.lidar("roof", 1, PointCloud(points, offsets, labels))
    payload = only(tmp_path / "a.mcap").payload
    assert payload.points.tobytes() == points.tobytes()
    for put, got in ((offsets, payload.offsets_s), (labels, payload.labels)):
        assert (put is None) == (got is None)
        if put is not None:
            assert got.dtype == put.dtype
            assert np.array_equal(got, put)


def test_a_sweep_without_them_is_stored_as_before():
    points = np.arange(12, dtype=np.float32).reshape(3, 4)
    message = cloud_message("roof", 1, PointCloud(points), 0.0)
    assert [(f.name, f.offset, f.type) for f in message.fields] == [
        (axis, 4 * i, PackedElementField.FLOAT32) for i, axis in enumerate(("x", "y", "z", "intensity"))
    ]
    assert (message.point_stride, message.data) == (16, points.tobytes())


def test_a_sweep_with_them_is_what_foxglove_can_draw():
    points = np.arange(12, dtype=np.float32).reshape(3, 4)
    cloud = PointCloud(points, np.zeros(3, np.float32), np.array([7, 8, 65535], np.uint16))
    message = cloud_message("roof", 1, cloud, 0.0)
    fields = {f.name: (f.offset, f.type) for f in message.fields}
    assert fields["offset_s"] == (16, PackedElementField.FLOAT32)
    assert fields["label"] == (20, PackedElementField.UINT16)
    assert (message.point_stride, len(message.data)) == (22, 66)
    assert message.data[42:44] == (8).to_bytes(2, "little")


def test_a_point_without_a_finite_time_is_dropped_with_its_class(tmp_path):
    offsets = np.array([0.0, np.nan, 0.2], np.float32)
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.lidar("roof", 1, PointCloud(np.ones((3, 4), np.float32), offsets, np.array([1, 2, 3], np.uint16)))
    payload = only(tmp_path / "a.mcap").payload
    assert payload.labels.tolist() == [1, 3]
    assert len(payload.points) == 2


def test_fields_of_the_same_names_in_other_types_are_somebody_elses():
    fields = [PackedElementField(name=n, offset=4 * i, type=PackedElementField.FLOAT32) for i, n in enumerate("xyz")]
    fields.append(PackedElementField(name="label", offset=12, type=PackedElementField.UINT32))
    cloud, _ = read_cloud(Message(frame_id="l", point_stride=16, fields=fields, data=bytes(32)))
    assert cloud.labels is None
    assert cloud.points.shape == (2, 4)


@QUICK
@given(
    time_ns=TIMES,
    pcm=hnp.arrays(np.int16, st.integers(0, 500)),
    rate=st.sampled_from([8000, 16000, 48000]),
)
def test_sound_comes_back_bit_for_bit(tmp_path, time_ns, pcm, rate):
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.audio("mic", time_ns, AudioChunk(pcm, rate))
    reading = only(tmp_path / "a.mcap")
    assert (reading.modality, reading.capture_time_ns) == (Modality.SPEECH, time_ns)
    assert reading.payload.sample_rate_hz == rate
    assert np.array_equal(reading.payload.pcm, pcm)


def test_a_picture_keeps_its_own_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    png = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.camera("front", 5, Image(pixels, png, "png"))
    payload = only(tmp_path / "a.mcap").payload
    assert payload.encoded == png
    assert payload.encoding == "png"
    assert np.array_equal(payload.pixels, pixels)


def test_a_picture_without_bytes_becomes_a_jpeg_of_the_right_colours(tmp_path):
    pixels = np.empty((48, 64, 3), np.uint8)
    pixels[:] = (220, 60, 20)
    sizes = []
    for quality in (30, 95):
        noisy = pixels + np.random.default_rng(1).integers(0, 20, pixels.shape, np.uint8)
        with RecordingWriter(tmp_path / "a.mcap", None, "yard", jpeg_quality=quality) as writer:
            writer.camera("front", 5, Image(noisy))
        payload = only(tmp_path / "a.mcap").payload
        assert payload.encoding == "jpeg"
        assert np.abs(payload.pixels.mean((0, 1)) - noisy.mean((0, 1))).max() < 5
        sizes.append(len(payload.encoded))
    assert sizes[0] < sizes[1]


def numbers(low, high):
    return st.floats(low, high, allow_nan=False)


BOXES = st.builds(Box3D, *[numbers(-100, 100)] * 3, *[numbers(0.01, 20)] * 3, numbers(-3.1, 3.1))
OBJECTS = st.builds(
    TruthObject,
    track=st.integers(0, 10**6),
    label=WORDS,
    condition=st.none() | WORDS,
    box2d=st.none() | st.builds(Box2D, *[numbers(-10, 5000)] * 4),
    box3d=st.none() | BOXES,
    asked_for=st.booleans(),
    action=st.none() | WORDS,
    visibility=numbers(0, 1),
    velocity=st.none() | st.tuples(numbers(-90, 90), numbers(-90, 90)),
)


@QUICK
@given(truth=st.builds(Truth, TIMES, st.lists(OBJECTS, max_size=4).map(tuple), st.none() | WORDS, WORDS))
def test_truth_comes_back(tmp_path, truth):
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.truth(truth)
    (read,) = open_recording(tmp_path / "a.mcap").truth()
    assert (read.time_ns, read.intent, read.transcript) == (truth.time_ns, truth.intent, truth.transcript)
    assert len(read.objects) == len(truth.objects)
    for got, put in zip(read.objects, truth.objects, strict=True):
        for name in ("track", "label", "condition", "box2d", "asked_for", "action", "visibility", "velocity"):
            assert getattr(got, name) == getattr(put, name), name
        assert (got.box3d is None) == (put.box3d is None)
        if put.box3d:
            for name in ("x", "y", "z", "length", "width", "height"):
                assert getattr(got.box3d, name) == getattr(put.box3d, name)
            assert math.isclose(got.box3d.yaw, put.box3d.yaw, abs_tol=1e-12)


@QUICK
@given(
    angles=st.tuples(*[numbers(-3.14, 3.14)] * 3),
    place=st.tuples(*[numbers(-50, 50)] * 3),
    distortion=st.sampled_from([[], [-0.3, 0.1, 1e-3, -1e-3], [-0.3, 0.1, 1e-3, -1e-3, 0.02], [0.1] * 8]),
)
def test_the_rig_comes_back(tmp_path, angles, place, distortion):
    turned = rotation_z(angles[0]) @ rotation_y(angles[1]) @ rotation_z(angles[2])
    transform = rigid(turned, np.array(place))
    k = np.array([[400.0, 0.5, 320.0], [0, 410.0, 200.0], [0, 0, 1]])
    camera = CameraCalibration(640, 384, k, np.array(distortion), transform)
    with RecordingWriter(tmp_path / "a.mcap", Rig({"front": camera}, {"roof": transform}), "yard") as writer:
        writer.lidar("roof", 1, PointCloud(np.zeros((1, 4), np.float32)))
        writer.camera("front", 1, Image(np.zeros((8, 8, 3), np.uint8)))
    rig = open_recording(tmp_path / "a.mcap").info().rig
    read = rig.cameras["front"]
    assert np.allclose(rig.ego_from_lidar["roof"], transform, atol=1e-12)
    assert np.allclose(read.ego_from_camera, transform, atol=1e-12)
    assert (read.width, read.height) == (640, 384)
    assert np.array_equal(read.k, k)
    probe = np.random.default_rng(0).normal(0, 5, (50, 3)) + place
    assert np.allclose(read.project(probe)[0], camera.project(probe)[0], rtol=1e-6)


def test_a_velocity_that_is_none_is_refused():
    moment = truth_message(Truth(1, (TruthObject(1, "car", velocity=(1.5, -2.0)),)))
    pair = next(p for p in moment.entities[1].metadata if p.key == "velocity")
    assert pair.value == "1.5 -2.0"
    for bad in ("1.5", "1 2 3", "a b", "nan 1"):
        pair.value = bad
        with pytest.raises(InputError, match="truth entity '0'"):
            read_truth(moment, 1)


def test_poses_come_back_and_leave_the_rig_as_it_is(tmp_path):
    moved = [
        EgoPose(n, rigid(rotation_z(0.1 * n) @ rotation_y(0.02), np.array([900.0 + n, -400.0, 1.0]))) for n in range(3)
    ]
    rig = synthetic_rig()
    with RecordingWriter(tmp_path / "a.mcap", rig, "yard") as writer:
        for pose in moved:
            writer.lidar("roof", pose.time_ns, PointCloud(np.zeros((1, 4), np.float32)))
            writer.camera("front", pose.time_ns, Image(np.zeros((8, 8, 3), np.uint8)))
            writer.pose(pose)
    reader = open_recording(tmp_path / "a.mcap")
    assert isinstance(reader, PosedReader)
    read = list(reader.poses())
    assert [p.time_ns for p in read] == [0, 1, 2]
    for got, put in zip(read, moved, strict=True):
        assert np.allclose(got.map_from_ego, put.map_from_ego, atol=1e-12)
    assert np.allclose(reader.info().rig.ego_from_lidar["roof"], rig.ego_from_lidar["roof"], atol=1e-14)
    assert reader.info().rig.cameras.keys() == {"front"}
    assert not list(reader.truth())


def test_a_recording_without_transforms_has_no_poses(tmp_path):
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.lidar("roof", 1, PointCloud(np.zeros((1, 4), np.float32)))
    assert list(open_recording(tmp_path / "a.mcap").poses()) == []


def test_readings_that_do_not_follow_each_other_stay_so_and_have_no_gaps(tmp_path):
    for name, continuous in (("a", True), ("b", False)):
        with RecordingWriter(tmp_path / name, None, "yard", continuous=continuous) as writer:
            for frame in (0, 1, 2, 9):
                writer.camera("front", frame, Image(np.zeros((8, 8, 3), np.uint8)))
        info = open_recording(tmp_path / name).info()
        assert info.continuous == continuous
        assert info.notes == {}
        assert bool(info.sensors["front"].gaps) == continuous


def test_info_tells_what_is_in_it(small):
    info = open_recording(small, Task.load("yard")).info()
    assert info.task == "yard"
    assert info.notes == {}
    assert info.truths == 12
    assert list(info.sensors) == ["front", "roof", "mic"]
    front = info.sensors["front"]
    assert (front.count, front.source, front.gaps) == (12, "/camera/front", ())
    assert front.rate_hz == pytest.approx(10)
    assert info.duration_ns == 1_200_000_000
    assert info.sensors["mic"].first_ns == front.first_ns - 100_000_000
    assert info.damage == ""


def test_readings_come_in_file_order_with_rising_cursors(small):
    found = list(open_recording(small).readings())
    cursors = [cursor for cursor, _ in found]
    assert cursors[0] >= 1
    assert all(a < b for a, b in itertools.pairwise(cursors))
    assert [r.sensor for _, r in found[:3]] == ["mic", "roof", "front"]
    assert len(found) == 36


def test_the_same_calls_give_the_same_bytes_and_hash(tmp_path):
    for name in ("a", "b"):
        write_synthetic(tmp_path / name, frames=2, width=64, height=32, points=64)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    first = open_recording(tmp_path / "a").info().content_sha256
    write_synthetic(tmp_path / "b", frames=2, width=64, height=32, points=64, seed=1)
    assert open_recording(tmp_path / "b").info().content_sha256 != first


def test_a_point_grid_rounds_within_half_a_step_and_halves_the_file(tmp_path):
    write_synthetic(tmp_path / "exact", frames=2, width=64, height=32)
    write_synthetic(tmp_path / "coarse", frames=2, width=64, height=32, point_grid_m=1 / 128)
    sweeps = [
        [r.payload.points for _, r in open_recording(tmp_path / name).readings() if r.sensor == "roof"]
        for name in ("exact", "coarse")
    ]
    for exact, coarse in zip(*sweeps, strict=True):
        assert np.abs(exact[:, :3] - coarse[:, :3]).max() <= 1 / 256 + 1e-6
        assert np.abs(exact[:, 3] - coarse[:, 3]).max() <= 1 / 512 + 1e-6
    assert (tmp_path / "coarse").stat().st_size < 0.6 * (tmp_path / "exact").stat().st_size


def test_nothing_is_left_when_recording_fails(tmp_path):
    path = tmp_path / "a.mcap"

    def record():
        with RecordingWriter(path, synthetic_rig(), "yard") as writer:
            writer.audio("mic", 1, AudioChunk(np.zeros(10, np.int16), 16000))
            assert path.with_name("a.mcap.part").exists()
            assert not path.exists()
            raise KeyError("the simulation broke")

    with pytest.raises(KeyError):
        record()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_recording_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.mcap"
    write_synthetic(path, frames=1, width=64, height=32, points=64)
    before = path.read_bytes()
    with pytest.raises(RecordingError, match="nothing was recorded"), RecordingWriter(path, None, "yard"):
        pass
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RecordingError, match="cannot be written"):
        write_synthetic(tmp_path / "file" / "a.mcap", frames=1, width=64, height=32, points=64)


def sweep(offsets, labels):
    return PointCloud(np.zeros((4, 4), np.float32), offsets, labels)


def silence():
    return AudioChunk(np.zeros(4, np.int16), 16000)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda w: w.audio("mic", -1, silence()), "outside 0"),
        (lambda w: w.audio("mic", 1 << 63, silence()), "outside 0"),
        (lambda w: w.audio("Mic 1", 1, silence()), "sensor name"),
        (lambda w: w.audio("front", 1, silence()), "camera already"),
        (lambda w: w.audio("mic", 1, AudioChunk(np.zeros(4, np.float32), 16000)), "float32"),
        (lambda w: w.lidar("roof", 1, PointCloud(np.zeros((4, 3), np.float32))), r"\(4, 3\)"),
        (lambda w: w.lidar("roof", 1, sweep(np.zeros(3, np.float32), None)), "'offset_s' of shape"),
        (lambda w: w.lidar("roof", 1, sweep(np.zeros(4), None)), "float64"),
        (lambda w: w.lidar("roof", 1, sweep(None, np.zeros(4, np.int32))), "'label' of shape .* int32"),
        (lambda w: w.camera("front", 1, Image(np.zeros((4, 4), np.uint8))), r"\(4, 4\)"),
    ],
)
def test_values_that_cannot_be_stored_are_refused(tmp_path, write, text):
    def record():
        with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
            writer.camera("front", 1, Image(np.zeros((8, 8, 3), np.uint8)))
            write(writer)

    with pytest.raises(InputError, match=text):
        record()
    assert list(tmp_path.iterdir()) == []
