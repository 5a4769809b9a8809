"""Files of a ROS 2 bag that are compressed with zstd as wholes, unpacked onto the disk within bounds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

from fusion.errors import RecordingError
from fusion.recording.compression import MAX_WINDOW_BYTES

_MAX_BYTES = 1 << 40
_LEFT_FREE_BYTES = 1 << 28
"""What is never taken of the disk."""
_READ_BYTES = 1 << 12
"""A zstd block of 4 bytes unpacks to 128 KiB: so many bytes to 128 MiB at most."""


def unpack_file(file: Path, out: Path, *, salvage: bool = False) -> str:
    """Unpack `file` as `out`, and say what is wrong; "" for nothing.

    With `salvage` a file that is cut off or damaged is unpacked up to there, otherwise it is an error, as is one that
    unpacks to more than fits. Raises `RecordingError` naming `file`.
    """
    try:
        most = min(_MAX_BYTES, shutil.disk_usage(out.parent).free - _LEFT_FREE_BYTES)
        with file.open("rb") as packed, out.open("wb") as plain:
            try:
                for data in _unpacked(packed):
                    if plain.tell() + len(data) > most:
                        raise RecordingError(
                            f"{file}: unpacks to more than the {max(0, most)} bytes that {out.parent} has for it; "
                            "TMPDIR names another folder"
                        )
                    plain.write(data)
            except (zstandard.ZstdError, EOFError) as error:
                sound = plain.tell()
                what = f"{file}: zstd cannot unpack it behind byte {sound} of its content ({error})"
                if not (salvage and sound):
                    raise RecordingError(what + ("; salvage reads what is before it" if sound else "")) from None
                return f"{what}; left out"
    except OSError as error:
        raise RecordingError(f"{file}: cannot be unpacked to {out} ({error.strerror})") from None
    return ""


@contextmanager
def naming(file: Path, plain: Path) -> Iterator[None]:
    """Errors of `plain` become errors of `file`, of which it was unpacked."""
    try:
        yield
    except RecordingError as error:
        if plain == file:
            raise
        raise RecordingError(str(error).replace(str(plain), str(file))) from None


def _unpacked(packed: BinaryIO) -> Iterator[bytes]:
    """The content of one frame after the other; raises `EOFError` where the file ends inside one."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    frame = decompressor.decompressobj()
    ended = False
    while data := packed.read(_READ_BYTES):
        while data:
            if ended:
                frame, ended = decompressor.decompressobj(), False
            yield frame.decompress(data)
            ended, data = frame.eof, frame.unused_data if frame.eof else b""
    if not ended:
        raise EOFError("it ends inside a frame")
