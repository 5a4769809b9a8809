"""Records and chunks of an MCAP file, taken apart within stated bounds (format: https://mcap.dev/spec).

The `mcap` package parses single records here. Its own readers are not used: they trust declared sizes,
decompress without a bound, and give nothing at all of a file that lacks its end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError

from fusion.errors import RecordingError
from fusion.recording.compression import unpack

MAX_RECORD_BYTES = 64 << 20
MAX_CHUNK_BYTES = 64 << 20
MAX_CHUNK_RECORDS = 1 << 18
"""A chunk of 64 MB can be 7 million empty records, and seconds of work; no recorder writes so many."""
_METHODS = ("", "zstd", "lz4")
FRAME = struct.Struct("<BQ")
"""What stands before each record: opcode and length of the body."""


def parsed(kind: Any, body: bytes) -> Any:
    """A record of the `mcap.records` class `kind`; raises `RecordingError` when the body is malformed."""
    try:
        return kind.read(ReadDataStream(BytesIO(body)))
    except (McapError, struct.error, ValueError, OverflowError) as error:
        raise RecordingError(f"a malformed {kind.__name__} record ({type(error).__name__})") from None


def split_records(data: memoryview, limit: int | None = None) -> Iterator[tuple[int, memoryview]]:
    """Opcodes and bodies of the records packed in `data`. Raises `RecordingError` unless they fill it exactly."""
    at = count = 0
    while at < len(data):
        if len(data) - at < FRAME.size:
            raise RecordingError(f"{len(data) - at} stray bytes after the last record of a chunk")
        opcode, length = FRAME.unpack_from(data, at)
        at += FRAME.size
        if opcode == 0 or length > len(data) - at:
            raise RecordingError(f"a record inside a chunk has opcode {opcode} and claims {length} bytes")
        count += 1
        if limit is not None and count > limit:
            raise RecordingError(f"a chunk holds more than {limit} records")
        yield opcode, data[at : at + length]
        at += length


def unpack_chunk(chunk: Any) -> bytes:
    """The decompressed bytes of an `mcap.records.Chunk`.

    The declared size is checked before anything is decompressed and never exceeded while it is, and the
    chunk's CRC-32 (0: none) is verified. Raises `RecordingError`.
    """
    size = chunk.uncompressed_size
    if size > MAX_CHUNK_BYTES:
        raise RecordingError(f"a chunk that claims {size} bytes; at most {MAX_CHUNK_BYTES} are unpacked")
    if chunk.compression not in _METHODS:
        raise RecordingError(f"a chunk compressed with {chunk.compression!r}; zstd, lz4 and none are known")
    data = unpack(chunk.compression, chunk.data, size)
    if len(data) != size:
        raise RecordingError(f"a chunk that declares {size} bytes unpacks to {len(data)} or more")
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise RecordingError("a chunk's checksum is wrong")
    return data
