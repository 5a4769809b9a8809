"""ROS 1 bags as a stream of messages, with memory bounded by one chunk.

The reader of the `rosbags` package is not used for these: it keeps an entry of every message in memory, unpacks
without a bound, and gives nothing at all of a bag that was not closed, which is how a robot's bags often end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fusion.errors import RecordingError
from fusion.recording.damage import DamageLog
from fusion.recording.native.stream import ChunkPlace, RawMessage, Wanted, opened
from fusion.recording.ros.ros1_record import (
    MAGIC,
    MAX_CHUNK_RECORDS,
    Op,
    RecordStream,
    header_fields,
    number,
    text,
    time_ns,
    unpack_chunk,
)
from fusion.recording.ros.source import ROS1, RosChannel, normal_type


@dataclass(slots=True)
class _Scan:
    """One pass over a bag's messages in file order: chunk by chunk where the index tells `places`, else by record.

    With `left_out`, chunks that are damaged within are left out and noted there; cursors then count sound messages.
    """

    path: Path
    places: Mapping[int, ChunkPlace] = field(default_factory=dict)
    channels: dict[int, RosChannel] = field(default_factory=dict)
    cursor: int = 0
    left_out: DamageLog | None = None

    def messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        with opened(self.path) as file:
            start = 0
            try:
                stream = RecordStream(file, self.path.stat().st_size)
                check_magic(stream)
                for start in self._starts(stream, wanted):
                    for message in self._record(stream, start):
                        if wanted.covers(message):
                            yield message
            except RecordingError as error:
                raise damage(self.path, start, str(error), self.cursor) from None

    def _starts(self, stream: RecordStream, wanted: Wanted) -> Iterator[int]:
        """Where the next record to look at begins; chunks that are not wanted are counted and passed over unread."""
        if not self.places:
            while not stream.ended:
                yield stream.at
        for start, place in sorted(self.places.items()):
            if wanted.rules_out(place, self.cursor):
                self.cursor += place.messages
            else:
                stream.file.seek(start)
                yield start

    def _record(self, stream: RecordStream, start: int) -> list[RawMessage]:
        fields, length = stream.head()
        kind = number(fields, "op", "<B")
        if kind == Op.CHUNK:
            data = stream.body(length)
            try:
                return self._chunk(start, unpack_chunk(fields, data))
            except RecordingError as error:
                if self.left_out is None:
                    raise
                self.left_out.add(f"{self.path}: damaged at byte {start}: {error}; left out")
                return []
        if kind == Op.MESSAGE:
            raise RecordingError("a message outside of a chunk")
        if start in self.places:
            raise RecordingError("no chunk where the index says that one begins")
        if kind == Op.CONNECTION:
            define(self.channels, fields, stream.body(length))
        else:
            stream.skip(length)
        return []

    def _chunk(self, start: int, data: bytes) -> list[RawMessage]:
        found: list[RawMessage] = []
        records = RecordStream.of_bytes(data)
        count = 0
        while not records.ended:
            count += 1
            if count > MAX_CHUNK_RECORDS:
                raise RecordingError(f"a chunk holds more than {MAX_CHUNK_RECORDS} records")
            fields, size = records.head()
            kind = number(fields, "op", "<B")
            if kind == Op.MESSAGE:
                found.append(self._message(self.cursor + len(found) + 1, start, fields, records.body(size)))
            elif kind == Op.CONNECTION:
                define(self.channels, fields, records.body(size))
            else:
                records.skip(size)
        place = self.places.get(start)
        if place and len(found) != place.messages:
            raise RecordingError(f"the chunk holds {len(found)} messages where the index counts {place.messages}")
        self.cursor += len(found)
        return found

    def _message(self, cursor: int, start: int, fields: dict[str, bytes], data: bytes) -> RawMessage:
        channel = number(fields, "conn", "<I")
        if channel not in self.channels:
            raise RecordingError(f"a message of connection {channel}, which was not declared before it")
        return RawMessage(cursor, start, channel, time_ns(fields, "time"), memoryview(data))


class Ros1Bag:
    """A ROS 1 bag as a `RosSource`.

    A bag that was not closed or is cut off is refused with one line; with `salvage` every sound chunk before the cut
    is read.
    """

    format = "rosbag1"

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path, self.damage = path, ""
        self.files: Sequence[Path] = (path,)
        self.notes: Mapping[str, str] = {}
        self._salvage = salvage
        if salvage:
            self._scan = _Scan(path, left_out=DamageLog())
            self.present = self._walk()
            self.count = self._scan.cursor
        else:
            self._scan = _read_index(path)
            places = self._scan.places.values()
            self.present = frozenset[int]().union(*(place.channels for place in places))
            self.count = sum(place.messages for place in places)
        self.span = self.count
        self.channels: Mapping[int, RosChannel] = self._scan.channels

    def messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        """The wanted messages; chunks without any are passed over unread."""
        try:
            log = DamageLog() if self._salvage else None
            scan = _Scan(self.path, self._scan.places, dict(self._scan.channels), left_out=log)
            yield from scan.messages(wanted)
        except RecordingError:
            if not self._salvage:
                raise

    def place(self, message: RawMessage) -> str:
        """The message's number, and the byte of its chunk."""
        return f"message {message.cursor} at byte {message.offset}"

    def _walk(self) -> frozenset[int]:
        present, log = set(), self._scan.left_out or DamageLog()
        self._scan.left_out = log
        try:
            for message in self._scan.messages(Wanted()):
                present.add(message.channel)
            if not log:
                _read_index(self.path)
        except RecordingError as error:
            log.add(str(error))
        self.damage = str(log)
        return frozenset(present)


