"""Records of a ROS 1 bag, format 2.0 (http://wiki.ros.org/Bags/Format/2.0), taken apart within stated bounds."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from io import BytesIO
from typing import BinaryIO

from fusion.errors import RecordingError
from fusion.recording.compression import unpack

MAGIC = b"#ROSBAG V2.0\n"
MAX_RECORD_BYTES = 256 << 20
MAX_CHUNK_RECORDS = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 20
_U32 = struct.Struct("<I")


class Op(IntEnum):
    """What a record is."""

    MESSAGE = 0x02
    BAG_HEADER = 0x03
    INDEX = 0x04
    CHUNK = 0x05
    CHUNK_INFO = 0x06
    CONNECTION = 0x07


class RecordStream:
    """Exact reads of records from a file, or from the bytes of a chunk."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    @classmethod
    def of_bytes(cls, data: bytes) -> RecordStream:
        """The records packed in `data`."""
        return cls(BytesIO(data), len(data))

    @property
    def at(self) -> int:
        """The byte that is read next."""
        return self.file.tell()

    @property
    def ended(self) -> bool:
        """Whether everything was read."""
        return self.at >= self.size

    def head(self) -> tuple[dict[str, bytes], int]:
        """Fields of the next record, and the length of the data that follow."""
        length = self._length(_MAX_HEADER_BYTES, "a record's header")
        fields = dict(header_fields(self._exactly(length)))
        return fields, self._length(MAX_RECORD_BYTES, "a record")

    def body(self, length: int) -> bytes:
        """The data of the record whose head was read."""
        return self._exactly(length)

    def skip(self, length: int) -> None:
        """Pass over the data of the record whose head was read."""
        if length > self.size - self.at:
            raise RecordingError("it ends inside a record")
        self.file.seek(length, 1)

    def _length(self, most: int, what: str) -> int:
        (length,) = _U32.unpack(self._exactly(_U32.size))
        if length > most:
            raise RecordingError(f"{what} that claims {length} bytes; at most {most} are read")
        return int(length)

    def _exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) != size:
            raise RecordingError("it ends inside a record")
        return data


def header_fields(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and values of a header; raises `RecordingError` where it is malformed."""
    at = 0
    while at < len(data):
        if at + _U32.size > len(data):
            raise RecordingError("a record's header ends inside a field")
        (length,) = _U32.unpack_from(data, at)
        at += _U32.size
        field = data[at : at + length]
        name, equals, value = field.partition(b"=")
        if len(field) != length or not equals:
            raise RecordingError("a record's header has a malformed field")
        yield name.decode("ascii", "replace"), value
        at += length


def number(fields: dict[str, bytes], name: str, layout: str) -> int:
    """A number of a header by `struct` layout; raises `RecordingError` when it is missing or of another size."""
    value = fields.get(name)
    if value is None or len(value) != struct.calcsize(layout):
        raise RecordingError(f"a record without a sound field '{name}'")
    return int(struct.unpack(layout, value)[0])


def text(fields: dict[str, bytes], name: str) -> str:
    """A text of a header; raises `RecordingError` when it is missing or no text."""
    value = fields.get(name)
    try:
        if value is None or len(value) > _MAX_TEXT_BYTES:
            raise RecordingError(f"a record without a sound field '{name}'")
        return value.decode()
    except UnicodeDecodeError:
        raise RecordingError(f"a record whose field '{name}' is no text") from None


def time_ns(fields: dict[str, bytes], name: str) -> int:
    """A time of a header in nanoseconds: seconds and nanoseconds, 32 bits each."""
    packed = number(fields, name, "<Q")
    return (packed & 0xFFFFFFFF) * 1_000_000_000 + (packed >> 32)


def unpack_chunk(fields: dict[str, bytes], data: bytes) -> bytes:
    """The records of a chunk; raises `RecordingError` when they are not as long as it declares."""
    size = number(fields, "size", "<I")
    if size > MAX_RECORD_BYTES:
        raise RecordingError(f"a chunk that claims {size} bytes; at most {MAX_RECORD_BYTES} are unpacked")
    unpacked = unpack(text(fields, "compression"), data, size)
    if len(unpacked) != size:
        raise RecordingError(f"a chunk that declares {size} bytes unpacks to {len(unpacked)}")
    return unpacked
