"""What was recorded, poured into an MCAP file: an MCAP's own messages, or readings in the native schemas."""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from fusion.errors import InputError, RecordingError
from fusion.recording.base import EgoPose, IndexedReader, PosedReader, RecordingInfo, RecordingReader
from fusion.recording.damage import DamageLog
from fusion.recording.native.index import profile_of, scan_past_damage
from fusion.recording.native.reader import McapReader
from fusion.recording.native.rig_messages import calibration_message, pose_message, transform_messages
from fusion.recording.native.schemas import (
    EGO,
    FOLDERS,
    LAST_NS,
    METADATA,
    NOT_CONTINUOUS,
    TRANSFORM_TOPIC,
    TRUTH_TOPIC,
)
from fusion.recording.native.sensor_messages import audio_message, cloud_message, image_message
from fusion.recording.native.stream import MAGIC, MessageScan, RawMessage
from fusion.recording.native.truth_messages import truth_message
from fusion.recording.ros.mcap_bag import speaks_ros
from fusion.types import AudioChunk, Image, Modality, Reading, Truth
from replay.export.foxglove.writer import TopicWriter
from replay.results.records import RecordingResults

OURS = "/fusion/"
"""Topics that an export adds begin so."""
REPLAY_METADATA = "fusion-replay"
"""Name of the MCAP metadata record that says what was run."""
_JPEG_QUALITY = 90
_PLACING = {
    "foxglove.CameraCalibration",
    "foxglove.FrameTransform",
    "foxglove.FrameTransforms",
    "tf2_msgs/TFMessage",
    "tf2_msgs/msg/TFMessage",
    "sensor_msgs/CameraInfo",
    "sensor_msgs/msg/CameraInfo",
}
"""Messages that say where sensors sit; of a stretch, those before it hold for it, too."""


class RecordedSource(Protocol):
    """What was recorded. `profile` is the MCAP header's, `ego` the name of the frame that boxes are told in."""

    profile: str
    ego: str

    def pour(self, writer: TopicWriter) -> Iterator[tuple[int, int]]:
        """Write message after message; for each its reader's cursor (0: of no reading) and its time in the file."""


def source_of(reader: RecordingReader, one: RecordingResults) -> RecordedSource:
    """An MCAP file is copied, another recording is written anew."""
    if is_mcap(reader.path):
        return McapSource(reader, one)
    return OtherSource(reader, one)


def is_mcap(path: Path) -> bool:
    """Whether `path` is a file that begins as an MCAP does."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class McapSource:
    """Every message of the file byte for byte, in its order, but for topics that an earlier export added.

    Of a stretch, its readings, what else was logged from the first of them to the last, and what placed the sensors
    before. Where the results say that the recording is damaged, what is sound on both sides of the damage, as the run
    read it.
    """

    def __init__(self, reader: RecordingReader, one: RecordingResults) -> None:
        self._path, self._salvage = reader.path, bool(one.damage)
        whole = one.from_s == 0 and one.to_s is None
        self._stretch = None if whole else reader
        self.profile = _ros_profile(reader.path, salvage=self._salvage) if speaks_ros(reader.path) else ""
        self.ego = "base_link" if self.profile else _base_frame(reader.path, salvage=self._salvage)

    def pour(self, writer: TopicWriter) -> Iterator[tuple[int, int]]:
        """See `RecordedSource.pour`."""
        scan = _scan(self._path, salvage=self._salvage)
        try:
            for message in scan.messages():
                channel = scan.channels[message.channel]
                schema = scan.schemas.get(channel.schema_id)
                if not channel.topic.startswith(OURS) and self._wants(message, schema.name if schema else ""):
                    writer.copy(message, channel, schema)
                    yield message.cursor, message.time_ns
        except RecordingError:
            if not self._salvage:
                raise
        for name, content in scan.metadata.items():
            if name != REPLAY_METADATA:
                writer.metadata(name, content)

    def _wants(self, message: RawMessage, kind: str) -> bool:
        part = self._part
        if part is None:
            return True
        if message.channel in part.channels:
            return part.holds(message.cursor)
        return message.time_ns <= part.last_ns and (message.time_ns >= part.first_ns or kind in _PLACING)

    @cached_property
    def _part(self) -> _Part | None:
        """What belongs to the stretch; 8 bytes a reading. None for a whole recording."""
        if self._stretch is None:
            return None
        reader = self._stretch
        told = reader.stamps() if isinstance(reader, IndexedReader) else reader.readings()
        part = _Part(array("Q", (cursor for cursor, _ in told)))
        try:
            for message in _scan(self._path, salvage=self._salvage).messages():
                if part.holds(message.cursor):
                    part.add(message)
        except RecordingError:
            if not self._salvage:
                raise
        return part


@dataclass(slots=True)
class _Part:
    """A stretch of an MCAP file: the `cursors` of its readings, rising, their channels, and when they were logged."""

    cursors: array[int]
    channels: set[int] = field(default_factory=set)
    first_ns: int = LAST_NS
    last_ns: int = 0

    def holds(self, cursor: int) -> bool:
        """Whether this is one of the readings."""
        at = bisect_left(self.cursors, cursor)
        return at < len(self.cursors) and self.cursors[at] == cursor

    def add(self, message: RawMessage) -> None:
        """Take a reading's message."""
        self.channels.add(message.channel)
        self.first_ns, self.last_ns = min(self.first_ns, message.time_ns), max(self.last_ns, message.time_ns)


