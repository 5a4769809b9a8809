"""What recordings are compressed with, unpacked within a stated bound."""

from __future__ import annotations

import bz2
import importlib

import zstandard

from fusion.errors import RecordingError

MAX_WINDOW_BYTES = 64 << 20
"""The most memory a zstd frame may ask for."""


def unpack(method: str, data: bytes, size: int) -> bytes:
    """`data` unpacked by `method` (zstd, lz4, bz2 or none), at most `size` + 1 bytes of it.

    Whoever calls compares the length with the declared one. Raises `RecordingError` for data of another kind.
    """
    if method not in _UNPACK:
        raise RecordingError(
            f"a chunk compressed with {method!r}; {', '.join(sorted(filter(None, _UNPACK)))} are known"
        )
    return _UNPACK[method](data, size)


def _plain(data: bytes, _size: int) -> bytes:
    return data


def _zstd(data: bytes, size: int) -> bytes:
    # `decompress(max_output_size=)` ignores its bound when the frame declares a size; a stream does not.
    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(data) as stream:
            return stream.read(size + 1)
    except zstandard.ZstdError as error:
        raise RecordingError(f"a chunk that zstd cannot unpack ({error})") from None


def _lz4(data: bytes, size: int) -> bytes:
    frame = importlib.import_module("lz4.frame")  # comes with mcap
    try:
        return bytes(frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    except RuntimeError as error:
        raise RecordingError(f"a chunk that lz4 cannot unpack ({error})") from None


def _bz2(data: bytes, size: int) -> bytes:
    try:
        return bz2.BZ2Decompressor().decompress(data, max_length=size + 1)
    except (OSError, EOFError, ValueError) as error:
        raise RecordingError(f"a chunk that bz2 cannot unpack ({error})") from None


_UNPACK = {"": _plain, "none": _plain, "zstd": _zstd, "lz4": _lz4, "bz2": _bz2}
