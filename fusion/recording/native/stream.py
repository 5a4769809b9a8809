"""The data section of an MCAP file as a stream of messages, with memory bounded by one chunk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, DataEnd, Metadata, Schema

from fusion.errors import RecordingError
from fusion.recording.damage import DamageLog
from fusion.recording.native.chunk import (
    FRAME,
    MAX_CHUNK_RECORDS,
    MAX_RECORD_BYTES,
    parsed,
    split_records,
    unpack_chunk,
)
from fusion.recording.time_range import ALWAYS, TimeRange

MAGIC = b"\x89MCAP0\r\n"
_MESSAGE = struct.Struct("<HIQQ")
_BLOCK = 1 << 20
_PRIVATE = 0x80
"""Opcodes from here on are private records."""
UNKNOWN = 1 << 64
"""Where a record ends of which that cannot be told."""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message as it lies in the file: `cursor` counts them from 1, `offset` is the byte of its chunk or record.

    `time_ns` is when it was logged, `publish_ns` when it was sent, `sequence` the sender's own count.
    """

    cursor: int
    offset: int
    channel: int
    time_ns: int
    data: memoryview
    publish_ns: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """What the index says of a chunk: how many messages, of which channels, logged from when to when."""

    messages: int
    channels: frozenset[int]
    first_ns: int = 0
    last_ns: int = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are asked for: with a cursor beyond `after`, of `channels` (None: of all).

    Chunks with nothing logged in `times` may be passed over; messages of others are handed out whatever their time.
    """

    after: int = 0
    channels: frozenset[int] | None = None
    times: TimeRange = ALWAYS

    def covers(self, message: RawMessage) -> bool:
        """Whether this message is asked for."""
        return message.cursor > self.after and (self.channels is None or message.channel in self.channels)

    def rules_out(self, place: ChunkPlace, cursor: int) -> bool:
        """Whether no message of a chunk that begins after `cursor` is asked for."""
        if cursor + place.messages <= self.after or not self.times.touches(place.first_ns, place.last_ns):
            return True
        return self.channels is not None and not self.channels & place.channels


EVERYTHING = Wanted()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """`path` open for reading; failures of the disk become `RecordingError`."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None


def damage(path: Path, offset: int, what: str, sound: int) -> RecordingError:
    """The error for a file that is good up to a point."""
    rescue = f"; 'fusion convert {path} -o whole.mcap' keeps them" if sound else ""
    return RecordingError(f"{path}: damaged at byte {offset}: {what}; {sound} messages before it are sound{rescue}")