class OtherSource:
    """Readings, truth, poses and rig as `fusion convert` writes them; pictures keep their own bytes."""

    profile = ""
    ego = EGO

    def __init__(self, reader: RecordingReader, one: RecordingResults) -> None:
        self._reader, self._name = reader, one.name

    def pour(self, writer: TopicWriter) -> Iterator[tuple[int, int]]:
        """See `RecordedSource.pour`."""
        info = self._reader.info()
        placed = False
        for time_ns, cursor, event in self._events():
            if not placed:
                _write_rig(writer, info, time_ns)
                placed = True
            _write(writer, event)
            yield cursor, time_ns
        notes = {"task": info.task, "source": f"{info.format} {info.path.name}", "source-sha256": info.content_sha256}
        notes |= dict(info.notes) | ({} if info.continuous else NOT_CONTINUOUS)
        writer.metadata(METADATA, notes)

    def _events(self) -> Iterator[tuple[int, int, Reading | Truth | EgoPose]]:
        """Time, cursor and content; at equal times poses, then truth, then readings, which a sample follows."""
        reader = self._reader
        poses = reader.poses() if isinstance(reader, PosedReader) else iter(())
        return heapq.merge(
            ((pose.time_ns, 0, pose) for pose in poses),
            ((truth.time_ns, 0, truth) for truth in reader.truth()),
            ((reading.capture_time_ns, cursor, reading) for cursor, reading in reader.readings()),
            key=lambda event: event[0],
        )


def _write_rig(writer: TopicWriter, info: RecordingInfo, time_ns: int) -> None:
    if info.rig is None:
        return
    for name, camera in info.rig.cameras.items():
        topic = f"/{FOLDERS[Modality.CAMERA]}/{name}/calibration"
        writer.proto(topic, time_ns, calibration_message(name, camera, time_ns))
    for message in transform_messages(info.rig, time_ns):
        writer.proto(TRANSFORM_TOPIC, time_ns, message)


def _write(writer: TopicWriter, event: Reading | Truth | EgoPose) -> None:
    if isinstance(event, Truth):
        writer.proto(TRUTH_TOPIC, event.time_ns, truth_message(event))
    elif isinstance(event, EgoPose):
        writer.proto(TRANSFORM_TOPIC, event.time_ns, pose_message(event))
    else:
        topic, time_ns = f"/{FOLDERS[event.modality]}/{event.sensor}", event.capture_time_ns
        if isinstance(event.payload, Image):
            message = image_message(event.sensor, time_ns, event.payload, _JPEG_QUALITY)
        elif isinstance(event.payload, AudioChunk):
            message = audio_message(time_ns, event.payload)
        else:
            message = cloud_message(event.sensor, time_ns, event.payload, 0.0)
        writer.proto(topic, time_ns, message)


def _scan(path: Path, *, salvage: bool) -> MessageScan:
    return scan_past_damage(path, DamageLog()) if salvage else MessageScan(path)


def _ros_profile(path: Path, *, salvage: bool) -> str:
    """The file's own profile, else that of its messages: it must say so once there are others beside them."""
    told = profile_of(path)
    if told:
        return told
    scan = _scan(path, salvage=salvage)
    try:
        for message in scan.messages():
            return "ros1" if scan.channels[message.channel].message_encoding == "ros1" else "ros2"
    except RecordingError:
        if not salvage:
            raise
    return "ros2"


def _base_frame(path: Path, *, salvage: bool) -> str:
    """What the ego frame is called in a file of Foxglove messages: see `FrameTree.ego_from`."""
    tree = McapReader(path, salvage=salvage).survey.frames()
    names = tree.names()
    known = next((name for name in (EGO, "base_link") if name in names), None)
    if known or not names:
        return known or EGO
    try:
        return tree.root(min(tree.parents))
    except InputError:
        return EGO
