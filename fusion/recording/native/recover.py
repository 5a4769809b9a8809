"""What is sound in a damaged MCAP file, copied into a whole one."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.opcode import Opcode
from mcap.records import Attachment, Metadata
from mcap.writer import CompressionType, Writer

from fusion.errors import RecordingError
from fusion.recording.damage import DamageLog
from fusion.recording.native.chunk import parsed
from fusion.recording.native.index import profile_of, scan_past_damage
from fusion.recording.native.stream import MessageScan
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

    All topics are kept, readable or not, with times and sequence numbers; so are metadata, attachments of at most
    `MAX_RECORD_BYTES` and the profile. Raises `RecordingError` when nothing is sound.
    """
    if source.resolve() == out.resolve():
        raise RecordingError(f"{out}: is the damaged recording itself; give another name")
    log, kept = DamageLog(), 0
    scan = scan_past_damage(source, log)
    schemas: dict[int, int] = {0: 0}
    channels: dict[int, int] = {}
    with part_file(out) as file:
        writer: Any = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD, enable_data_crcs=True)
        writer.start(profile=profile_of(source) or "", library="fusion-stack")
        scan.aside = _copying(writer)
        try:
            for message in scan.messages():
                if message.channel not in channels:
                    channels[message.channel] = _register(writer, scan, message.channel, schemas)
                channel, data = channels[message.channel], bytes(message.data)
                writer.add_message(channel, message.time_ns, data, message.publish_ns, sequence=message.sequence)
                kept += 1
        except RecordingError as error:
            log.add(str(error).partition("; '")[0])
        damage = str(log).replace(f"{source}: ", "")
        if not kept:
            raise RecordingError(f"{source}: nothing in it can be recovered: {damage or 'it has no messages'}")
        writer.finish()
    return Recovery(out, kept, damage)


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


def _register(writer: Any, scan: MessageScan, number: int, schemas: dict[int, int]) -> int:
    channel = scan.channels[number]
    if channel.schema_id not in schemas:
        schema = scan.schemas.get(channel.schema_id)
        if schema is None:
            raise RecordingError(f"topic {channel.topic} has the schema {channel.schema_id}, which was never declared")
        schemas[channel.schema_id] = writer.register_schema(schema.name, schema.encoding, schema.data)
    return int(
        writer.register_channel(channel.topic, channel.message_encoding, schemas[channel.schema_id], channel.metadata)
    )
