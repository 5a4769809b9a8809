"""Pages of an Ogg file (RFC 3533): whether each is whole and the last one is there."""

from __future__ import annotations

import zlib
from pathlib import Path

from fusion.recording.native.stream import opened

MAGIC = b"OggS"
_HEADER = 27
_LAST = 0x04
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def damaged_at(path: Path) -> int | None:
    """The byte at which a page is missing, cut short or altered; None for a sound file. Raises `RecordingError`."""
    with opened(path) as file:
        offset, flags = 0, 0
        while header := file.read(_HEADER):
            if len(header) < _HEADER or header[:4] != MAGIC:
                return offset
            table = file.read(header[26])
            body = file.read(sum(table))
            if len(table) < header[26] or len(body) < sum(table) or _checksum(header, table + body) != header[22:26]:
                return offset
            offset, flags = offset + _HEADER + len(table) + len(body), header[5]
    return None if flags & _LAST else offset


def _checksum(header: bytes, rest: bytes) -> bytes:
    """Ogg's CRC-32: the usual polynomial with the bits the other way round, from 0, its own field taken as 0."""
    data = (header[:22] + bytes(4) + header[26:] + rest).translate(_REVERSED)
    value = zlib.crc32(data, 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{value:032b}"[::-1], 2).to_bytes(4, "little")
