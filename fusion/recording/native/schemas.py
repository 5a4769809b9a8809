"""The public Foxglove protobuf schemas a recording is made of, and which sensor a topic is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.FrameTransforms_pb2 import FrameTransforms
from foxglove_schemas_protobuf.PointCloud_pb2 import PointCloud
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from fusion.errors import InputError
from fusion.types import Modality

ENCODING = "protobuf"
EGO = "ego"
MAP = "map"
"""The frame that does not move, in which poses of the ego frame are told (REP-105)."""
METADATA = "fusion-recording"
"""Name of the MCAP metadata record that carries the task's name and the writer's notes."""
NOT_CONTINUOUS = {"continuous": "false"}
"""What that record says of a recording whose readings do not follow each other in time."""
TRUTH_TOPIC = "/truth"
TRANSFORM_TOPIC = "/tf"
MODALITIES: Mapping[Any, Modality] = {
    CompressedImage: Modality.CAMERA,
    PointCloud: Modality.LIDAR,
    RawAudio: Modality.SPEECH,
}
FOLDERS: Mapping[Modality, str] = {Modality.CAMERA: "camera", Modality.LIDAR: "lidar", Modality.SPEECH: "audio"}
"""Where a sensor's topic lies: `/camera/front`."""
_KINDS = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (*MODALITIES, CameraCalibration, FrameTransform, FrameTransforms, SceneUpdate)
}
_TOPIC = re.compile(r"/(?:camera|lidar|audio)/([a-z0-9][a-z0-9-]*)")
LAST_NS = (1 << 63) - 1
"""The last time that is stored."""


def kind_of(channel: Any, schemas: Mapping[int, Any]) -> Any | None:
    """The message class of an `mcap.records.Channel`; None when its topic is not one this stack reads."""
    schema = schemas.get(channel.schema_id)
    if schema is None or schema.encoding != ENCODING or channel.message_encoding != ENCODING:
        return None
    return _KINDS.get(schema.name)


def decoded(kind: Any, data: memoryview) -> Any:
    """A message of class `kind`; raises `InputError` when the bytes are none."""
    try:
        return kind.FromString(bytes(data))
    except DecodeError:
        raise InputError(f"not a {kind.DESCRIPTOR.full_name} message") from None


def descriptor_set(kind: Any) -> bytes:
    """The serialized `FileDescriptorSet` of a message class: its file after all the files it needs."""
    files: dict[str, FileDescriptor] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name not in files:
            for needed in file.dependencies:
                visit(needed)
            files[file.name] = file

    visit(kind.DESCRIPTOR.file)
    found = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(found.file.add())
    return found.SerializeToString(deterministic=True)


def stamp(time_ns: int) -> Timestamp:
    """Integer nanoseconds as a protobuf time; raises `InputError` outside 0..2^63-1."""
    if not 0 <= time_ns <= LAST_NS:
        raise InputError(f"time {time_ns} ns is outside 0..2^63-1")
    seconds, nanos = divmod(int(time_ns), 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def time_of(message: Any, log_time_ns: int) -> int:
    """A message's own time in nanoseconds, its log time when it has none; raises `InputError` for a bad one."""
    time_ns = log_time_ns
    if message.HasField("timestamp"):
        if not 0 <= message.timestamp.nanos < 1_000_000_000:
            raise InputError(f"its time has {message.timestamp.nanos} nanoseconds beside the seconds")
        time_ns = message.timestamp.seconds * 1_000_000_000 + message.timestamp.nanos
    if not 0 <= time_ns <= LAST_NS:
        raise InputError(f"its time {time_ns} ns is outside 0..2^63-1")
    return time_ns


def sensor_names(topics: Iterable[str]) -> dict[str, str]:
    """Sensor names by topic: `front` of `/camera/front`; all of the topic, dashed, if it is of another shape."""
    topics = sorted(topics)
    short = {topic: match[1] for topic in topics if (match := _TOPIC.fullmatch(topic))}
    names: dict[str, str] = {}
    for topic in topics:
        name = short.get(topic)
        if name is None or list(short.values()).count(name) > 1:
            name = re.sub(r"[^a-z0-9]+", "-", topic.lower()).strip("-") or "sensor"
        while name in names.values():
            name += "-x"
        names[topic] = name
    return names
