"""The summary at the end of an MCAP file: what the file holds, told without reading it all."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from mcap.opcode import Opcode
from mcap.records import Channel, ChunkIndex, Footer, Header, MessageIndex, Metadata, MetadataIndex, Schema, Statistics

from fusion.errors import RecordingError
from fusion.recording.damage import DamageLog
from fusion.recording.native.chunk import FRAME, MAX_RECORD_BYTES, parsed, split_records
from fusion.recording.native.stream import MAGIC, ChunkPlace, MessageScan, damage, opened

_FOOTER_BYTES = 20
_TAIL_BYTES = FRAME.size + _FOOTER_BYTES + len(MAGIC)
_INDEX_HEAD = FRAME.size + 2 + 4
_INDEX_ENTRY = 16


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """What is kept of a chunk's index: where its message indexes begin, their bytes, and what it holds if that is told.

    A long recording has very many of them, so it is small, and equal channel sets are one.
    """

    index_start: int
    index_bytes: int
    place: ChunkPlace | None


@dataclass
class Index:
    """The parsed summary: `chunks` by their offset. A file need not have any."""

    channels: dict[int, Any] = field(default_factory=dict)
    schemas: dict[int, Any] = field(default_factory=dict)
    chunks: dict[int, ChunkEntry] = field(default_factory=dict)
    metadata: list[Any] = field(default_factory=list)
    messages: int | None = None

    @cached_property
    def places(self) -> dict[int, ChunkPlace]:
        """What each chunk holds, by offset; empty when not every chunk tells."""
        found = ((offset, entry.place) for offset, entry in self.chunks.items())
        known = {offset: place for offset, place in found if place and place.channels <= self.channels.keys()}
        return known if len(known) == len(self.chunks) else {}

    @property
    def counts(self) -> dict[int, int]:
        """How many messages each chunk holds, by offset; 0 where that is not told."""
        return {offset: entry.place.messages if entry.place else 0 for offset, entry in self.chunks.items()}

    @property
    def complete(self) -> bool:
        """Whether the chunks in the index hold all messages of the file."""
        return self.messages is not None and sum(p.messages for p in self.places.values()) == self.messages


def read_index(path: Path) -> Index:
    """Read the summary of `path`, verifying its checksum.

    Raises `RecordingError` for a file that is no MCAP, is cut off, or whose summary is damaged.
    """
    with opened(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(len(MAGIC))
        if head != MAGIC and not (head and MAGIC.startswith(head)):
            raise RecordingError(f"{path}: not an MCAP file (its first bytes are {head.hex(' ') or 'none'})")
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
        if len(tail) < _TAIL_BYTES or not tail.endswith(MAGIC):
            raise damage(path, size, "the recording is cut off here", count_sound(path))
        try:
            return _parse(file, size, tail)
        except RecordingError as error:
            raise damage(path, size - _TAIL_BYTES, f"the summary: {error}", count_sound(path)) from None


def peek_index(path: Path) -> Index:
    """The summary of `path`, or an empty one where there is none that can be read; never raises, nor looks further."""
    try:
        with opened(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            return _parse(file, size, tail) if len(tail) == _TAIL_BYTES and tail.endswith(MAGIC) else Index()
    except RecordingError:
        return Index()


def profile_of(path: Path) -> str | None:
    """What the header of an MCAP file says, "" for nothing; None when there is no header to read."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return None
            opcode, length = FRAME.unpack(file.read(FRAME.size).ljust(FRAME.size, b"\0"))
            if opcode != Opcode.HEADER or length > MAX_RECORD_BYTES:
                return None
            return str(parsed(Header, file.read(length)).profile)
    except (OSError, RecordingError):
        return None


def scan_past_damage(path: Path, left_out: DamageLog) -> MessageScan:
    """A pass over every sound message of a damaged file; what is left out is noted in `left_out`.

    It still raises `RecordingError` where the file cannot be followed and its index tells of no chunk behind.
    """
    index = peek_index(path)
    return MessageScan(
        path, channels=dict(index.channels), schemas=dict(index.schemas), left_out=left_out, chunks=index.counts
    )


def count_sound(path: Path) -> int:
    """How many messages can be read before the first damage."""
    scan = MessageScan(path)
    try:
        for _ in scan.messages():
            pass
    except RecordingError:
        pass
    return scan.cursor


