"""Where an Ouster LiDAR's packets and its metadata are found: network captures and ROS bags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.recording.capture.capture_file import check_capture
from fusion.recording.damage import DamageLog
from fusion.recording.native.stream import RawMessage, Wanted
from fusion.recording.ouster.scans import SDK_ERRORS, read_metadata, sdk
from fusion.recording.ros.messages import CLOUD, COMPRESSED, IMAGE, PACKETS, TEXT, decoded, why_not
from fusion.recording.ros.source import RosSource, first_messages

_MAX_METADATA_BYTES = 4 << 20
_MAX_METADATA_FILES = 64


class PacketSource(Protocol):
    """The packets of one sensor, in the order they arrived."""

    path: Path
    files: Sequence[Path]
    info: Any
    notes: Mapping[str, str]
    unread: tuple[str, ...]
    damage: str

    def packets(self, others: Counter[str]) -> Iterator[Any]:
        """The library's `LidarPacket`s with the time they arrived; `others` counts what else there is, by kind."""


class CapturePackets:
    """Packets of a `.pcap` or `.pcapng` with the sensor's metadata JSON beside it."""

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path = path
        self.damage = check_capture(path, salvage=salvage)
        self._pcap, self._core = sdk("pcap", path), sdk("core", path)
        self.unread: tuple[str, ...] = ()
        metadata, self.info = self._metadata()
        self.files: Sequence[Path] = (path, metadata)
        self.notes: Mapping[str, str] = {"metadata": metadata.name}

    def packets(self, others: Counter[str]) -> Iterator[Any]:
        """See `PacketSource`."""
        source = self._source(self.info)
        try:
            for _, packet in source:
                if isinstance(packet, self._core.LidarPacket):
                    yield packet
                else:
                    others[type(packet).__name__.removesuffix("Packet")] += 1
        except SDK_ERRORS as error:
            raise RecordingError(f"{self.path}: the capture cannot be read ({error})") from None
        others["another sensor's"] += source.id_error_count + source.size_error_count

    def _source(self, info: Any) -> Any:
        try:
            return self._pcap.PcapPacketSource(str(self.path), sensor_info=[info])
        except SDK_ERRORS as error:
            raise RecordingError(f"{self.path}: the capture cannot be read ({error})") from None

    def _metadata(self) -> tuple[Path, Any]:
        """The JSON of the capture's own name, else the only one in the folder that fits the packets."""
        fitting: list[tuple[Path, Any]] = []
        named = self.path.with_suffix(".json")
        beside = sorted(self.path.parent.glob("*.json"), key=lambda path: (path != named, path.name))
        for file in beside[:_MAX_METADATA_FILES]:
            try:
                if file.stat().st_size > _MAX_METADATA_BYTES:
                    continue
                info = read_metadata(file.read_text(encoding="utf-8", errors="replace"), file)
            except (OSError, RecordingError):
                continue
            if any(True for _ in self._own(info)):
                if file == named:
                    return file, info
                fitting.append((file, info))
        if len(fitting) == 1:
            return fitting[0]
        found = ", ".join(file.name for file, _ in fitting)
        what = (
            f"{found} fit its packets alike; call the right one"
            if found
            else "no metadata JSON beside it fits; call it"
        )
        raise RecordingError(f"{self.path}: {what} {named.name}")

    def _own(self, info: Any) -> Iterator[Any]:
        for _, packet in self._source(info):
            if isinstance(packet, self._core.LidarPacket):
                yield packet


class BagPackets:
    """Packets of a ROS bag that has one sensor's packets and metadata topics.

    With `salvage` messages that cannot be decoded are left out, and `damage` says so once they were met.
    """

    def __init__(self, source: RosSource, *, salvage: bool = False) -> None:
        self.path = path = source.path
        self._core = sdk("core", path)
        self._source = source
        self.files, self.damage, self._salvage = source.files, source.damage, salvage
        self._channel = _packet_channels(self._source)[0]
        channel = self._source.channels[self._channel]
        topics = {
            number: about.topic
            for number, about in self._source.channels.items()
            if about.type == TEXT and about.namespace == channel.namespace and about.topic.endswith("metadata")
        }
        first = first_messages(self._source, topics)
        if not first:
            raise RecordingError(f"{path}: packets in {channel.topic}, but no message of {channel.namespace}/metadata")
        number, message = next(iter(first.items()))
        self.notes: Mapping[str, str] = {**self._source.notes, "metadata": topics[number]}
        others = (about for n, about in self._source.channels.items() if n not in {self._channel, number})
        self.unread = tuple(sorted(f"{about.topic} ({about.type})" for about in others))
        self.info = read_metadata(self._decoded(message).data, path)

    def packets(self, others: Counter[str]) -> Iterator[Any]:
        """See `PacketSource`."""
        log = DamageLog()
        layout = self._core.PacketFormat.from_info(self.info)
        for message in self._source.messages(Wanted(channels=frozenset({self._channel}))):
            try:
                data = self._decoded(message).buf
            except RecordingError as error:
                if not self._salvage:
                    raise
                log.add(f"{error}; left out")
                self.damage = "; ".join(filter(None, (self._source.damage, str(log))))
                continue
            packet = self._core.LidarPacket(layout)
            # Drivers before 2023 send one byte more than the sensor did.
            if len(data) - layout.lidar_packet_size not in {0, 1}:
                others["another size's"] += 1
                continue
            packet.buf[:] = np.asarray(data[: layout.lidar_packet_size], np.uint8)
            packet.host_timestamp = message.time_ns
            if packet.validate(self.info) != self._core.PacketValidationFailure.NONE:
                others["another sensor's"] += 1
                continue
            yield packet

    def _decoded(self, message: RawMessage) -> Any:
        channel = self._source.channels[message.channel]
        try:
            return decoded(channel, message.data)
        except InputError as error:
            place = f"{self._source.place(message)}, {channel.topic}"
            raise RecordingError(f"{self.path}: {place}: {error}") from None


def has_only_packets(source: RosSource) -> bool:
    """Whether a bag's LiDAR is there as one sensor's raw packets alone, and no camera with it."""
    kinds = {channel.type for channel in source.channels.values()}
    return len(_packet_channels(source)) == 1 and TEXT in kinds and not kinds & {CLOUD, IMAGE, COMPRESSED}


def _packet_channels(source: RosSource) -> list[int]:
    return [
        number
        for number, channel in source.channels.items()
        if channel.type in PACKETS and channel.topic.endswith("lidar_packets") and not why_not(channel)
    ]
