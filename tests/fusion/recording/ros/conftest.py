"""Bags written by the `rosbags` and `mcap` packages: what another's recorder would write."""

from functools import cache
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

OTHERS = {
    "tf2_msgs/msg/TFMessage": "geometry_msgs/TransformStamped[] transforms",
    "tf/msg/tfMessage": "geometry_msgs/TransformStamped[] transforms",
    "audio_common_msgs/msg/AudioData": "uint8[] data",
    "audio_common_msgs/msg/AudioDataStamped": "std_msgs/Header header\naudio_common_msgs/AudioData audio",
    "audio_common_msgs/msg/AudioInfo": (
        "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\nstring coding_format"
    ),
    "ouster_ros/msg/PacketMsg": "uint8[] buf",
}
NUMBERS = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
START = 1_700_000_000_000_000_000


@cache
def store_of(ros):
    store = get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_HUMBLE)
    for name, definition in OTHERS.items():
        if name not in store.fielddefs:
            store.register(get_types_from_msg(definition, name))
    return store


class Messages:
    """Messages of ROS 1 or ROS 2 by the same calls."""

    def __init__(self, ros):
        self.ros, self.store = ros, store_of(ros)

    def new(self, name, /, **fields):
        return self.store.types[name](**fields)

    def header(self, time_ns, frame=""):
        stamp = self.new("builtin_interfaces/msg/Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9)
        more = {"seq": 7} if self.ros == 1 else {}
        return self.new("std_msgs/msg/Header", stamp=stamp, frame_id=frame, **more)

    def image(self, pixels, encoding, time_ns=START, frame="cam", big=False, **changes):
        rows = pixels.reshape(len(pixels), -1)
        data = np.frombuffer(rows.tobytes(), np.uint8)
        fields = {
            "header": self.header(time_ns, frame),
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "encoding": encoding,
            "is_bigendian": int(big),
            "step": len(data) // len(pixels),
            "data": data,
        }
        return self.new("sensor_msgs/msg/Image", **(fields | changes))

    def jpeg(self, pixels, time_ns=START, frame="cam", data=None, form="jpeg"):
        encoded = cv2.imencode(".jpg", pixels)[1].reshape(-1) if data is None else np.frombuffer(data, np.uint8)
        header = self.header(time_ns, frame)
        return self.new("sensor_msgs/msg/CompressedImage", header=header, format=form, data=encoded)

    def cloud(self, points, time_ns=START, frame="lidar", rows=1, pad=0, big=False, **changes):
        """A structured array as a cloud of `rows` rows, each with `pad` bytes behind it."""
        kind = points.dtype
        fields = [
            self.new(
                "sensor_msgs/msg/PointField",
                name=name,
                offset=kind.fields[name][1],
                datatype=NUMBERS[kind[name].str[1:]],
                count=1,
            )
            for name in kind.names
        ]
        width = len(points) // rows
        data = b"".join(row.tobytes() + bytes(pad) for row in points.reshape(rows, width))
        made = {
            "header": self.header(time_ns, frame),
            "height": rows,
            "width": width,
            "fields": fields,
            "is_bigendian": big,
            "point_step": kind.itemsize,
            "row_step": width * kind.itemsize + pad,
            "data": np.frombuffer(data, np.uint8),
            "is_dense": False,
        }
        return self.new("sensor_msgs/msg/PointCloud2", **(made | changes))

    def calibration(self, frame="cam", size=(24, 16), d=(), k=None, model="plumb_bob", p=None, r=None):
        k = np.array([20.0, 0, 12, 0, 20, 8, 0, 0, 1] if k is None else k)
        p = np.hstack([k.reshape(3, 3), np.zeros((3, 1))]).ravel() if p is None else np.array(p, np.float64)
        r = np.eye(3).ravel() if r is None else np.array(r, np.float64)
        names = "DKRP" if self.ros == 1 else "dkrp"
        values = dict(zip(names, (np.array(d, np.float64), k, r, p), strict=True))
        roi = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
        return self.new(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(START, frame),
            height=size[1],
            width=size[0],
            distortion_model=model,
            binning_x=0,
            binning_y=0,
            roi=self.new("sensor_msgs/msg/RegionOfInterest", **roi),
            **values,
        )

    def transforms(self, *edges, name="tf2_msgs/msg/TFMessage"):
        """Edges of parent, child, translation and quaternion x y z w."""
        made = []
        for parent, child, move, turn in edges:
            vector = self.new("geometry_msgs/msg/Vector3", x=move[0], y=move[1], z=move[2])
            rotation = self.new("geometry_msgs/msg/Quaternion", x=turn[0], y=turn[1], z=turn[2], w=turn[3])
            transform = self.new("geometry_msgs/msg/Transform", translation=vector, rotation=rotation)
            header = self.header(START, parent)
            stamped = {"header": header, "child_frame_id": child, "transform": transform}
            made.append(self.new("geometry_msgs/msg/TransformStamped", **stamped))
        return self.new(name, transforms=made)

    def audio(self, data, time_ns=None):
        plain = self.new("audio_common_msgs/msg/AudioData", data=np.frombuffer(data, np.uint8))
        if time_ns is None:
            return plain
        header = self.header(time_ns, "mic")
        return self.new("audio_common_msgs/msg/AudioDataStamped", header=header, audio=plain)

    def audio_info(self, coding="wave", form="S16LE", rate=16000, channels=1):
        return self.new(
            "audio_common_msgs/msg/AudioInfo",
            channels=channels,
            sample_rate=rate,
            sample_format=form,
            bitrate=256000,
            coding_format=coding,
        )

    def text(self, data):
        return self.new("std_msgs/msg/String", data=data)


def write_bag1(path, messages, compression=None, md5=None, threshold=None):
    store = store_of(1)
    writer = Writer1(path)
    if compression:
        writer.set_compression(getattr(Writer1.CompressionFormat, compression))
    if threshold:
        writer.chunk_threshold = threshold
    connections = {}
    with writer:
        for topic, message, time_ns in messages:
            if topic not in connections:
                definition, checksum = store.generate_msgdef(message.__msgtype__)
                own = {"msgdef": definition, "md5sum": md5 or checksum}
                connections[topic] = writer.add_connection(topic, message.__msgtype__, **own)
            writer.write(connections[topic], time_ns, store.serialize_ros1(message, message.__msgtype__))


def write_bag2(path, messages, plugin="SQLITE3", mode=None, big=False):
    store = store_of(2)
    writer = Writer2(path, version=9, storage_plugin=StoragePlugin[plugin])
    if mode:
        writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    connections = {}
    with writer:
        for topic, message, time_ns in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
            data = store.serialize_cdr(message, message.__msgtype__, little_endian=not big)
            writer.write(connections[topic], time_ns, data)


def write_mcap(path, messages, ros=1, profile=None, **options):
    store = store_of(ros)
    with path.open("wb") as file:
        writer = McapWriter(file, **options)
        writer.start(profile=f"ros{ros}" if profile is None else profile)
        channels = {}
        for topic, message, time_ns in messages:
            name = message.__msgtype__
            if topic not in channels:
                definition = store.generate_msgdef(name, ros_version=ros)[0]
                shown = name.replace("/msg/", "/") if ros == 1 else name
                schema = writer.register_schema(shown, f"ros{ros}msg", definition.encode())
                more = {"md5sum": store.generate_msgdef(name)[1]} if ros == 1 else {}
                channels[topic] = writer.register_channel(topic, "ros1" if ros == 1 else "cdr", schema, more)
            data = store.serialize_ros1(message, name) if ros == 1 else store.serialize_cdr(message, name)
            writer.add_message(channels[topic], time_ns, bytes(data), time_ns)
        writer.finish()


KINDS = {
    "bag": (1, lambda path, messages: write_bag1(path.with_suffix(".bag"), messages)),
    "bag-lz4": (1, lambda path, messages: write_bag1(path.with_suffix(".bag"), messages, "LZ4")),
    "bag-bz2": (1, lambda path, messages: write_bag1(path.with_suffix(".bag"), messages, "BZ2")),
    "ros1-mcap": (1, lambda path, messages: write_mcap(path.with_suffix(".mcap"), messages)),
    "ros2-mcap": (2, lambda path, messages: write_mcap(path.with_suffix(".mcap"), messages, 2)),
    "folder": (2, write_bag2),
    "folder-mcap": (2, lambda path, messages: write_bag2(path, messages, "MCAP")),
    "folder-file-zstd": (2, lambda path, messages: write_bag2(path, messages, mode="FILE")),
    "folder-message-zstd": (2, lambda path, messages: write_bag2(path, messages, mode="MESSAGE")),
    "folder-mcap-zstd": (2, lambda path, messages: write_bag2(path, messages, "MCAP", mode="STORAGE")),
    "folder-big-endian": (2, lambda path, messages: write_bag2(path, messages, big=True)),
}


@pytest.fixture
def bags(tmp_path):
    """`bags.messages(kind)` makes messages, `bags.write(kind, messages)` a bag of them at the path it returns."""

    def write(kind, messages, name="drive"):
        _, writer = KINDS[kind]
        path = tmp_path / name
        writer(path, messages)
        return next(p for p in (path, path.with_suffix(".bag"), path.with_suffix(".mcap")) if p.exists())

    return SimpleNamespace(
        messages=lambda kind: Messages(KINDS[kind][0]),
        write=write,
        write_bag1=write_bag1,
        write_bag2=write_bag2,
        write_mcap=write_mcap,
        start=START,
    )


@pytest.fixture(scope="session")
def both():
    """Messages of ROS 1 and ROS 2, by its number."""
    return {ros: Messages(ros) for ros in (1, 2)}


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    """Every container and compression."""
    return request.param


@pytest.fixture(params=["bag", "folder"])
def ros(request):
    """One container of each ROS."""
    return request.param
