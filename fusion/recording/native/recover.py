"""What is sound in a damaged MCAP file, copied into a whole one."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcap.opcode import Opcode
from mcap.records import Attachment, Metadata
from mcap.writer import CompressionType, Writer

from fusion.errors import RecordingError
from fusion.recording.damage import DamageLog
from fusion.recording.native.chunk import parsed
from fusion.recording.native.index import profile_of, scan_past_damage
from fusion.recording.native.stream import MessageScan, RawMessage
from fusion.recording.native.writer import CHUNK_BYTES
from fusion.recording.part_file import part_file


@dataclass(slots=True)
class Recovery:
    """How much was saved, and what was wrong (empty: nothing); `str()` is one line."""

    path: Path
    messages: int
    damage: str

    def __str__(self) -> str:
        return f"{self.path}: {self.messages} messages kept; {self.damage or 'the source was whole'}"


def recover_recording(source: Path, out: Path) -> Recovery:
    """Copy every message outside the damage, byte for byte, into a new indexed file with checksums.

    All topics are kept, readable or not and with messages or without, with times and sequence numbers; so are metadata,
    attachments of at most `MAX_RECORD_BYTES` and the profile. Raises `RecordingError` when nothing is sound.
    """
    if source.resolve() == out.resolve():
        raise RecordingError(f"{out}: is the damaged recording itself; give another name")
    log = DamageLog()
    scan = scan_past_damage(source, log)
    with part_file(out) as file:
        writer: Any = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD, enable_data_crcs=True)
        writer.start(profile=profile_of(source) or "", library="fusion-stack")
        scan.aside = _copying(writer)
        copy = _Copy(writer, scan)
        try:
            for message in scan.messages():
                copy.add(message)
        except RecordingError as error:
            log.add(str(error).partition("; '")[0])
        copy.finish(log)
        damage = str(log).replace(f"{source}: ", "")
        if not copy.kept:
            raise RecordingError(f"{source}: nothing in it can be recovered: {damage or 'it has no messages'}")
        writer.finish()
    return Recovery(out, copy.kept, damage)


@dataclass(slots=True)
class _Copy:
    """Messages on their way from `scan` to `writer`; `kept` counts them.

    The last one is held back: channels are stored in the chunk of the next message, so silent ones must precede it.
    """

    writer: Any
    scan: MessageScan
    kept: int = 0
    _held: RawMessage | None = None
    _schemas: dict[int, int] = field(default_factory=lambda: {0: 0})
    _channels: dict[int, int] = field(default_factory=dict)

    def add(self, message: RawMessage) -> None:
        """Copy a message and what declares it. Raises `RecordingError` for a channel whose schema is missing."""
        self._write_held()
        if message.channel not in self._channels:
            self._register(message.channel)
        self._held = message

    def finish(self, log: DamageLog) -> None:
        """Copy the channels no message was of, and the last message; what is left out is noted in `log`."""
        for number in sorted(self.scan.channels.keys() - self._channels.keys()):
            try:
                self._register(number)
            except RecordingError as error:
                log.add(f"{error}; left out")
        self._write_held()

    def _write_held(self) -> None:
        if (held := self._held) is None:
            return
        channel, data = self._channels[held.channel], bytes(held.data)
        self.writer.add_message(channel, held.time_ns, data, held.publish_ns, sequence=held.sequence)
        self.kept += 1
        self._held = None

    def _register(self, number: int) -> None:
        channel = self.scan.channels[number]
        if channel.schema_id not in self._schemas:
            schema = self.scan.schemas.get(channel.schema_id)
            if schema is None:
                raise RecordingError(
                    f"topic {channel.topic} has the schema {channel.schema_id}, which was never declared"
                )
            self._schemas[channel.schema_id] = self.writer.register_schema(schema.name, schema.encoding, schema.data)
        self._channels[number] = self.writer.register_channel(
            channel.topic, channel.message_encoding, self._schemas[channel.schema_id], channel.metadata
        )


def _copying(writer: Any) -> Callable[[int, bytes], None]:
    """What `MessageScan.aside` calls: writes each metadata record and attachment."""

    def copy(opcode: int, body: bytes) -> None:
        if opcode == Opcode.METADATA:
            record = parsed(Metadata, body)
            writer.add_metadata(record.name, record.metadata)
            return
        found = parsed(Attachment, body)
        crc = int.from_bytes(body[-4:], "little")
        if crc and crc != zlib.crc32(body[:-4]):
            raise RecordingError(f"the checksum of the attachment {found.name!r} is wrong")
        writer.add_attachment(found.create_time, found.log_time, found.name, found.media_type, found.data)

    return copy
