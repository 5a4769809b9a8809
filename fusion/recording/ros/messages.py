"""ROS messages taken from their bytes, for ROS 1 and ROS 2 alike.

Types are decoded by definitions that come with the `rosbags` package or stand here, never by one a bag brings: that
would run code made from a stranger's file. A ROS 1 topic whose checksum tells of another definition is not read.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

from fusion.errors import InputError, RecordingError
from fusion.recording.compression import unpack
from fusion.recording.native.chunk import MAX_RECORD_BYTES
from fusion.recording.optional import optional_module
from fusion.recording.ros.source import CDR, ROS1, RosChannel

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CLOUD = "sensor_msgs/msg/PointCloud2"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TEXT = "std_msgs/msg/String"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
OLD_TRANSFORMS = "tf/msg/tfMessage"
AUDIO = "audio_common_msgs/msg/AudioData"
STAMPED_AUDIO = "audio_common_msgs/msg/AudioDataStamped"
AUDIO_INFO = "audio_common_msgs/msg/AudioInfo"
PACKETS = ("ouster_ros/msg/PacketMsg", "ouster_sensor_msgs/msg/PacketMsg", "ouster_msgs/msg/PacketMsg")
STAMPED = frozenset({IMAGE, COMPRESSED, CLOUD, STAMPED_AUDIO, CAMERA_INFO})
"""Types that begin with a header, so that their time is found without decoding them."""

_OWN = {
    TRANSFORMS: "geometry_msgs/TransformStamped[] transforms",
    OLD_TRANSFORMS: "geometry_msgs/TransformStamped[] transforms",
    AUDIO: "uint8[] data",
    STAMPED_AUDIO: "std_msgs/Header header\naudio_common_msgs/AudioData audio",
    AUDIO_INFO: "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\nstring coding_format",
} | dict.fromkeys(PACKETS, "uint8[] buf")
_KNOWN = frozenset({IMAGE, COMPRESSED, CLOUD, CAMERA_INFO, TEXT, *_OWN})
_ZSTD = b"\x28\xb5\x2f\xfd"
"""What a zstd frame begins with. A CDR message begins with a zero byte, so the two cannot be mistaken."""
_STAMP = {ROS1: struct.Struct("<4xII"), CDR: struct.Struct("<4xiI")}


def check_library(path: Path) -> None:
    """Raise `RecordingError` when the library that decodes messages is missing."""
    optional_module("rosbags.typesys", path)


def why_not(channel: RosChannel) -> str:
    """Why messages of a channel cannot be decoded; empty when they can."""
    if channel.encoding not in {ROS1, CDR}:
        return channel.encoding
    if channel.type not in _KNOWN:
        return "of no sensor"
    if channel.encoding == ROS1 and channel.md5 not in {"", "*", _checksum(channel.type)}:
        return "with another definition than the standard one"
    return ""


def plain(channel: RosChannel, data: memoryview) -> memoryview:
    """The message's own bytes: unpacked where a ROS 2 bag was recorded with compressed messages, else `data`.

    Raises `InputError`.
    """
    if channel.encoding != CDR or bytes(data[: len(_ZSTD)]) != _ZSTD:
        return data
    try:
        unpacked = unpack("zstd", bytes(data), MAX_RECORD_BYTES)
    except RecordingError as error:
        raise InputError(f"a compressed message: {error}") from None
    if len(unpacked) > MAX_RECORD_BYTES:
        raise InputError(f"a compressed message: it unpacks to more than {MAX_RECORD_BYTES} bytes")
    return memoryview(unpacked)


def decoded(channel: RosChannel, data: memoryview) -> Any:
    """The message as an object with ROS's field names; arrays of numbers are views of its bytes.

    Raises `InputError` when the bytes are none of the channel's type.
    """
    from rosbags.serde import SerdeError

    store = _store(channel.encoding)
    decode = store.deserialize_ros1 if channel.encoding == ROS1 else store.deserialize_cdr
    data = plain(channel, data)
    try:
        return decode(data, channel.type)
    except (SerdeError, IndexError, OverflowError) as error:
        raise InputError(f"not a {channel.type} message: {error}") from None


def stamp_ns(channel: RosChannel, data: memoryview) -> int:
    """The time in the header of a stamped message's own bytes, 0 when it has none.

    Raises `InputError` for one that is no time.
    """
    layout = _STAMP[channel.encoding]
    if channel.type not in STAMPED:
        return 0
    if len(data) < layout.size:
        raise InputError(f"a {channel.type} message of {len(data)} bytes")
    if channel.encoding == CDR and not data[1] & 1:
        layout = struct.Struct(">4xiI")
    return _time_ns(*layout.unpack_from(data))


def header_ns(header: Any) -> int:
    """The time in the header of a decoded message, 0 when it has none; raises `InputError` for one that is no time."""
    return _time_ns(header.stamp.sec, header.stamp.nanosec)


def frame_of(header: Any) -> str:
    """The frame of a header; ROS 1 names may begin with a slash that means nothing."""
    return str(header.frame_id).lstrip("/")


def _time_ns(seconds: int, nanoseconds: int) -> int:
    if seconds < 0 or nanoseconds >= 1_000_000_000:
        raise InputError(f"its stamp is {seconds} s and {nanoseconds} ns")
    return int(seconds * 1_000_000_000 + nanoseconds)


@cache
def _store(encoding: str) -> Any:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if encoding == ROS1 else Stores.ROS2_HUMBLE)
    for name, definition in _OWN.items():
        if name not in store.fielddefs:
            store.register(get_types_from_msg(definition, name))
    return store


@cache
def _checksum(name: str) -> str:
    return str(_store(ROS1).generate_msgdef(name)[1])
