"""Where the sound of a WAV file lies, and whether its writer ever closed it.

Layouts: RIFF and RIFX (Microsoft, "Multimedia Programming Interface and Data Specifications 1.0"), RF64 (EBU Tech
3306).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from fusion.recording.native.stream import opened

OPEN_ENDED = 0xFFFF_FFFF
"""The length that writers give who cannot know it: up to the end of the file."""
_KINDS = {b"RIFF", b"RIFX", b"RF64"}
_TAG = b"TAG"
"""How an ID3v1 tag begins, which lies behind all chunks."""


@dataclass(frozen=True, slots=True)
class SoundPlace:
    """The chunk `data`: its first byte, its length (None: up to the end), and where and how that length is written."""

    start: int
    length: int | None
    field_offset: int
    field_bytes: int
    order: Literal["little", "big"]


@dataclass(frozen=True, slots=True)
class Unclosed:
    """Sound behind the end that the header gives: lengths in bytes, told and there, and how to write the latter."""

    told: int
    there: int
    field_offset: int
    field: bytes


def find_sound(file: BinaryIO) -> SoundPlace | None:
    """The chunk `data` of an open WAV file; None for anything else and for a file without one."""
    file.seek(0)
    head = file.read(12)
    if head[:4] not in _KINDS or head[8:] != b"WAVE":
        return None
    order: Literal["little", "big"] = "big" if head[:4] == b"RIFX" else "little"
    wide, wide_offset = None, 0
    while len(chunk := file.read(8)) == 8:
        name, length, start = chunk[:4], int.from_bytes(chunk[4:], order), file.tell()
        if name == b"ds64" and len(sizes := file.read(16)) == 16:
            wide, wide_offset = int.from_bytes(sizes[8:], "little"), start + 8
        if name == b"data" and length == OPEN_ENDED and wide is not None:
            return SoundPlace(start, wide, wide_offset, 8, "little")
        if name == b"data":
            return SoundPlace(start, None if length == OPEN_ENDED else length, start - 4, 4, order)
        file.seek(start + length + length % 2)
    return None


def unclosed(path: Path) -> Unclosed | None:
    """What a WAV file holds behind its chunk `data` if that is no further chunk; None for all other files.

    That is how a recorder leaves a file which it could not close: the length is 0, or that of an earlier moment.
    Raises `RecordingError` when the file cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        place = find_sound(file)
        if place is None or place.length is None:
            return None
        ends = {place.start + place.length, place.start + place.length + place.length % 2}
        if any(size - end < 8 or _is_chunk(file, end, size, place.order) for end in ends):
            return None
    there = size - place.start
    fits = there < 1 << 8 * place.field_bytes
    field = (there if fits else OPEN_ENDED).to_bytes(place.field_bytes, place.order)
    return Unclosed(place.length, there, place.field_offset, field)


def _is_chunk(file: BinaryIO, offset: int, size: int, order: Literal["little", "big"]) -> bool:
    """Whether a chunk lies there: a name of printable letters, and a length within the file."""
    file.seek(offset)
    head = file.read(8)
    named = all(0x20 <= letter < 0x7F for letter in head[:4])
    return head[:3] == _TAG or (named and offset + 8 + int.from_bytes(head[4:], order) <= size)
