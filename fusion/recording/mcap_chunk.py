"""Records and chunks of an MCAP file, taken apart within stated bounds (format: https://mcap.dev/spec).

The `mcap` package parses single records here. Its own readers are not used: they trust declared sizes,
decompress without a bound, and give nothing at all of a file that lacks its end.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError

from fusion.errors import RecordingError

MAX_RECORD_BYTES = 64 << 20
MAX_CHUNK_BYTES = 64 << 20
MAX_CHUNK_RECORDS = 1 << 18
"""A chunk of 64 MB can be 7 million empty records, and seconds of work; no recorder writes so many."""
FRAME = struct.Struct("<BQ")
"""What stands before each record: opcode and length of the body."""


def parsed(kind: Any, body: bytes) -> Any:
    """A record of the `mcap.records` class `kind`; raises `RecordingError` when the body is malformed."""
    try:
        return kind.read(ReadDataStream(BytesIO(body)))
    except (McapError, struct.error, ValueError) as error:
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
    if chunk.compression not in _UNPACK:
        raise RecordingError(f"a chunk compressed with {chunk.compression!r}; zstd, lz4 and none are known")
    data = _UNPACK[chunk.compression](chunk.data, size)
    if len(data) != size:
        raise RecordingError(f"a chunk that declares {size} bytes unpacks to {len(data)} or more")
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise RecordingError("a chunk's checksum is wrong")
    return data


def _plain(data: bytes, _size: int) -> bytes:
    return data


def _zstd(data: bytes, size: int) -> bytes:
    # `decompress(max_output_size=)` ignores its bound when the frame declares a size; a stream does not.
    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_CHUNK_BYTES).stream_reader(data) as stream:
            return stream.read(size + 1)
    except zstandard.ZstdError as error:
        raise RecordingError(f"a chunk that zstd cannot unpack ({error})") from None


def _lz4(data: bytes, size: int) -> bytes:
    frame = importlib.import_module("lz4.frame")  # comes with mcap
    try:
        return bytes(frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    except RuntimeError as error:
        raise RecordingError(f"a chunk that lz4 cannot unpack ({error})") from None


_UNPACK = {"": _plain, "zstd": _zstd, "lz4": _lz4}
