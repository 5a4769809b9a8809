"""Which of a bag's topics are sensors, and what their messages become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from fusion.errors import InputError
from fusion.recording.native.schemas import sensor_names
from fusion.recording.native.stream import RawMessage, Wanted
from fusion.recording.points.point_fields import FieldRule
from fusion.recording.ros.clouds import cloud_rule, read_cloud
from fusion.recording.ros.images import read_compressed, read_raw, size_of, why_no_picture
from fusion.recording.ros.messages import (
    AUDIO,
    AUDIO_INFO,
    CAMERA_INFO,
    CLOUD,
    COMPRESSED,
    IMAGE,
    OLD_TRANSFORMS,
    PACKETS,
    STAMPED_AUDIO,
    TRANSFORMS,
    decoded,
    frame_of,
    stamp_ns,
    why_not,
)
from fusion.recording.ros.rig import Mounted
from fusion.recording.ros.sound import LOOKED_AT, read_sound, why_no_sound
from fusion.recording.ros.source import RosChannel, RosSource, first_messages
from fusion.types import Modality, Payload

MODALITIES: Mapping[str, Modality] = {
    IMAGE: Modality.CAMERA,
    COMPRESSED: Modality.CAMERA,
    CLOUD: Modality.LIDAR,
    AUDIO: Modality.SPEECH,
    STAMPED_AUDIO: Modality.SPEECH,
}
_PLACING = frozenset({CAMERA_INFO, AUDIO_INFO, TRANSFORMS, OLD_TRANSFORMS})
_OTHER = dict.fromkeys(PACKETS, "a LiDAR's raw packets")
_DEPTH = ("16UC1", "32FC1")


@dataclass(frozen=True, slots=True)
class RosTopic:
    """A topic that is a sensor. `rule` says how its sweeps are read, if it is a LiDAR."""

    name: str
    mounted: Mounted
    rule: FieldRule = field(default_factory=FieldRule)

    @property
    def modality(self) -> Modality:
        """The kind of sensor."""
        return self.mounted.modality


@dataclass(frozen=True, slots=True)
class RosTopics:
    """The bag's sensors by channel, and what no reading is made of: topic, type and why."""

    sensors: Mapping[int, RosTopic]
    unread: tuple[str, ...]


def find_topics(source: RosSource) -> RosTopics:
    """Look at the first message of each topic that may be a sensor. A first message that is malformed is let pass."""
    reasons = {number: why_not(channel) for number, channel in source.channels.items()}
    maybe = {n for n, channel in source.channels.items() if channel.type in MODALITIES and not reasons[n]}
    first = first_messages(source, maybe)
    for number in maybe:
        reasons[number] = _objection(source, number, first.get(number))
    topics = {source.channels[n].topic for n in maybe if not reasons[n]}
    names = sensor_names(topics)
    sensors: dict[int, RosTopic] = {}
    for number in sorted((n for n in maybe if not reasons[n]), key=lambda n: first[n].cursor):
        channel = source.channels[number]
        known = next((topic for topic in sensors.values() if topic.name == names[channel.topic]), None)
        if known and known.modality is not MODALITIES[channel.type]:
            reasons[number] = f"the topic is a {known.modality} already"
        else:
            sensors[number] = known or _topic(names[channel.topic], channel, first[number])
    unread = {
        f"{channel.topic} ({channel.type}, {reasons[n] or _OTHER.get(channel.type, 'of no sensor')})"
        for n, channel in source.channels.items()
        if n not in sensors and (reasons[n] or channel.type not in _PLACING)
        if channel.topic not in names or n in first
    }
    return RosTopics(sensors, tuple(sorted(unread)))


def read_payload(topic: RosTopic, channel: RosChannel, data: memoryview, time_ns: int) -> tuple[Payload, int]:
    """What a message of the topic carries, and how many points of it were dropped. Raises `InputError`."""
    return payload_of(channel.type, decoded(channel, data), topic.rule, time_ns)


