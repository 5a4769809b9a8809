"""Other people's tools read our files, and we read theirs."""

import json

import numpy as np
import pytest
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.FrameTransforms_pb2 import FrameTransforms
from foxglove_schemas_protobuf.PackedElementField_pb2 import PackedElementField
from foxglove_schemas_protobuf.PointCloud_pb2 import PointCloud
from foxglove_schemas_protobuf.Pose_pb2 import Pose
from foxglove_schemas_protobuf.Quaternion_pb2 import Quaternion
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from foxglove_schemas_protobuf.Vector3_pb2 import Vector3
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.timestamp_pb2 import Timestamp
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType, Writer

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.native.schemas import descriptor_set
from fusion.task import Task
from fusion.types import Modality


def decoders(summary):
    """Message classes made of nothing but what the file itself says of its schemas."""
    found = {}
    for schema in summary.schemas.values():
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
            pool.Add(file)
        found[schema.id] = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
    return found


def test_the_plain_mcap_library_reads_ours_with_the_schemas_in_the_file(small):
    with small.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        classes = decoders(summary)
        topics = {}
        for schema, channel, message in reader.iter_messages():
            assert (schema.encoding, channel.message_encoding) == ("protobuf", "protobuf")
            decoded = classes[schema.id].FromString(message.data)
            topics.setdefault(channel.topic, []).append((message.log_time, schema.name, decoded))
    kinds = {topic: found[0][1] for topic, found in topics.items()}
    assert kinds == {
        "/camera/front": "foxglove.CompressedImage",
        "/camera/front/calibration": "foxglove.CameraCalibration",
        "/lidar/roof": "foxglove.PointCloud",
        "/audio/mic": "foxglove.RawAudio",
        "/tf": "foxglove.FrameTransform",
        "/truth": "foxglove.SceneUpdate",
    }
    time_ns, _, sweep = topics["/lidar/roof"][0]
    assert sweep.timestamp.ToNanoseconds() == time_ns
    assert [field.name for field in sweep.fields] == ["x", "y", "z", "intensity"]
    ours = next(r for _, r in open_recording(small).readings() if r.sensor == "roof")
    assert sweep.data == ours.payload.points.tobytes()
    cube = topics["/truth"][0][2].entities[1].cubes[0]
    assert (cube.pose.position.x, cube.size.z) == (4.0, 0.9)
    assert {tf.child_frame_id for _, _, tf in topics["/tf"]} == {"front", "roof"}


def test_every_chunk_and_both_ends_carry_checksums(small):
    with small.open("rb") as file:
        summary = make_reader(file).get_summary()
        assert all(index.compression == "zstd" for index in summary.chunk_indexes)
        assert max(index.uncompressed_size for index in summary.chunk_indexes) < 2 << 20
    data = small.read_bytes()
    assert int.from_bytes(data[-12:-8], "little") != 0, "no summary checksum"


class Foreign:
    """A file written by the mcap library alone, as another recorder might."""

    def __init__(self, path, **options):
        self.file = path.open("wb")
        self.writer = Writer(self.file, **options)
        self.writer.start()
        self.channels = {}

    def add(self, topic, message, log_time):
        if topic not in self.channels:
            kind = type(message)
            schema = self.writer.register_schema(kind.DESCRIPTOR.full_name, "protobuf", descriptor_set(kind))
            self.channels[topic] = self.writer.register_channel(topic, "protobuf", schema)
        self.writer.add_message(self.channels[topic], log_time, message.SerializeToString(), log_time)

    def close(self):
        self.writer.finish()
        self.file.close()


def jpeg():
    import cv2

    return cv2.imencode(".jpg", np.full((16, 24, 3), 128, np.uint8))[1].tobytes()


def padded_cloud():
    """ROS-like: a point step of 24, float64 z, uint8 intensity, a NaN point, and a pose a metre ahead."""
    layout = np.dtype(
        {
            "names": ["x", "y", "z", "intensity"],
            "formats": ["<f4", "<f4", "<f8", "u1"],
            "offsets": [0, 4, 8, 20],
            "itemsize": 24,
        }
    )
    points = np.zeros(3, layout)
    points["x"], points["y"], points["z"], points["intensity"] = [1, np.nan, 3], [4, 5, 6], [7, 8, 9], [255, 0, 51]
    kinds = PackedElementField
    return PointCloud(
        timestamp=Timestamp(seconds=7, nanos=5),
        frame_id="lidar_top",
        pose=Pose(position=Vector3(x=1), orientation=Quaternion(w=1)),
        point_stride=24,
        fields=[
            kinds(name="x", offset=0, type=kinds.FLOAT32),
            kinds(name="y", offset=4, type=kinds.FLOAT32),
            kinds(name="z", offset=8, type=kinds.FLOAT64),
            kinds(name="intensity", offset=20, type=kinds.UINT8),
        ],
        data=points.tobytes(),
    )


