"""Writes an MCAP file of messages in several encodings, with memory bounded by one chunk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcap.writer import CompressionType, Writer

from fusion.recording.native.schemas import ENCODING, descriptor_set, stamp
from fusion.recording.native.stream import RawMessage
from fusion.recording.native.writer import CHUNK_BYTES
from fusion.recording.part_file import part_file


class TopicWriter(AbstractContextManager["TopicWriter"]):
    """An MCAP file in the making: it appears under its name when the block ends well, and not at all otherwise.

    Times are integer nanoseconds; messages are stored in the order of the calls. `profile` is the header's. Raises
    `InputError` for a time that cannot be stored, `RecordingError` for a disk that refuses.
    """

    def __init__(self, path: Path, profile: str = "") -> None:
        self._path, self._profile = path, profile
        self._schemas: dict[tuple[str, str, bytes], int] = {}
        self._channels: dict[str, int] = {}
        self._copied: dict[int, int] = {}
        self._count = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        file = self._stack.enter_context(part_file(self._path))
        self._writer: Any = Writer(
            file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD, enable_crcs=True, enable_data_crcs=True
        )
        self._writer.start(profile=self._profile, library="fusion-stack")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._writer.finish()

    def copy(self, message: RawMessage, channel: Any, schema: Any | None) -> None:
        """A message of another file, byte for byte, with its `mcap.records` channel and schema there."""
        if message.channel not in self._copied:
            number = self._schema(schema.name, schema.encoding, schema.data) if schema else 0
            self._copied[message.channel] = self._writer.register_channel(
                channel.topic, channel.message_encoding, number, dict(channel.metadata)
            )
        self._writer.add_message(
            self._copied[message.channel],
            message.time_ns,
            bytes(message.data),
            message.publish_ns,
            sequence=message.sequence,
        )

    def proto(self, topic: str, log_ns: int, message: Any) -> None:
        """A message of a Foxglove class."""
        kind = type(message)
        if topic not in self._channels:
            number = self._schema(kind.DESCRIPTOR.full_name, ENCODING, descriptor_set(kind))
            self._channels[topic] = self._writer.register_channel(topic, ENCODING, number)
        self._add(topic, log_ns, message.SerializeToString(deterministic=True))

    def json(self, topic: str, log_ns: int, value: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
        """A JSON object, described by a JSON schema whose `title` names it."""
        if topic not in self._channels:
            number = self._schema(str(schema["title"]), "jsonschema", json.dumps(schema).encode())
            self._channels[topic] = self._writer.register_channel(topic, "json", number)
        self._add(topic, log_ns, json.dumps(value, separators=(",", ":")).encode())

    def metadata(self, name: str, content: Mapping[str, str]) -> None:
        """A metadata record."""
        self._writer.add_metadata(name, dict(content))

    def _add(self, topic: str, log_ns: int, data: bytes) -> None:
        stamp(log_ns)
        self._count += 1
        self._writer.add_message(self._channels[topic], log_ns, data, log_ns, sequence=self._count & 0xFFFFFFFF)

    def _schema(self, name: str, encoding: str, data: bytes) -> int:
        key = (name, encoding, data)
        if key not in self._schemas:
            self._schemas[key] = self._writer.register_schema(name, encoding, data)
        return self._schemas[key]
