"""MCAP files of ROS messages (profiles `ros1` and `ros2` of https://mcap.dev/spec/registry)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.errors import RecordingError
from fusion.recording.damage import DamageLog
from fusion.recording.native.index import Index, peek_index, profile_of, read_index
from fusion.recording.native.stream import ChunkPlace, MessageScan, RawMessage, Wanted
from fusion.recording.ros.source import CDR, ROS1, RosChannel, normal_type

_PROFILES = ("ros1", "ros2")


class McapRosSource:
    """An MCAP file as a `RosSource`; channels in other encodings are there too, and are nobody's."""

    format = "mcap"

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path, self.damage = path, ""
        self.files: Sequence[Path] = (path,)
        self.notes: Mapping[str, str] = {}
        self._salvage = salvage
        index = Index() if salvage else read_index(path)
        peeked = peek_index(path) if salvage else index
        self._counts = peeked.counts if salvage else {}
        self._scan = self._scanning(index.places, peeked.channels, peeked.schemas)
        if index.complete:
            self.count = index.messages or 0
            self.present = frozenset[int]().union(*(place.channels for place in index.places.values()))
        else:
            self.present = self._walk()
            self.count = self._scan.cursor
        self.span = self.count
        self.channels = {number: self._channel(number) for number in self._scan.channels}

    def messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        """The wanted messages; chunks without any are passed over unread where the file has an index."""
        known = self._scan
        scan = self._scanning(known.places, dict(known.channels), dict(known.schemas))
        try:
            yield from scan.messages(wanted)
        except RecordingError:
            if not self._salvage:
                raise

    def place(self, message: RawMessage) -> str:
        """The message's number, and the byte of its chunk."""
        return f"message {message.cursor} at byte {message.offset}"

    def _scanning(
        self, places: Mapping[int, ChunkPlace], channels: dict[int, Any], schemas: dict[int, Any]
    ) -> MessageScan:
        log = DamageLog() if self._salvage else None
        return MessageScan(self.path, places, channels, schemas, left_out=log, chunks=self._counts)

    def _walk(self) -> frozenset[int]:
        present, log = set(), self._scan.left_out
        try:
            for message in self._scan.messages():
                present.add(message.channel)
        except RecordingError as error:
            if log is None:
                raise
            log.add(str(error))
        self.damage = str(log or "")
        return frozenset(present)

    def _channel(self, number: int) -> RosChannel:
        channel = self._scan.channels[number]
        schema = self._scan.schemas.get(channel.schema_id)
        kind = normal_type(schema.name) if schema else "no schema"
        md5 = channel.metadata.get("md5sum", "") if channel.message_encoding == ROS1 else ""
        return RosChannel(channel.topic, kind, channel.message_encoding or "no encoding", md5)


def speaks_ros(path: Path) -> bool:
    """Whether an MCAP file holds ROS messages: its profile says so, or it has no profile and their encodings."""
    profile = profile_of(path)
    if profile in _PROFILES:
        return True
    if profile is None or profile:
        return False
    encodings = {channel.message_encoding for channel in peek_index(path).channels.values()}
    return bool(encodings & {ROS1, CDR}) and "protobuf" not in encodings