def payload_of(kind: str, message: Any, rule: FieldRule, time_ns: int) -> tuple[Payload, int]:
    """What a decoded message of the type `kind`, stamped `time_ns`, carries, and how many points of it were dropped.

    `rule` says how sweeps are read. The message may be any object with ROS's field names whose arrays are buffers.
    Raises `InputError`.
    """
    if kind == CLOUD:
        return read_cloud(message, rule, time_ns)
    if kind == IMAGE:
        return read_raw(message), 0
    if kind == COMPRESSED:
        return read_compressed(message), 0
    return read_sound(sound_bytes(kind, message)), 0


def why_no_camera(message: Any) -> str:
    """Why a topic of pictures with this first message is no camera's; empty when it is one."""
    why = why_no_picture(message)
    if hasattr(message, "encoding"):
        return f"depth, {why}" if message.encoding in _DEPTH else why
    pixels = message.format.partition(";")[0].strip()  # "16UC1; png compressed ": what was compressed, and how
    return f"depth, format {message.format[:64]!r}" if pixels in _DEPTH else why


def sound_bytes(kind: str, message: Any) -> Any:
    """The bytes of a sound message of the type `kind`."""
    return message.audio.data if kind == STAMPED_AUDIO else message.data


def capture_ns(channel: RosChannel, message: RawMessage) -> tuple[int, bool]:
    """When a message was measured: its stamp, else (and then True) when it was stored. Raises `InputError`."""
    stamped = stamp_ns(channel, message.data)
    if stamped:
        return stamped, False
    if not 0 <= message.time_ns < 1 << 63:
        raise InputError(f"its time {message.time_ns} ns is outside 0..2^63-1")
    return message.time_ns, True


def _objection(source: RosSource, number: int, first: RawMessage | None) -> str:
    """Why a topic of a sensor's type is none; empty when it is one."""
    if first is None:
        return "no messages"
    channel = source.channels[number]
    try:
        message = decoded(channel, first.data)
    except InputError:
        return ""  # it is told where it is read
    if channel.type in {IMAGE, COMPRESSED}:
        return why_no_camera(message)
    if MODALITIES[channel.type] is not Modality.SPEECH:
        return ""
    info = _audio_info(source, channel.namespace)
    if info is not None:
        return why_no_sound(info, [])
    return why_no_sound(None, list(_heard(source, number)))


def _heard(source: RosSource, number: int) -> Iterator[tuple[int, bytes]]:
    """Time in ns and data of the first messages of sound but those that are malformed, which are told where read."""
    channel = source.channels[number]
    for raw in islice(source.messages(Wanted(channels=frozenset({number}))), LOOKED_AT):
        with suppress(InputError):
            yield raw.time_ns, bytes(sound_bytes(channel.type, decoded(channel, raw.data)))


def _audio_info(source: RosSource, namespace: str) -> Any | None:
    wanted = {
        n
        for n, channel in source.channels.items()
        if channel.type == AUDIO_INFO and channel.namespace == namespace and not why_not(channel)
    }
    for number, message in first_messages(source, wanted).items():
        with suppress(InputError):
            return decoded(source.channels[number], message.data)
    return None


def _topic(name: str, channel: RosChannel, first: RawMessage) -> RosTopic:
    """The topic by its first message; one that is malformed tells nothing, and is reported where it is read."""
    modality = MODALITIES[channel.type]
    plain = RosTopic(name, Mounted(modality, channel.topic, ""))
    if channel.type == AUDIO:
        return plain
    try:
        message = decoded(channel, first.data)
        frame = frame_of(message.header)
        if modality is Modality.LIDAR:
            return RosTopic(name, Mounted(modality, channel.topic, frame), cloud_rule(message))
        size = size_of(message) if modality is Modality.CAMERA else (0, 0)
    except InputError:
        return plain
    return RosTopic(name, Mounted(modality, channel.topic, frame, size))