INTENSITIES = [
    ([200, 17], [200 / 255, 17 / 255]),
    ([1, 0.25], [1, 0.25]),
    ([0.5, np.inf, 0.25, np.nan, -np.inf], [0.5, 0.25]),
    ([51, np.inf, 204, np.nan, -np.inf], [51 / 255, 204 / 255]),
]


@pytest.mark.parametrize("layout", [[], [("offset_s", "<f4")], [("ring", "<f4")]], ids=["bare", "ours", "foreign"])
@pytest.mark.parametrize(("told", "expected"), INTENSITIES)
def test_float_intensities_are_of_255_when_a_finite_one_is_above_one(tmp_path, layout, told, expected):
    layout = np.dtype([(axis, "<f4") for axis in ("x", "y", "z", "intensity")] + layout)
    points = np.ones(len(told), layout)
    points["intensity"] = told
    fields = [PackedElementField(name=name, offset=place[1], type=PackedElementField.FLOAT32)
              for name, place in layout.fields.items()]  # fmt: skip
    foreign = Foreign(tmp_path / "a.mcap")
    foreign.add(
        "/top",
        PointCloud(frame_id="top", point_stride=layout.itemsize, fields=fields, data=points.tobytes()),
        1,
    )
    foreign.close()
    reader = open_recording(tmp_path / "a.mcap")
    ((_, reading),) = reader.readings()
    assert np.array_equal(reading.payload.points[:, 3], np.array(expected, np.float32))
    assert reader.dropped_points == len(told) - len(expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": CompressionType.LZ4},
        {"compression": CompressionType.NONE, "enable_crcs": False},
        {"use_chunking": False},
        {"index_types": IndexType.NONE},
        {"use_statistics": False, "repeat_channels": False, "repeat_schemas": False, "use_summary_offsets": False},
    ],
    ids=lambda options: " ".join(options) or "default",
)
def test_a_file_of_another_recorder_is_read(tmp_path, options):
    path = tmp_path / "theirs.mcap"
    theirs = Foreign(path, **options)
    theirs.add(
        "/tf_static",
        FrameTransforms(
            transforms=[
                FrameTransform(parent_frame_id="map", child_frame_id="base_link", translation=Vector3(x=100)),
                FrameTransform(parent_frame_id="base_link", child_frame_id="lidar_top", translation=Vector3(z=2)),
                FrameTransform(
                    parent_frame_id="base_link", child_frame_id="cam", rotation=Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
                ),
            ]
        ),
        1,
    )
    k = [20.0, 0, 12, 0, 20, 8, 0, 0, 1]
    theirs.add("/CAM_FRONT/camera_info", CameraCalibration(frame_id="cam", width=24, height=16, K=k), 2)
    theirs.add("/CAM_FRONT/image", CompressedImage(frame_id="cam", data=jpeg(), format="jpeg"), 3)
    theirs.add("/LIDAR_TOP", padded_cloud(), 4)
    stereo = np.array([[100, 300], [-5, -7]], "<i2")
    sound = RawAudio(data=stereo.tobytes(), format="pcm-s16", sample_rate=8000, number_of_channels=2)
    theirs.add("/sound", sound, 5)
    theirs.close()

    reader = open_recording(path)
    info = reader.info()
    assert {name: s.modality for name, s in info.sensors.items()} == {
        "cam-front-image": Modality.CAMERA,
        "lidar-top": Modality.LIDAR,
        "sound": Modality.SPEECH,
    }
    readings = {r.sensor: (cursor, r) for cursor, r in reader.readings()}
    assert [cursor for cursor, _ in readings.values()] == [3, 4, 5]
    assert readings["cam-front-image"][1].capture_time_ns == 3, "without a stamp of its own, the log time counts"
    sweep = readings["lidar-top"][1]
    assert sweep.capture_time_ns == 7_000_000_005
    assert np.allclose(sweep.payload.points, [[2, 4, 7, 1], [4, 6, 9, 0.2]])
    assert reader.dropped_points == 1
    assert readings["sound"][1].payload.pcm.tolist() == [200, -6]
    assert np.allclose(info.rig.ego_from_lidar["lidar-top"][:3, 3], [0, 0, 2])
    ahead, inside = info.rig.cameras["cam-front-image"].project(np.array([[5.0, 0, 0], [-5.0, 0, 0]]))
    assert inside.tolist() == [True, False]
    assert np.allclose(ahead[0], [12, 8])
    assert list(reader.truth()) == []


def test_a_lens_nobody_knows_leaves_the_camera_uncalibrated_and_says_so(tmp_path):
    theirs = Foreign(tmp_path / "a.mcap")
    theirs.add("/tf", FrameTransform(parent_frame_id="ego", child_frame_id="cam"), 1)
    calibration = CameraCalibration(frame_id="cam", width=24, height=16, K=[20.0] * 9, distortion_model="fisheye62")
    theirs.add("/cam/info", calibration, 1)
    theirs.add("/camera/cam", CompressedImage(frame_id="cam", data=jpeg(), format="jpeg"), 2)
    theirs.close()
    info = open_recording(tmp_path / "a.mcap").info()
    assert info.rig is None
    assert "fisheye62" in info.notes["calibration of cam"]
    assert len(list(open_recording(tmp_path / "a.mcap").readings())) == 1