@dataclass(slots=True)
class MessageScan:
    """One pass over a file's messages in file order.

    Chunks that `places` (by offset, from the index) shows to be unwanted are passed over unread. `channels`,
    `schemas` and `metadata` grow as their records are met; `cursor` counts the messages met or passed.

    With `left_out`, records that are damaged are left out and noted there, and where the file cannot be followed any
    more reading goes on at the next of `chunks` (messages by offset, from the index). Cursors count messages that are
    left out where that tells how many they are.

    `aside` is given opcode and body of each metadata record and attachment; with it, attachments of more than
    `MAX_RECORD_BYTES` and private records count as damage.
    """

    path: Path
    places: Mapping[int, ChunkPlace] = field(default_factory=dict)
    channels: dict[int, Any] = field(default_factory=dict)
    schemas: dict[int, Any] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    cursor: int = 0
    left_out: DamageLog | None = None
    chunks: Mapping[int, int] = field(default_factory=dict)
    aside: Callable[[int, bytes], None] | None = None

    def messages(self, wanted: Wanted = EVERYTHING) -> Iterator[RawMessage]:
        """The wanted messages.

        A chunk's checksum is verified before its first message is handed out; the data section's at its end, if
        nothing was passed over. Raises `RecordingError` naming the byte and how many messages are sound.
        """
        with opened(self.path) as file:
            frames = _Frames(file)
            try:
                frames.check_magic()
            except RecordingError as error:
                raise damage(self.path, 0, str(error), self.cursor) from None
            while True:
                start = frames.at
                try:
                    found = self._next(frames, start, wanted)
                except RecordingError as error:
                    if not self._goes_on(frames, start, error):
                        raise damage(self.path, start, str(error), self.cursor) from None
                    continue
                if found is None:
                    return
                yield from (message for message in found if wanted.covers(message))

    def _next(self, frames: _Frames, start: int, wanted: Wanted) -> list[RawMessage] | None:
        """The messages of the record at `start`; None at the end of the data section."""
        crc, frames.record_end = frames.crc, UNKNOWN
        opcode, length = FRAME.unpack(frames.read(FRAME.size))
        if opcode == Opcode.DATA_END:
            _check_end(frames.body(length), None if self.left_out else crc)
            return None
        frames.record_end = frames.at + length
        return self._record(frames, start, opcode, length, wanted)

    def _goes_on(self, frames: _Frames, start: int, error: RecordingError) -> bool:
        """Whether what is damaged at `start` can be left out: the reading position is then behind it."""
        if self.left_out is None:
            return False
        if frames.record_end == frames.at:
            what, at = "left out", frames.at
        else:
            at = min((offset for offset in self.chunks if start < offset < frames.size), default=0)
            if not at:
                return False
            what = f"left out up to byte {at}"
        self.cursor += self.chunks.get(start, 0)
        self.left_out.add(f"{self.path}: damaged at byte {start}: {error}; {what}")
        frames.jump(at)
        return True

    def _record(self, frames: _Frames, start: int, opcode: int, length: int, wanted: Wanted) -> list[RawMessage]:
        if opcode == Opcode.CHUNK:
            return self._chunk(frames, start, length, wanted)
        if opcode == Opcode.MESSAGE:
            self.cursor += 1
            return [self._message(self.cursor, start, memoryview(frames.body(length)))]
        if opcode in {Opcode.CHANNEL, Opcode.SCHEMA, Opcode.METADATA}:
            body = frames.body(length)
            self._define(opcode, body)
            if self.aside and opcode == Opcode.METADATA:
                self.aside(opcode, body)
        elif opcode in {0, Opcode.FOOTER}:
            raise RecordingError(f"a record with opcode {opcode} where there can be none")
        elif self.aside and opcode == Opcode.ATTACHMENT and length <= MAX_RECORD_BYTES:
            self.aside(opcode, frames.body(length))
        else:
            frames.consume(length)
            if self.aside and (opcode == Opcode.ATTACHMENT or opcode >= _PRIVATE):
                kind = "an attachment" if opcode == Opcode.ATTACHMENT else f"a private record (opcode {opcode})"
                raise RecordingError(f"{kind} of {length} bytes, which is not copied")
        return []

    def _chunk(self, frames: _Frames, start: int, length: int, wanted: Wanted) -> list[RawMessage]:
        place = self.places.get(start)
        if place and wanted.rules_out(place, self.cursor):
            frames.skip(length)
            self.cursor += place.messages
            return []
        found: list[RawMessage] = []
        data = memoryview(unpack_chunk(parsed(Chunk, frames.body(length))))
        for opcode, body in split_records(data, MAX_CHUNK_RECORDS):
            if opcode == Opcode.MESSAGE:
                found.append(self._message(self.cursor + len(found) + 1, start, body))
            elif opcode in {Opcode.CHANNEL, Opcode.SCHEMA}:
                self._define(opcode, bytes(body))
        if place and len(found) != place.messages:
            raise RecordingError(f"the chunk holds {len(found)} messages where the index counts {place.messages}")
        self.cursor += len(found)
        return found

    def _message(self, cursor: int, start: int, body: memoryview) -> RawMessage:
        if len(body) < _MESSAGE.size:
            raise RecordingError(f"a message record of {len(body)} bytes")
        channel, sequence, log_time, publish_time = _MESSAGE.unpack_from(body)
        if channel not in self.channels:
            raise RecordingError(f"a message of channel {channel}, which was not declared before it")
        return RawMessage(cursor, start, channel, log_time, body[_MESSAGE.size :], publish_time, sequence)

    def _define(self, opcode: int, body: bytes) -> None:
        if opcode == Opcode.METADATA:
            record = parsed(Metadata, body)
            self.metadata[record.name] = record.metadata
            return
        kind, known = (Channel, self.channels) if opcode == Opcode.CHANNEL else (Schema, self.schemas)
        record = parsed(kind, body)
        if known.setdefault(record.id, record) != record:
            if self.left_out is not None:  # the index told otherwise, and may be damaged itself
                known[record.id] = record
                return
            raise RecordingError(f"{kind.__name__.lower()} {record.id} is declared twice, differently")


class _Frames:
    """Exact reads of a file; `crc` is the CRC-32 of everything before `at`, None once something was skipped.

    `size` is the file's, `record_end` is where the record ends that is being read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        file.seek(0)
        self.crc: int | None = 0
        self.at = 0
        self.record_end = UNKNOWN

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise RecordingError("the file ends inside a record")
        self.at += size
        if self.crc is not None:
            self.crc = zlib.crc32(data, self.crc)
        return data

    def check_magic(self) -> None:
        if self.read(len(MAGIC)) != MAGIC:
            raise RecordingError("an MCAP file does not begin like this")

    def body(self, length: int) -> bytes:
        if length > MAX_RECORD_BYTES:
            raise RecordingError(f"a record claims {length} bytes; at most {MAX_RECORD_BYTES} are read")
        return self.read(length)

    def consume(self, length: int) -> None:
        while length > 0:
            length -= len(self.read(min(length, _BLOCK)))

    def jump(self, at: int) -> None:
        self._file.seek(at)
        self.at, self.crc = at, None

    def skip(self, length: int) -> None:
        if length > self.size - self.at:
            raise RecordingError("the file ends inside a record")
        self._file.seek(length, 1)
        self.at += length
        self.crc = None


def _check_end(body: bytes, crc: int | None) -> None:
    declared = parsed(DataEnd, body).data_section_crc
    if crc is not None and declared not in {0, crc}:
        raise RecordingError("the checksum of the whole data section is wrong, though each chunk's is right")
