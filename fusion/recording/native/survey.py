"""What an MCAP recording holds, gathered from its index where it has one, else from one pass over it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.FrameTransforms_pb2 import FrameTransforms

from fusion.errors import InputError, RecordingError
from fusion.geometry import Rig
from fusion.recording.native.index import Index, indexed_metadata, message_times
from fusion.recording.native.rig_messages import FrameTree, read_calibration
from fusion.recording.native.schemas import MODALITIES, TRUTH_TOPIC, decoded, kind_of, sensor_names
from fusion.recording.native.stream import ChunkPlace, MessageScan, RawMessage, Wanted
from fusion.types import Modality

_PLACING = {CameraCalibration, FrameTransform, FrameTransforms}
_OPENING = 64


@dataclass(slots=True)
class Survey:
    """Everything about a file but its messages' content.

    `times` are log times by channel, 8 bytes each. `opening` holds each sensor's first message, and of channels that
    calibrate or place sensors up to 64 from the first chunk that has any.
    """

    channels: dict[int, Any] = field(default_factory=dict)
    schemas: dict[int, Any] = field(default_factory=dict)
    times: dict[int, array[int]] = field(default_factory=dict)
    opening: dict[int, list[RawMessage]] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    damage: str = ""

    @property
    def kinds(self) -> dict[int, Any]:
        """Message class by channel, of the channels this stack reads."""
        found = {number: kind_of(channel, self.schemas) for number, channel in self.channels.items()}
        return {number: kind for number, kind in found.items() if kind is not None}

    @property
    def sensors(self) -> dict[int, tuple[str, Modality]]:
        """Sensor name and modality by channel."""
        kinds = {number: kind for number, kind in self.kinds.items() if kind in MODALITIES}
        names = sensor_names(self.channels[number].topic for number in kinds)
        return {number: (names[self.channels[number].topic], MODALITIES[kind]) for number, kind in kinds.items()}

    @property
    def truth_channels(self) -> frozenset[int]:
        """The channels truth is read from."""
        return frozenset(n for n in self.kinds if self.channels[n].topic == TRUTH_TOPIC)

    @property
    def unread(self) -> tuple[str, ...]:
        """Topics no reading is made of, with their encoding and schema."""
        others = (channel for number, channel in self.channels.items() if number not in self.kinds)
        return tuple(
            sorted(f"{c.topic} ({self._schema_name(c)}, {c.message_encoding or 'no encoding'})" for c in others)
        )

    def rig(self) -> tuple[Rig | None, dict[str, str]]:
        """Where the sensors sit (None: nothing is calibrated), and by sensor why a calibration cannot be used.

        A camera is calibrated by the message of its frame's name, and placed by the transforms.
        """
        tree, intrinsics = self.frames(), self._intrinsics()
        cameras, lidars, problems = {}, {}, {}
        for number, (name, modality) in self.sensors.items():
            first = next(self._decoded(number), None)
            if first is None or modality is Modality.SPEECH:
                continue
            try:
                placed = tree.ego_from(first.frame_id)
                if placed is not None and modality is Modality.LIDAR:
                    lidars[name] = placed
                elif placed is not None and first.frame_id in intrinsics:
                    cameras[name] = read_calibration(intrinsics[first.frame_id], placed)
            except InputError as error:
                problems[name] = str(error)
        return (Rig(cameras, lidars) if cameras or lidars else None), problems

    def frames(self) -> FrameTree:
        """How the coordinate frames hang together. Raises `InputError` for a transform that is none."""
        tree = FrameTree()
        for number, kind in self.kinds.items():
            if kind in {FrameTransform, FrameTransforms}:
                for message in self._decoded(number):
                    for transform in getattr(message, "transforms", [message]):
                        tree.add(transform)
        return tree

    def note(self, message: RawMessage) -> None:
        """Keep a message of the opening, if it is one."""
        kind = kind_of(self.channels[message.channel], self.schemas)
        most = 1 if kind in MODALITIES else _OPENING if kind in _PLACING else 0
        kept = self.opening.setdefault(message.channel, [])
        if len(kept) < most:
            kept.append(replace(message, data=memoryview(bytes(message.data))))

    def _intrinsics(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number, kind in self.kinds.items():
            if kind is CameraCalibration:
                for message in self._decoded(number):
                    found.setdefault(message.frame_id, message)
        return found

    def _decoded(self, number: int) -> Iterator[Any]:
        for message in self.opening.get(number, []):
            yield decoded(self.kinds[number], message.data)

    def _schema_name(self, channel: Any) -> str:
        schema = self.schemas.get(channel.schema_id)
        return schema.name if schema else "no schema"


def by_index(path: Path, index: Index) -> Survey:
    """The survey of a whole file, unpacking only the chunks in which a channel first appears."""
    survey = Survey(index.channels, index.schemas, message_times(path, index))
    survey.metadata.update(indexed_metadata(path, index))
    first: dict[int, int] = {}
    for offset, place in sorted(index.places.items()):
        for number in place.channels & survey.kinds.keys():
            first.setdefault(number, offset)
    nothing = ChunkPlace(0, frozenset())
    openings = set(first.values())
    places = {o: p if o in openings else replace(nothing, messages=p.messages) for o, p in index.places.items()}
    scan = MessageScan(path, places, dict(index.channels), dict(index.schemas))
    for message in scan.messages(Wanted(channels=frozenset(first))):
        survey.note(message)
    return survey


def by_scan(scan: MessageScan) -> Survey:
    """The survey of a file without a complete index; of a damaged one, of what `scan` takes for sound."""
    survey = Survey(scan.channels, scan.schemas, metadata=scan.metadata)
    try:
        for message in scan.messages():
            survey.times.setdefault(message.channel, array("Q")).append(message.time_ns)
            survey.note(message)
    except RecordingError as error:
        if scan.left_out is None:
            raise
        scan.left_out.add(str(error))
    survey.damage = str(scan.left_out or "")
    return survey