def test_transforms_in_a_circle_are_no_endless_loop(tmp_path):
    theirs = Foreign(tmp_path / "a.mcap")
    for parent, child in (("a", "b"), ("b", "a")):
        theirs.add("/tf", FrameTransform(parent_frame_id=parent, child_frame_id=child), 1)
    theirs.add("/camera/cam", CompressedImage(frame_id="a", data=jpeg(), format="jpeg"), 2)
    theirs.close()
    assert "circle" in open_recording(tmp_path / "a.mcap").info().notes["calibration of cam"]


def cloud(**changes):
    kinds = PackedElementField
    fields = [kinds(name=axis, offset=4 * i, type=kinds.FLOAT32) for i, axis in enumerate("xyz")]
    message = PointCloud(frame_id="l", point_stride=12, fields=fields, data=bytes(24))
    for name, value in changes.items():
        if name == "fields":
            del message.fields[:]
            message.fields.extend(value(fields))
        else:
            setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("topic", "message", "text"),
    [
        ("/lidar/l", cloud(data=bytes(25)), "no multiple of its point step of 12"),
        ("/lidar/l", cloud(point_stride=0), "outside the point step of 0"),
        ("/lidar/l", cloud(point_stride=0xFFFFFFFF, data=b""), "a point step of 4294967295 bytes; at most 65536"),
        ("/lidar/l", cloud(point_stride=8), "'z' at byte 8 lies outside"),
        ("/lidar/l", cloud(fields=lambda fields: fields[1:]), "no field x"),
        ("/lidar/l", cloud(fields=lambda fields: []), "no field x, y, z"),
        ("/lidar/l", cloud(fields=lambda f: [*f, PackedElementField(name="t", type=99)]), "unknown type 99"),
        ("/camera/c", CompressedImage(data=b"no picture", format="jpeg"), "no JPEG"),
        ("/camera/c", CompressedImage(data=jpeg()[:-40], format="jpeg"), "cut short"),
        ("/audio/m", RawAudio(data=b"abc", format="opus", sample_rate=8000, number_of_channels=1), "'opus'"),
        ("/audio/m", RawAudio(data=b"abc", format="pcm-s16", sample_rate=8000, number_of_channels=1), "3 bytes"),
        ("/audio/m", RawAudio(data=b"ab", format="pcm-s16", sample_rate=8000), "0 channels"),
        ("/audio/m", RawAudio(timestamp=Timestamp(seconds=-1), format="pcm-s16"), "outside 0"),
        ("/audio/m", RawAudio(timestamp=Timestamp(nanos=-1), format="pcm-s16"), "-1 nanoseconds"),
    ],
)
def test_bad_content_is_one_line_that_says_where(tmp_path, topic, message, text):
    theirs = Foreign(tmp_path / "a.mcap")
    theirs.add("/lidar/good", cloud(), 1)
    theirs.add(topic, message, 2)
    theirs.close()
    readings = open_recording(tmp_path / "a.mcap").readings()
    next(readings)
    with pytest.raises(RecordingError, match=text) as caught:
        next(readings)
    assert str(caught.value).startswith(f"{tmp_path / 'a.mcap'}: message 2 ({topic}) at byte ")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_protobuf_are_refused(tmp_path):
    theirs = Foreign(tmp_path / "a.mcap")
    theirs.add("/lidar/l", cloud(), 1)
    theirs.writer.add_message(theirs.channels["/lidar/l"], 2, b"\xff\xff\xff", 2)
    theirs.close()
    with pytest.raises(RecordingError, match=r"message 2 .*not a foxglove.PointCloud"):
        list(open_recording(tmp_path / "a.mcap").readings())


def test_a_recording_without_our_topics_says_what_it_has(tmp_path):
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("foxglove.Log", "jsonschema", b"{}")
        channel = writer.register_channel("/rosout", "json", schema)
        writer.add_message(channel, 1, json.dumps({}).encode(), 1)
        writer.finish()
    with pytest.raises(RecordingError, match=r"no camera, LiDAR or sound .*/rosout \(foxglove.Log, json\)"):
        next(open_recording(path).readings())
    with pytest.raises(RecordingError, match=r"no sensor of task yard \(front, roof, mic\)"):
        open_recording(path, Task.load("yard"))


def test_a_log_time_beyond_all_clocks_does_no_harm(tmp_path):
    theirs = Foreign(tmp_path / "a.mcap")
    message = cloud()
    message.timestamp.CopyFrom(Timestamp(seconds=1))
    theirs.add("/lidar/l", message, (1 << 64) - 1)
    theirs.close()
    reader = open_recording(tmp_path / "a.mcap")
    assert reader.info().sensors["l"].last_ns == (1 << 63) - 1
    assert [r.capture_time_ns for _, r in reader.readings()] == [1_000_000_000]