def check_magic(stream: RecordStream) -> None:
    """Raise `RecordingError` unless the file begins like a bag of format 2.0."""
    first = stream.file.readline(32)
    if first == MAGIC:
        return
    if first.startswith(b"#ROSBAG V"):
        version = first[9:].strip().decode("ascii", "replace")
        raise RecordingError(f"a bag of format {version}; only 2.0 is read ('rosbag fix' brings it up to date)")
    raise RecordingError("a ROS 1 bag does not begin like this")


def define(channels: dict[int, RosChannel], fields: dict[str, bytes], data: bytes) -> None:
    """Take a connection record. Raises `RecordingError` when its number already stands for another topic."""
    about = dict(header_fields(data))
    channel = RosChannel(text(fields, "topic"), normal_type(text(about, "type")), ROS1, text(about, "md5sum"))
    connection = number(fields, "conn", "<I")
    if channels.setdefault(connection, channel) != channel:
        raise RecordingError(f"connection {connection} is declared twice, differently")


def damage(path: Path, offset: int, what: str, sound: int) -> RecordingError:
    """The error for a bag that is good up to a point."""
    rescue = "; open it with salvage to read them" if sound else ""
    return RecordingError(f"{path}: damaged at byte {offset}: {what}; {sound} messages before it are sound{rescue}")


def _read_index(path: Path) -> _Scan:
    """Connections and chunks from the end of the bag. Raises `RecordingError` where there are none."""
    with opened(path) as file:
        size = path.stat().st_size
        stream = RecordStream(file, size)
        start = 0
        try:
            check_magic(stream)
            fields, _ = stream.head()
            start = number(fields, "index_pos", "<Q")
            _check_index(fields, start, size)
            file.seek(start)
            return _collect(path, stream, number(fields, "conn_count", "<I"), number(fields, "chunk_count", "<I"))
        except RecordingError as error:
            raise damage(path, min(start or size, size), str(error), _count_sound(path)) from None


def _check_index(fields: dict[str, bytes], start: int, size: int) -> None:
    if fields.get("encryptor"):
        raise RecordingError(f"it is encrypted by {text(fields, 'encryptor')}, which is not read")
    if not start:
        raise RecordingError("the bag was never closed (it has no index)")
    if not len(MAGIC) <= start <= size:
        raise RecordingError(f"the bag is cut off: it has {size} bytes, and its index begins at byte {start}")


def _collect(path: Path, stream: RecordStream, connections: int, chunks: int) -> _Scan:
    channels: dict[int, RosChannel] = {}
    places: dict[int, ChunkPlace] = {}
    while not stream.ended:
        fields, length = stream.head()
        kind = number(fields, "op", "<B")
        if kind == Op.CONNECTION:
            define(channels, fields, stream.body(length))
        elif kind == Op.CHUNK_INFO:
            places[_chunk_at(fields, stream.size)] = _place(number(fields, "count", "<I"), stream.body(length))
        else:
            stream.skip(length)
    if (len(channels), len(places)) != (connections, chunks):
        raise RecordingError(
            f"its index tells {len(channels)} connections and {len(places)} chunks, not {connections} and {chunks}"
        )
    return _Scan(path, places, channels)


def _chunk_at(fields: dict[str, bytes], size: int) -> int:
    at = number(fields, "chunk_pos", "<Q")
    if not len(MAGIC) <= at < size:
        raise RecordingError(f"its index tells of a chunk at byte {at} of {size}")
    return at


def _place(count: int, data: bytes) -> ChunkPlace:
    if len(data) != 8 * count:
        raise RecordingError(f"a chunk's entry in the index has {len(data)} bytes for {count} connections")
    counts = dict(struct.iter_unpack("<II", data))
    return ChunkPlace(sum(counts.values()), frozenset(number for number, messages in counts.items() if messages))


def _count_sound(path: Path) -> int:
    scan = _Scan(path)
    try:
        for _ in scan.messages(Wanted()):
            pass
    except RecordingError:
        pass
    return scan.cursor