def message_times(path: Path, index: Index) -> dict[int, array[int]]:
    """Log times by channel, from the message indexes; raises `RecordingError` when they are malformed."""
    times = {channel: array("Q") for channel in index.channels}
    with opened(path) as file:
        size = file.seek(0, 2)
        for offset in sorted(index.chunks):
            entry = index.chunks[offset]
            try:
                _add_times(times, _read_at(file, size, entry.index_start, entry.index_bytes))
            except RecordingError as error:
                at = min(entry.index_start, size)
                raise damage(path, at, f"the message index: {error}", count_sound(path)) from None
    return times


def indexed_metadata(path: Path, index: Index) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and content of each metadata record; raises `RecordingError` where the index does not point at one."""
    with opened(path) as file:
        size = file.seek(0, 2)
        for entry in index.metadata:
            try:
                record = _read_metadata(_read_at(file, size, entry.offset, FRAME.size), file)
            except RecordingError as error:
                at = min(entry.offset, size)
                raise damage(path, at, f"the metadata: {error}", count_sound(path)) from None
            yield record.name, record.metadata


def _read_at(file: BinaryIO, size: int, at: int, length: int) -> bytes:
    """What the index points at: `length` bytes from `at` on of a file of `size`, none of them outside it."""
    if not len(MAGIC) <= at <= size - length:
        raise RecordingError(f"the index points at byte {at} of {size}")
    file.seek(at)
    return file.read(length)


def _add_times(times: dict[int, array[int]], indexes: bytes) -> None:
    for opcode, body in split_records(memoryview(indexes)):
        if opcode == Opcode.MESSAGE_INDEX:
            entry = parsed(MessageIndex, bytes(body))
            times.setdefault(entry.channel_id, array("Q")).extend(time for time, _ in entry.records)


def _read_metadata(head: bytes, file: BinaryIO) -> Any:
    opcode, length = FRAME.unpack(head)
    if opcode != Opcode.METADATA or length > MAX_RECORD_BYTES:
        raise RecordingError("the index points elsewhere")
    return parsed(Metadata, file.read(length))


def _parse(file: BinaryIO, size: int, tail: bytes) -> Index:
    opcode, length = FRAME.unpack_from(tail)
    if opcode != Opcode.FOOTER or length != _FOOTER_BYTES:
        raise RecordingError("there is no footer")
    footer = parsed(Footer, tail[FRAME.size : -len(MAGIC)])
    if not footer.summary_start:
        return Index()
    end = size - _TAIL_BYTES
    if not len(MAGIC) <= footer.summary_start <= end or end - footer.summary_start > MAX_RECORD_BYTES:
        raise RecordingError(f"it claims to start at byte {footer.summary_start} of {size}")
    file.seek(footer.summary_start)
    summary = file.read(end - footer.summary_start)
    if footer.summary_crc and zlib.crc32(summary + tail[: FRAME.size + 16]) != footer.summary_crc:
        raise RecordingError("its checksum is wrong")
    return _collect(summary)


def _collect(summary: bytes) -> Index:
    index = Index()
    shared: dict[frozenset[int], frozenset[int]] = {}
    for opcode, body in split_records(memoryview(summary)):
        if opcode == Opcode.CHANNEL:
            channel = parsed(Channel, bytes(body))
            index.channels[channel.id] = channel
        elif opcode == Opcode.SCHEMA:
            schema = parsed(Schema, bytes(body))
            index.schemas[schema.id] = schema
        elif opcode == Opcode.CHUNK_INDEX:
            chunk = parsed(ChunkIndex, bytes(body))
            index.chunks[chunk.chunk_start_offset] = _entry(chunk, shared)
        elif opcode == Opcode.METADATA_INDEX:
            index.metadata.append(parsed(MetadataIndex, bytes(body)))
        elif opcode == Opcode.STATISTICS:
            index.messages = parsed(Statistics, bytes(body)).message_count
    return index


def _entry(chunk: Any, shared: dict[frozenset[int], frozenset[int]]) -> ChunkEntry:
    channels = frozenset(chunk.message_index_offsets)
    place = _place(chunk, shared.setdefault(channels, channels))
    return ChunkEntry(chunk.chunk_start_offset + chunk.chunk_length, chunk.message_index_length, place)


def _place(chunk: Any, channels: frozenset[int]) -> ChunkPlace | None:
    """Message count of a chunk: its message indexes are 15 bytes each, and 16 a message."""
    messages, rest = divmod(chunk.message_index_length - _INDEX_HEAD * len(channels), _INDEX_ENTRY)
    if not channels or rest or messages < len(channels) or chunk.message_index_length > MAX_RECORD_BYTES:
        return None
    return ChunkPlace(messages, channels, chunk.message_start_time, chunk.message_end_time)
